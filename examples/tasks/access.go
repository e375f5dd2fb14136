package main

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet/server"
)

// authenticate takes a token that says who calls, `acme:ada`: a real service has its
// issuer sign it (package server/auth).
func authenticate(r *http.Request) (server.Principal, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	tenant, user, colon := strings.Cut(token, ":")
	if !ok || !colon || tenant == "" || user == "" {
		return server.Principal{}, connect.NewError(connect.CodeUnauthenticated, errors.New("a token is needed"))
	}
	return server.Principal{Issuer: "tasks", Subject: user, Claims: map[string]any{"sub": user, "tenant": tenant}}, nil
}

// authorize lets callers have the topics of their tenant.
func authorize(_ context.Context, who server.Principal, _ server.Action, topics []string) error {
	tenant, _ := who.Claims["tenant"].(string)
	for _, topic := range topics {
		if !strings.HasPrefix(topic, "tenants/"+tenant+"/") {
			return server.ErrDenied
		}
	}
	return nil
}
