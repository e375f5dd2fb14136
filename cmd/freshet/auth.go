package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/server/auth"
)

// openAuth returns nil if nobody is asked who calls.
func (c *serveCmd) openAuth(logger *slog.Logger, registry prometheus.Registerer, caller func(*http.Request) string) (*auth.Authenticator, error) {
	if len(c.OIDCIssuer) == 0 && c.JWTKeys == "" {
		if len(c.JWTAudience) > 0 || c.AuthCookie != "" || c.AuthAnonymous {
			return nil, &auth.ConfigError{Err: errors.New("--jwt-audience, --auth-cookie and --auth-anonymous say how tokens are taken: say whose, by --oidc-issuer or --jwt-keys")}
		}
		return nil, nil
	}
	if len(c.JWTAudience) == 0 {
		return nil, &auth.ConfigError{Err: errors.New("--jwt-audience is missing: what a token's `aud` has to be, or tokens for others would be good here")}
	}
	who, err := auth.New(auth.Config{
		Issuers:              c.OIDCIssuer,
		KeyFile:              c.JWTKeys,
		Audiences:            c.JWTAudience,
		Cookie:               c.AuthCookie,
		Anonymous:            c.AuthAnonymous,
		Caller:               caller,
		MaxFailuresPerCaller: given(c.MaxAuthFailuresPerAddress),
		Logger:               logger,
		Registerer:           registry,
	})
	if err != nil {
		return nil, fmt.Errorf("who may call (--oidc-issuer, --jwt-keys, --auth-cookie, --max-auth-failures-per-address): %w", err)
	}
	return who, nil
}

// keepsOut reports whether there is anything that somebody may not who sends no
// token, or a wrong one.
func (c *serveCmd) keepsOut() bool {
	return (len(c.OIDCIssuer) > 0 || c.JWTKeys != "") && (!c.AuthAnonymous || c.Grants != "")
}
