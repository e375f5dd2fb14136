package relay

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Fault says what kind of thing is in the way of a connection to NATS.
type Fault string

// Kinds of faults. The zero value is one that says nothing besides its error.
const (
	FaultSilent            Fault = "somebody takes the connection there, and says nothing: a server that hangs? Or is that not the port for clients (4222), but the one for routes, monitoring or HTTP? Does nats:// or tls:// suit it?"
	FaultUnreachable       Fault = "nobody answers there: is NATS up, and are host and port right?"
	FaultNoTLS             Fault = "that server takes no TLS: give it a certificate, or use nats:// where its network may be trusted"
	FaultServerCertificate Fault = "the server's certificate isn't trusted: --nats-ca names whose are, in PEM"
	FaultServerName        Fault = "the server's certificate is for another name: use one of its names in --nats-url, or give it one with this name"
	FaultServerExpired     Fault = "the server's certificate is not valid at this time: renew it, or set this machine's clock"
	FaultOwnCertificate    Fault = "the server refuses this node's certificate, or wants one: --nats-cert and --nats-key, of an authority that it trusts and not expired"
	FaultCredentials       Fault = "the server refuses user and password, token or credentials: those in --nats-url or --nats-creds are not what it knows, or have expired" //nolint:gosec // a text about them
	FaultExpired           Fault = "the credentials are expired or revoked: put new ones into the file of --nats-creds, which is read with each attempt"
	FaultPermissions       Fault = "allow its user to publish and subscribe there, in the permissions of NATS' configuration, or name other words by --nats-subject"
	FaultApart             Fault = "are all servers of --nats-url routes of one cluster, with this user in one account, and may it publish and subscribe there?"
)

// SubjectError says why two connections don't hear each other.
type SubjectError struct {
	Subject string // what all subjects begin with
	Fault   Fault  // FaultPermissions or FaultApart
	Err     error  // what NATS has said; nil: nothing
}

func (e *SubjectError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("what one connection publishes to %s.> another one doesn't hear: %s", e.Subject, e.Fault)
	}
	return fmt.Sprintf("NATS refuses %s.> (%v): %s", e.Subject, e.Err, e.Fault)
}

// Unwrap returns what NATS has said.
func (e *SubjectError) Unwrap() error { return e.Err }

// ConnectError says why there is no connection to NATS. It holds no secret.
type ConnectError struct {
	Fault Fault
	Err   error
}

func (e *ConnectError) Error() string {
	if e.Fault == "" {
		return "connect to NATS: " + e.Err.Error()
	}
	return fmt.Sprintf("connect to NATS: %v: %s", e.Err, e.Fault)
}

// Unwrap returns what NATS' client has said.
func (e *ConnectError) Unwrap() error { return e.Err }

// explain returns what err is about.
func explain(err error) *ConnectError {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var at *net.OpError
	fault := Fault("")
	switch {
	case errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		fault = FaultExpired
	case errors.Is(err, nats.ErrAuthorization):
		fault = FaultCredentials
	case errors.Is(err, nats.ErrSecureConnWanted):
		fault = FaultNoTLS
	case errors.As(err, &name):
		fault = FaultServerName
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		fault = FaultServerExpired
	case strings.Contains(err.Error(), "remote error: tls: "), // an alert's type is crypto/tls' own
		errors.Is(err, nats.ErrTLS) && strings.Contains(err.Error(), "after TLS handshake"):
		// By TLS 1.3 the server looks at our certificate when the handshake is over for
		// us: if we write before its alert has come, all we see is that it has hung up.
		fault = FaultOwnCertificate
	case errors.As(err, new(*tls.CertificateVerificationError)):
		fault = FaultServerCertificate
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout), errors.As(err, &at) && at.Op == "dial":
		fault = FaultUnreachable
	case errors.As(err, &at) && at.Op == "read" && at.Timeout():
		fault = FaultSilent
	}
	return &ConnectError{Fault: fault, Err: err}
}

// Delays of a connection to NATS.
const (
	connectTimeout = 2 * time.Second
	pingInterval   = time.Second // two without an answer, and another server is tried
	reconnectWait  = 250 * time.Millisecond
	closeTimeout   = 2 * time.Second
)

// dial connects to NATS, or says that it will go on trying when nobody answers: with
// once it is a *ConnectError. Other errors are a *ConfigError of a file, or another of the
// settings. Whoever dials
// closes the connection.
func (c *Config) dial(once bool, more ...nats.Option) (*nats.Conn, error) {
	options := append([]nats.Option{
		nats.Name("freshet"), nats.NoEcho(), nats.Timeout(connectTimeout),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(2), nats.FlusherTimeout(connectTimeout),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, reconnectWait), nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1), // what isn't sent at once is missing, which shows; late it would be of no use
		nats.CustomInboxPrefix(c.Subject + ".reply"),
		nats.RetryOnFailedConnect(!once),
		// Otherwise the second refusal ends the connection for good: a password that is
		// changed at the servers first, or credentials that are renewed too late.
		nats.IgnoreAuthErrorAbort(),
	}, more...)
	if err := c.checkFiles(); err != nil {
		return nil, err
	}
	if c.Credentials != "" {
		options = append(options, nats.UserCredentials(c.Credentials))
	}
	if c.RootCAs != "" {
		options = append(options, nats.RootCAs(c.RootCAs))
	}
	if c.Cert != "" {
		options = append(options, nats.ClientCert(c.Cert, c.Key))
	}
	made := nats.GetDefaultOptions()
	for _, option := range append(options, c.more...) {
		if err := option(&made); err != nil {
			return nil, fmt.Errorf("relay: the settings for NATS: %w", err)
		}
	}
	made.Servers = c.Servers
	nc, err := made.Connect()
	if err != nil {
		return nil, explain(err)
	}
	return nc, nil
}
