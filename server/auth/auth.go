// Package auth finds out who calls, from a signed token (a JWT) that comes with
// the request: as `Authorization: Bearer`, or in a cookie. Its Authenticate is for
// server.Config.Authenticate.
//
//	who, err := auth.New(auth.Config{Issuers: []string{"https://id.example.com"}, Audiences: []string{"tasks"}})
//	node, err := server.New(server.Config{Authenticate: who.Authenticate, …})
//	err = who.Run(ctx) // fetches keys, until ctx ends
//
// # What is accepted
//
// A token in the compact form, signed by a key of whoever its `iss` names, by an
// algorithm of that key's type; with `sub`, an `exp` that has not passed and an
// `aud` that is ours; of type `JWT`, `at+jwt` (RFC 9068) or none. Where a key comes
// from is our configuration alone: what a token says of it (`jku`, `x5u`, `jwk`) is
// not looked at, and `kid` is compared and nothing else. Extensions that have to be
// understood (`crit`) aren't, encrypted tokens neither.
//
// # What is told
//
// Errors are *connect.Errors around an *Error, in fixed words: no part of a token,
// nor of a library's error, is in an error, a log or a metric.
package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/internal/lru"
	"github.com/freshet-dev/freshet/server/intercept"
)

// MaxTokenBytes is the length of the longest token that is looked at.
const MaxTokenBytes = 16 << 10

// Config of an Authenticator. One of Issuers and KeyFile is required, or both.
type Config struct {
	// Issuers are OpenID Connect providers, as tokens name them in `iss`:
	// https://id.example.com. Their keys come from where their discovery document
	// says. Plain http is for loopback alone.
	Issuers []string
	// KeyFile holds public keys, PEM or a JWKS (which may hold secrets for HS256 and
	// its like, too), of whoever else issues tokens. It is read again when it changes.
	KeyFile string
	// Audiences are our names in `aud`: a token has to be for one of them. Required,
	// so that no token for somebody else is good here.
	Audiences []string
	// Cookie is the name of a cookie that may hold the token, for browsers, which
	// send no header with EventSource or a page. Set it HttpOnly, Secure and
	// SameSite. Requests by cookie that may change something have to come from
	// our own origin. Empty: none is looked at.
	Cookie string
	// Anonymous lets those call who send no token at all, as the zero Principal. A
	// bad token is refused all the same.
	Anonymous bool
	// Caller says whose request it is, for MaxFailuresPerCaller: an address, say. It is
	// asked by many at once. Nil: nobody's, and there is no such bound.
	Caller func(*http.Request) string
	// MaxFailuresPerCaller bounds how many tokens of one caller may turn out bad in a
	// second, after ten times as many at once. Above it none is looked into that isn't
	// known to be good, unless it names a principal who has had a good one here. Requests
	// without a token don't count. Zero: 100, which takes about 1 % of a CPU; below: no
	// bound.
	MaxFailuresPerCaller int
	// ClockSkew is how far an issuer's clock may be off. Zero: 30 s; below: none.
	ClockSkew time.Duration

	// Transport reaches issuers. Nil: net/http's, with deadlines.
	Transport http.RoundTripper
	// Logger; nil: slog.Default().
	Logger *slog.Logger
	// Registerer gets the metrics (freshet_auth_…). Nil: nobody counts.
	Registerer prometheus.Registerer
}

// Defaults returns what the zero values stand for.
func Defaults() Config { return Config{MaxFailuresPerCaller: 100, ClockSkew: 30 * time.Second} }

// mostFailures is how many a second are no bound any more.
const mostFailures = 1_000_000

// Authenticator tells who calls. Use New. All methods are safe for concurrent use.
type Authenticator struct {
	cfg     Config
	issuers map[string]*issuer // by `iss`
	file    *file              // nil: none
	// kept is by digest, so that no token is in memory longer than its request.
	kept     *lru.Cache[[sha256.Size]byte, verified]
	failures failures
	now      func() time.Time
	cross    *http.CrossOriginProtection
}

// New returns an Authenticator. It reads KeyFile, which has to be right; issuers
// are asked by Run.
func New(cfg Config) (*Authenticator, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	switch {
	case cfg.ClockSkew == 0:
		cfg.ClockSkew = Defaults().ClockSkew
	case cfg.ClockSkew < 0:
		cfg.ClockSkew = 0
	}
	if cfg.MaxFailuresPerCaller == 0 {
		cfg.MaxFailuresPerCaller = Defaults().MaxFailuresPerCaller
	}
	if err := cfg.check(); err != nil {
		return nil, &ConfigError{err}
	}
	a := &Authenticator{cfg: cfg, failures: newFailures(cfg.MaxFailuresPerCaller), issuers: map[string]*issuer{}, kept: lru.New[[sha256.Size]byte, verified](keptBytes), now: time.Now, cross: http.NewCrossOriginProtection()}
	for _, name := range cfg.Issuers {
		a.issuers[name] = newIssuer(name, cfg.Transport, cfg.Logger)
	}
	if cfg.KeyFile != "" {
		var err error
		if a.file, err = openFile(cfg.KeyFile, cfg.Logger); err != nil {
			return nil, err
		}
	}
	return a, a.register(cfg.Registerer)
}

