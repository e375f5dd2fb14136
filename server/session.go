package server

import (
	"context"
	"fmt"
	"maps"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/store"
)

// Session says who a call's statements run as: with the caller's claims, and as the
// role that Config.DBRoleClaim asks for. DB sets it in each transaction. A service
// with a pool of its own does so itself, by the session's Statement, first in each
// transaction of a call whose tables have row security. Nil: as the connection's role,
// with no claims. The error is store.ErrDenied for a caller who has no role.
func (n *Node) Session(ctx context.Context) (*store.Session, error) {
	return sessions(n.cfg.DBRoleClaim, n.cfg.DBAnonymousRole)(ctx)
}

// sessions says who a call's statements run as, for row security: with the caller's
// claims, and with roleClaim as the role that this claim names, or else anonymous.
//
// What no caller has asked for (a service's own work in the background), what nobody
// authenticates, and a `shared` read, which is everybody's, runs as the pool's role
// with no claims. But for a shared read an RPC of an unknown caller is refused where
// roles are asked for.
func sessions(roleClaim, anonymous string) func(context.Context) (*store.Session, error) {
	return func(ctx context.Context) (*store.Session, error) {
		who, known := intercept.Known(ctx)
		if !known {
			_, called := connect.CallInfoForHandlerContext(ctx)
			if roleClaim != "" && called && !intercept.IsEverybodys(ctx) {
				return nil, fmt.Errorf("%w: nothing authenticates callers here, so nobody knows their role", store.ErrDenied)
			}
			return nil, nil //nolint:nilnil // nobody's
		}
		return sessionOf(who, roleClaim, anonymous)
	}
}

func sessionOf(who Principal, roleClaim, anonymous string) (*store.Session, error) {
	s := new(store.Session)
	if roleClaim != "" {
		role, there := who.Claims[roleClaim]
		if !there && anonymous != "" {
			// As PostgREST has it, who names no role has the anonymous one, and its claims
			// say so.
			role = anonymous
			claims := maps.Clone(who.Claims)
			if claims == nil {
				claims = make(map[string]any)
			}
			claims[roleClaim] = role
			who = Principal{Issuer: who.Issuer, Subject: who.Subject, Claims: claims}
		}
		var ok bool
		if s.Role, ok = role.(string); !ok || s.Role == "" || s.Role == "none" {
			return nil, fmt.Errorf("%w: the caller's claim %q names no role: %v", store.ErrDenied, roleClaim, role)
		}
	}
	var err error
	s.Claims, err = who.JSON()
	return s, err
}
