package relay

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Config of a Relay. Optional fields take the defaults named beside them.
type Config struct {
	// Servers of NATS: nats://host:4222, tls://…, ws://…; one that answers will do.
	// Required.
	Servers []string
	// Credentials is a file with a user's JWT and seed, as nsc makes them. Empty: none;
	// a URL may have a user and password, or a token.
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

// Delays of a connection to NATS.
const (
	connectTimeout = 2 * time.Second
	pingInterval   = time.Second // two without an answer, and another server is tried
	reconnectWait  = 250 * time.Millisecond
	closeTimeout   = 2 * time.Second
)

// Dial connects to NATS, or says that it will go on trying when nobody answers: with
// once it is an error. Whoever dials closes the connection.
func (c *Config) dial(once bool, more ...nats.Option) (*nats.Conn, error) {
	options := append([]nats.Option{
		nats.Name("freshet"), nats.NoEcho(), nats.Timeout(connectTimeout),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(2), nats.FlusherTimeout(connectTimeout),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, reconnectWait), nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1), // what isn't sent at once is missing, which shows; late it would be of no use
		nats.CustomInboxPrefix(c.Subject + ".reply"),
		nats.RetryOnFailedConnect(!once),
	}, more...)
	if c.Credentials != "" {
		options = append(options, nats.UserCredentials(c.Credentials))
	}
	if c.RootCAs != "" {
		options = append(options, nats.RootCAs(c.RootCAs))
	}
	if c.Cert != "" {
		if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
			return nil, fmt.Errorf("relay: the certificate for NATS: %w", err)
		}
		options = append(options, nats.ClientCert(c.Cert, c.Key))
	}
	nc, err := nats.Connect(strings.Join(c.Servers, ","), options...)
	if err != nil {
		return nil, fmt.Errorf("relay: connect to NATS: %w", err)
	}
	return nc, nil
}
