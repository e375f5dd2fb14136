package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Config of a server. The zero value of a field with a default takes the
// default.
type Config struct {
	// DatabaseURL of the primary. Required.
	DatabaseURL string
	// CaptureURL is where the feed connects, for a DatabaseURL that goes
	// through a pooler. Empty: DatabaseURL.
	CaptureURL string
	// SkipMigrate leaves pending migrations, publication and replica
	// identities as they are; what is missing is an error that says what to do.
	SkipMigrate bool
	// Slot is the replication slot. Empty: `freshet`.
	Slot string
	// MaxConns bounds the pool. Zero: the store's default.
	MaxConns int32

	// Addr of RPC, stream and page. Empty: 127.0.0.1:8080. Port 0 takes a
	// free one.
	Addr string
	// AdminAddr of metrics and pprof. Empty: not served.
	AdminAddr string
	// Insecure allows addresses beyond loopback, without authentication.
	Insecure bool
	// AllowedOrigins are the origins of pages on other hosts that may call us
	// (CORS): `https://app.example.com`, or `*` for all. Credentials are never
	// allowed, so a wildcard gives nothing away that curl would not get.
	AllowedOrigins []string
	// Page is served at `/`. Nil: a pointer in plain text.
	Page http.Handler

	// MaxWait bounds the wait of a request at-least. Zero: 2 s.
	MaxWait time.Duration
	// MaxSettle bounds how long the answer of a write is held back. Zero: 250 ms.
	MaxSettle time.Duration
	// MaxLag is how far the node may be behind before it says so, and stops
	// serving kept answers. Zero: 5 s.
	MaxLag time.Duration
	// CacheBytes bounds the answers that are kept. Zero: 64 MiB; negative: none.
	CacheBytes int
	// MaxTopics bounds the topic table. Zero: 1,000,000.
	MaxTopics int
	// Heartbeat of streams. Zero: 15 s.
	Heartbeat time.Duration
	// Throttle of streams that ask for none. Zero: 100 ms.
	Throttle time.Duration
	// MaxStreams bounds open streams. Zero: 10,000.
	MaxStreams int
	// MaxStreamTopics bounds the topics of one stream. Zero: 1,000.
	MaxStreamTopics int
	// WriteTimeout bounds how long a stream's reader may take for a frame.
	// Zero: 10 s.
	WriteTimeout time.Duration
	// MaxRead bounds a query that reads share. Zero: 30 s.
	MaxRead time.Duration
	// ReadInterval is the least mean time between two queries of one read
	// at-least a revision that several clients are after. Zero: 100 ms;
	// negative: none.
	ReadInterval time.Duration

	// ReplayWindow and ReplayWindowBytes are how far the slot's confirmed
	// position is kept behind, whichever is less. Zero: 60 s, 64 MiB.
	ReplayWindow      time.Duration
	ReplayWindowBytes uint64
	// ProbeInterval is how often the primary's position is read. Zero: 10 ms.
	ProbeInterval time.Duration
	// Linger is how long a busy replication stream is left to gather before it
	// is read on, at most. Zero: 5 ms; negative: not at all.
	Linger time.Duration

	// MaxRequestBytes bounds a request message, and a request's body. Zero: 4 MiB.
	MaxRequestBytes int
	// MaxHeaderBytes bounds a request's headers. Zero: 64 KiB.
	MaxHeaderBytes int
	// ReadHeaderTimeout bounds how long a request's headers may take. Zero: 10 s.
	ReadHeaderTimeout time.Duration
	// ShutdownTimeout bounds the shutdown. Zero: 10 s.
	ShutdownTimeout time.Duration

	// AuditReads has every read prove what it declares. It
	// costs two statements per read.
	AuditReads bool

	// Logger; nil: slog.Default().
	Logger *slog.Logger
	// OnReady is called once, with the URL, when the server is ready for the
	// first time. May be nil.
	OnReady func(url string)
}

// withDefaults returns c with its defaults filled in, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.DatabaseURL == "" {
		return c, errors.New("there is no database URL")
	}
	c.CaptureURL = or(c.CaptureURL, c.DatabaseURL)
	c.Slot = or(c.Slot, "freshet")
	c.Addr = or(c.Addr, "127.0.0.1:8080")
	c.MaxWait = or(c.MaxWait, 2*time.Second)
	c.MaxSettle = or(c.MaxSettle, 250*time.Millisecond)
	c.MaxLag = or(c.MaxLag, 5*time.Second)
	c.Heartbeat = or(c.Heartbeat, 15*time.Second)
	c.MaxRequestBytes = or(c.MaxRequestBytes, 4<<20)
	c.MaxHeaderBytes = or(c.MaxHeaderBytes, 64<<10)
	c.ReadHeaderTimeout = or(c.ReadHeaderTimeout, 10*time.Second)
	c.ShutdownTimeout = or(c.ShutdownTimeout, 10*time.Second)
	c.Logger = or(c.Logger, slog.Default())
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"max wait", c.MaxWait},
		{"max settle", c.MaxSettle},
		{"max lag", c.MaxLag},
		{"heartbeat", c.Heartbeat},
		{"throttle", c.Throttle},
		{"write timeout", c.WriteTimeout},
		{"max read", c.MaxRead},
		{"replay window", c.ReplayWindow},
		{"probe interval", c.ProbeInterval},
		{"read header timeout", c.ReadHeaderTimeout},
		{"shutdown timeout", c.ShutdownTimeout},
	} {
		if d.value < 0 {
			return c, fmt.Errorf("%s: %v is negative", d.name, d.value)
		}
	}
	if c.MaxConns < 0 || c.MaxTopics < 0 || c.MaxStreams < 0 || c.MaxStreamTopics < 0 || c.MaxRequestBytes < 0 || c.MaxHeaderBytes < 0 {
		return c, errors.New("a limit is negative")
	}
	for _, addr := range []string{c.Addr, c.AdminAddr} {
		if addr == "" {
			continue
		}
		if err := checkAddr(addr, c.Insecure); err != nil {
			return c, err
		}
	}
	for _, origin := range c.AllowedOrigins {
		if err := checkOrigin(origin); err != nil {
			return c, err
		}
	}
	return c, nil
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// checkAddr refuses to serve other machines without authentication, unless
// told that this is meant.
func checkAddr(addr string, insecure bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w (want host:port, such as 127.0.0.1:8080)", addr, err)
	}
	if insecure || host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf("address %q can be reached from other machines, and nothing authenticates them: "+
		"use 127.0.0.1, or --insecure to serve everybody", addr)
}

func checkOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
		return fmt.Errorf("allowed origin %q: want scheme://host[:port] and nothing else, or *", origin)
	}
	return nil
}
