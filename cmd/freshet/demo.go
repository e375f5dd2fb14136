package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"github.com/freshet-dev/freshet/internal/front"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/server/messages/demo"
	"github.com/freshet-dev/freshet/web"
)

// demoAuth is the issuer of --demo-auth; nil: there is none.
type demoAuth struct {
	issuer *demo.Issuer
	opened chan struct{} // closed when the ports are open
}

// demo is what the flags say to package demo.
func (c *serveCmd) demo() demo.Config {
	return demo.Config{Addr: c.Addr, KeyFile: filepath.Join(c.DataDir, "demo-key.json"), Life: c.DemoTokenLife}
}

// checkDemo says what is wrong with --demo-auth, and with what is given beside it. It
// opens and makes nothing. If nothing is, it sets the flags by which the server would be
// told of any other issuer.
func (c *serveCmd) checkDemo() error {
	if !c.DemoAuth {
		return nil
	}
	if len(c.OIDCIssuer)+len(c.JWTAudience) > 0 || c.JWTKeys != "" || c.AuthCookie != "" || c.AuthAnonymous {
		return errors.New("--demo-auth has an issuer, an audience and a cookie of its own: leave out --oidc-issuer, --jwt-keys, --jwt-audience, --auth-cookie and --auth-anonymous")
	}
	if len(c.Host)+len(c.TrustedProxy) > 0 {
		return errors.New("--demo-auth is for this machine, since its accounts have no passwords: leave out --host and --trusted-proxy")
	}
	if c.TLSCert != "" {
		return errors.New("--demo-auth speaks plain HTTP, on this machine: leave out --tls-cert and --tls-key")
	}
	cfg := c.demo()
	if err := cfg.Check(); err != nil {
		return fmt.Errorf("--demo-auth: %w", err)
	}
	c.OIDCIssuer, c.JWTAudience, c.AuthCookie = []string{cfg.Name()}, []string{demo.Audience}, demo.Cookie
	return nil
}

// openDemo makes the issuer of the demonstration. Nothing else of the server knows that
// it is one, but for who has signed out.
func (c *serveCmd) openDemo(ctx context.Context, logger *slog.Logger, onSignOut func()) (*demoAuth, error) {
	if err := c.checkDemo(); err != nil {
		return nil, &settingsError{err}
	}
	if !c.DemoAuth {
		return nil, nil
	}
	cfg := c.demo()
	cfg.OnSignOut = onSignOut
	issuer, err := demo.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("--demo-auth: %w", err)
	}
	if c.Grants == "" {
		c.Grants = filepath.Join(c.DataDir, "demo-grants.yaml")
		// What is there stays: a server that runs may go by it, with grants withdrawn.
		_, err := os.Stat(c.Grants)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.WriteFile(c.Grants, messages.Grants, 0o600)
		}
		if err != nil {
			return nil, fmt.Errorf("--demo-auth: write the grants: %w", err)
		}
	}
	logger.InfoContext(ctx, "demo accounts: whoever is at this machine can sign in as any of them",
		"accounts", "ada, bob, guest", "grants", c.Grants, "token_life", c.DemoTokenLife)
	return &demoAuth{issuer, make(chan struct{})}, nil
}

// serve has the front serve the issuer, and a page that signs in, to everybody.
func (d *demoAuth) serve(f *front.Config) {
	if d == nil {
		return
	}
	f.Page, f.PublicPage = web.Handler(demo.Path), true
	f.Public = map[string]http.Handler{demo.Path: d.issuer.Handler()}
	administer := f.Administer
	f.Administer = func(ctx context.Context, who server.Principal) error {
		if d.issuer.SignedOut(who.Claims) {
			return server.ErrDenied
		}
		return administer(ctx, who)
	}
}

// authorizing returns allowed, which denies those who have signed out: a token says
// nothing of that.
func (d *demoAuth) authorizing(allowed server.Authorize) server.Authorize {
	if d == nil {
		return allowed
	}
	return func(ctx context.Context, who server.Principal, action server.Action, topics []string) error {
		if d.issuer.SignedOut(who.Claims) {
			return server.ErrDenied
		}
		return allowed(ctx, who, action, topics)
	}
}

// preparing returns prepare, which is called once the ports are open, with the
// knowledge of that.
func (d *demoAuth) preparing(prepare func(context.Context) error) func(context.Context) error {
	if d == nil {
		return prepare
	}
	return func(ctx context.Context) error {
		close(d.opened)
		if prepare == nil {
			return nil
		}
		return prepare(ctx)
	}
}

// following returns run, which fetches the keys, for when they can be: they are
// behind our own port.
func (d *demoAuth) following(run func(context.Context) error) func(context.Context) error {
	if d == nil {
		return run
	}
	return func(ctx context.Context) error {
		select {
		case <-d.opened:
			return run(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}
