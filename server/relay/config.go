package relay

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// Config of a Relay. Optional fields take the defaults named beside them.
type Config struct {
	// Servers of NATS: nats://host:4222, tls://…, ws://…; one that answers will do.
	// Required.
	Servers []string
	// Credentials is a file with a user's JWT and seed, as nsc makes them, which is read
	// with each attempt to connect. Empty: none; a URL may have a user and password, or a
	// token.
	Credentials string
	// RootCAs, Cert and Key are files in PEM, for TLS: whose certificates to trust
	// (empty: the system's), and our own.
	RootCAs, Cert, Key string
	// Subject is what all subjects begin with, and all that this needs to be allowed to
	// publish and subscribe to, with `.>` behind it. Empty: freshet.
	Subject string

	// Scope tells apart what doesn't follow the same: slot, publication, contract. Of
	// letters, digits, `_` and `-`. Required. (Databases are told apart by what they say
	// of themselves.)
	Scope string
	// Fallback has the node capture for itself when NATS has been gone for longer than
	// MaxLag.
	Fallback bool
	// MaxLag is for how long NATS may be gone before a node that isn't the holder says
	// that it isn't ready. Zero: 5 s.
	MaxLag time.Duration
	// Patience is for how long no holder may be heard, with NATS there, until a node
	// captures for the others without the seat; up to as long again is added at random.
	// Zero: 10 s.
	Patience time.Duration
	// State is what others are answered from. Required.
	State State
	// OnChange is called when Ready may answer otherwise. It must not block. Nil: nobody is.
	OnChange func()
	// Logger; nil discards.
	Logger *slog.Logger

	more []nats.Option // of tests
}

var tokens = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func (c *Config) validate() error {
	c.Subject = cmp.Or(c.Subject, "freshet")
	c.MaxLag = cmp.Or(c.MaxLag, 5*time.Second)
	c.Patience = cmp.Or(c.Patience, 10*time.Second)
	if c.OnChange == nil {
		c.OnChange = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(c.Servers) == 0:
		return errors.New("relay: there is no server of NATS")
	case c.State == nil:
		return errors.New("relay: there is no state to answer from")
	case !tokens.MatchString(c.Subject) || len(c.Subject) > 100:
		return fmt.Errorf("relay: %q can't begin a subject: use up to 100 letters, digits, - and _, in words with dots between them", c.Subject)
	case !tokens.MatchString(c.Scope):
		return fmt.Errorf("relay: %q can't be part of a subject", c.Scope)
	case (c.Cert == "") != (c.Key == ""):
		return errors.New("relay: a certificate and its key go together")
	}
	for _, server := range c.Servers {
		if err := CheckServer(server); err != nil {
			return fmt.Errorf("relay: %w", err)
		}
	}
	return nil
}

// CheckServer says what is wrong with the URL of a server of NATS.
func CheckServer(server string) error {
	u, err := url.Parse(server)
	if err != nil {
		return errors.New("this is no URL of a server of NATS: want nats://host:4222") // it may hold a password
	}
	if !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) || u.Hostname() == "" {
		return fmt.Errorf("%q is no URL of a server of NATS: want nats://host:4222, or tls, ws or wss", u.Redacted())
	}
	return nil
}
