// Package demo is the issuer behind `freshet serve --demo-auth`: three accounts of
// the message service and no passwords, to show what callers of different rights
// see. It is a small OpenID Connect provider, on the same port as what it signs in
// to; the server knows of it what it knows of any other issuer, its name, from which it
// fetches the keys, an audience, and a cookie, and asks it one thing more: which
// sessions somebody has signed out of.
//
// Whoever reaches the port can sign in as anybody, so it is for loopback alone.
package demo

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	// Path is below which the issuer is served.
	Path = "/demo/"
	// Audience is whom its tokens are for.
	Audience = "freshet"
	// Cookie holds the token in a browser.
	Cookie = "freshet_demo"
	// Life is how long a token is good, unless Config says otherwise: so short that
	// renewal is seen.
	Life = 5 * time.Minute
	// leastLife: `exp` is in whole seconds.
	leastLife = 2 * time.Second
)

// Config of an Issuer.
type Config struct {
	// Addr is what it is served on, loopback and not port 0: host:port. It is in
	// the issuer's name.
	Addr string
	// KeyFile keeps the key that tokens are signed with, so that a restart signs
	// nobody out. It is made if it isn't there, for nobody else to read.
	KeyFile string
	// Life of a token, two seconds to a day. Zero: Life.
	Life time.Duration
	// OnSignOut is called when somebody has signed out: from then on SignedOut says so
	// of the tokens of that session, and open streams are to be asked about again. It
	// must not block. Nil: nobody is told.
	OnSignOut func()
}

// Issuer signs tokens. Use New; it is safe for concurrent use.
type Issuer struct {
	name      string
	life      time.Duration
	key       *ecdsa.PrivateKey
	public    jose.JSONWebKey
	signer    jose.Signer
	onSignOut func()
	now       func() time.Time

	signedOut signedOut
}

// New returns an issuer with the key of the file, which it makes if there is none.
func New(cfg Config) (*Issuer, error) {
	cfg.Life = cmp.Or(cfg.Life, Life)
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.OnSignOut == nil {
		cfg.OnSignOut = func() {}
	}
	key, err := keyOf(cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	public, err := publicOf(key)
	if err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: public.KeyID}},
		new(jose.SignerOptions).WithType("at+jwt"),
	)
	if err != nil {
		return nil, fmt.Errorf("make a signer: %w", err)
	}
	return &Issuer{
		name: cfg.Name(), life: cfg.Life,
		key: key, public: public, signer: signer, onSignOut: cfg.OnSignOut, now: time.Now,
	}, nil
}

// Check says what is wrong with a configuration, the key in its file included, if there
// is one. It makes nothing.
func (c Config) Check() error {
	if life := cmp.Or(c.Life, Life); life < leastLife || life > 24*time.Hour {
		return fmt.Errorf("the life of a token: want a value from %v to 24h", leastLife)
	}
	if err := checkAddr(c.Addr); err != nil {
		return err
	}
	if _, err := readKey(c.KeyFile); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Name is the issuer's, as in `iss`: a URL, with the discovery document below.
func (c Config) Name() string { return "http://" + c.Addr + strings.TrimSuffix(Path, "/") }

// checkAddr refuses addresses that others reach: there are no passwords.
func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w (want host:port, such as 127.0.0.1:8080)", addr, err)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.Unmap().IsLoopback()) {
		return fmt.Errorf("address %q can be reached from other machines, and the demo's accounts have no passwords: use 127.0.0.1", addr)
	}
	if port == "0" || port == "" {
		return fmt.Errorf("address %q: the port is in the name of the demo's issuer: choose one", addr)
	}
	return nil
}

// Name is that of its Config.
func (i *Issuer) Name() string { return i.name }

// login is somebody who has signed in. The zero value: nobody.
type login struct {
	account Account
	session string // goes on with each renewal: `sid`, OpenID Connect Front-Channel Logout 1.0 section 3
	expires time.Time
}

// newSession returns a session's name.
func newSession() string { return rand.Text() }

// token signs one for an account.
func (i *Issuer) token(of Account, session string) (string, error) {
	now := i.now()
	claims := map[string]any{
		"iss": i.name, "sub": of.Subject, "aud": Audience, "name": of.Name, "sid": session,
		"iat": now.Unix(), "exp": now.Add(i.life).Unix(),
	}
	maps.Copy(claims, of.claims)
	text, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	signed, err := i.signer.Sign(text)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed.CompactSerialize()
}

var errNotSignedIn = errors.New("nobody is signed in")

// read returns who has signed in by a token: the issuer's own look at its cookie, to
// renew it. Who may call the API is not asked here.
func (i *Issuer) read(token string) (login, error) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return login{}, errNotSignedIn
	}
	text, err := jws.Verify(&i.key.PublicKey)
	if err != nil {
		return login{}, errNotSignedIn
	}
	var claims struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
		Session string `json:"sid"`
		Expires int64  `json:"exp"`
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return login{}, errNotSignedIn
	}
	account, known := accountOf(claims.Subject)
	expires := time.Unix(claims.Expires, 0)
	if !known || claims.Issuer != i.name || claims.Session == "" || !i.now().Before(expires) || i.signedOut.has(claims.Session) {
		return login{}, errNotSignedIn
	}
	return login{account, claims.Session, expires}, nil
}
