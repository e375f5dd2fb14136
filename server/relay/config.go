package relay

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
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

// defaultSubject is what subjects begin with if nothing else is said.
const defaultSubject = "freshet"

var tokens = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func (c *Config) validate() error {
	c.Subject = cmp.Or(c.Subject, defaultSubject)
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
	case !tokens.MatchString(c.Scope):
		return fmt.Errorf("relay: %q can't be part of a subject", c.Scope)
	}
	return c.CheckNATS()
}

// ConfigError says what is wrong with a field of a Config, of those that are about NATS.
type ConfigError struct {
	Field string // its name
	Want  string // in words
	Err   error  // why a file can't be used that it names; nil: it isn't for a file
}

func (e *ConfigError) Error() string { return fmt.Sprintf("relay.Config.%s: want %s", e.Field, e.Want) }

// Unwrap returns Err.
func (e *ConfigError) Unwrap() error { return e.Err }

// CheckNATS says what is wrong with the fields that are about NATS, and with the files that
// they name: a *ConfigError, or nil. It connects to nobody. No servers, and none of the
// rest, is fine.
func (c *Config) CheckNATS() error {
	if len(c.Servers) == 0 {
		for _, f := range []struct{ name, is string }{
			{"Credentials", c.Credentials}, {"RootCAs", c.RootCAs}, {"Cert", c.Cert}, {"Key", c.Key},
		} {
			if f.is != "" {
				return &ConfigError{Field: f.name, Want: "nothing, where no server of NATS is named"}
			}
		}
	}
	for _, server := range c.Servers {
		if err := checkServer(server); err != nil {
			return &ConfigError{Field: "Servers", Want: "servers of NATS: " + err.Error()}
		}
	}
	if subject := cmp.Or(c.Subject, defaultSubject); !tokens.MatchString(subject) || len(subject) > 100 {
		return &ConfigError{Field: "Subject", Want: fmt.Sprintf("up to 100 letters, digits, - and _, in words with dots between them, not %q", subject)}
	}
	return c.checkFiles()
}

// checkFiles is the part about files. They may be replaced later, and are read again.
func (c *Config) checkFiles() error {
	if c.Credentials != "" {
		if _, err := os.ReadFile(c.Credentials); err != nil {
			return &ConfigError{Field: "Credentials", Want: fmt.Sprintf("a file of credentials, as nsc makes them: %v", err), Err: err}
		}
	}
	if c.RootCAs != "" {
		text, err := os.ReadFile(c.RootCAs)
		if err != nil {
			return &ConfigError{Field: "RootCAs", Want: fmt.Sprintf("a file of certificates in PEM: %v", err), Err: err}
		}
		if !x509.NewCertPool().AppendCertsFromPEM(text) {
			err = fmt.Errorf("there is none in %s", c.RootCAs)
			return &ConfigError{Field: "RootCAs", Want: fmt.Sprintf("a file of certificates in PEM: %v", err), Err: err}
		}
	}
	switch {
	case c.Cert != "" && c.Key == "":
		return &ConfigError{Field: "Key", Want: "the key of the node's own certificate: the two go together"}
	case c.Cert == "" && c.Key != "":
		return &ConfigError{Field: "Cert", Want: "the certificate of that key: the two go together"}
	case c.Cert != "":
		if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
			return &ConfigError{Field: "Cert", Want: fmt.Sprintf("a certificate in PEM, and its key: %v", err), Err: err}
		}
	}
	return nil
}

// checkServer says what is wrong with the URL of a server of NATS.
func checkServer(server string) error {
	u, err := url.Parse(server)
	if err != nil {
		return errors.New("this is no URL of a server of NATS: want nats://host:4222") // it may hold a password
	}
	if !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) || u.Hostname() == "" {
		return fmt.Errorf("%q is no URL of a server of NATS: want nats://host:4222, or tls, ws or wss", u.Redacted())
	}
	return nil
}