// ConfigError says what is wrong with a Config itself, whatever is in the files that it
// names.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ConfigError) Unwrap() error { return e.Err }

// check says what is wrong with the values of c. It opens nothing.
func (c Config) check() error {
	if c.MaxFailuresPerCaller > mostFailures {
		return fmt.Errorf("%d bad tokens in a second are no bound: want %d at most", c.MaxFailuresPerCaller, mostFailures)
	}
	if len(c.Issuers) == 0 && c.KeyFile == "" {
		return errors.New("nobody issues tokens: name an issuer, or a file of keys")
	}
	if len(c.Audiences) == 0 || slices.Contains(c.Audiences, "") {
		return errors.New("no audience: say what a token's `aud` has to be, or tokens for others would be good here")
	}
	if c.Cookie != "" && !isToken(c.Cookie) {
		return fmt.Errorf("%q can't be the name of a cookie", c.Cookie)
	}
	for _, name := range c.Issuers {
		if err := checkIssuer(name); err != nil {
			return err
		}
	}
	return nil
}

// discovery is where an issuer's settings are, below its name (OpenID Connect
// Discovery 1.0, section 4).
const discovery = "/.well-known/openid-configuration"

func checkIssuer(name string) error {
	u, err := url.Parse(name)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return fmt.Errorf("issuer %q: want a URL such as https://id.example.com", name)
	case strings.HasSuffix(u.Path, discovery):
		return fmt.Errorf("issuer %q: leave %s out: that is where its settings are, below its name", name, discovery)
	case u.Scheme == "https", u.Scheme == "http" && IsLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("issuer %q: want https: whoever sits on the way could bring keys of their own", name)
}

// Run keeps keys fresh until ctx ends, and returns nil then. Without it no
// issuer's keys are known.
func (a *Authenticator) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, i := range a.issuers {
		group.Go(func() error { i.run(ctx); return nil })
	}
	if a.file != nil {
		group.Go(func() error { return a.file.Run(ctx) })
	}
	<-ctx.Done()
	return group.Wait()
}

// Reload reads the file of keys at once, as SIGHUP asks for. The error, which is
// logged too, says why it can't be used: then those of before count. Without a file
// there is nothing to do.
func (a *Authenticator) Reload(ctx context.Context) error {
	if a.file == nil {
		return nil
	}
	return a.file.Reload(ctx)
}

// Authenticate says who sent r. The error is a *connect.Error around an *Error:
// `unauthenticated`, with a challenge as of RFC 6750 for those who speak HTTP;
// `invalid_argument` for a request with more than one credential;
// `permission_denied` for one that another site made by our cookie; `unavailable`
// while keys that would tell can't be fetched; `resource_exhausted` for a token that
// isn't looked into, since too many of its caller's were bad.
func (a *Authenticator) Authenticate(r *http.Request) (intercept.Principal, error) {
	p, err := a.authenticate(r)
	if err == nil {
		return p, nil
	}
	var known *Error
	if !errors.As(err, &known) {
		known = errMalformed // nothing else comes here; its text stays here
	}
	return intercept.Principal{}, known.connect()
}

func (a *Authenticator) authenticate(r *http.Request) (intercept.Principal, error) {
	token, byCookie, err := credential(r, a.cfg.Cookie)
	switch {
	case err != nil:
		return intercept.Principal{}, err
	case token == "" && a.cfg.Anonymous:
		return intercept.Principal{}, nil
	case token == "":
		return intercept.Principal{}, errNone
	case byCookie && a.cross.Check(r) != nil:
		return intercept.Principal{}, errCrossOrigin
	}
	return a.verify(r, token)
}

// source is where keys come from.
type source interface {
	// find returns the keys that a token may be signed with, and the set that they
	// are of. It may wait for a fetch.
	find(ctx context.Context, kid, alg string) ([]key, *keySet, error)
	// current returns the set as it is now; nil: there is none.
	current() *keySet
}

// sourceOf returns whose keys count for an issuer: its own alone, if it is one
// that we know.
func (a *Authenticator) sourceOf(iss string) source {
	if i := a.issuers[iss]; i != nil {
		return i
	}
	if a.file != nil {
		return a.file
	}
	return nil
}

// isToken reports whether name can be a cookie's (RFC 9110 section 5.6.2).
func isToken(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
}

// IsLoopback reports whether host, a name or an address without a port, is this
// machine and nobody else reaches it there.
func IsLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
