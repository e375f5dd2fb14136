package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/server/stream"
)

// None in a field of Config says that there is none of it, where the field
// says that this is possible. (Zero is the default.)
const None = -1

// Config of a server. The zero value of a field with a default takes the
// default, which Defaults tells.
type Config struct {
	// DatabaseURL of the primary. Required, unless Database is set.
	DatabaseURL string
	// Database starts or finds the primary, if DatabaseURL is empty. Run asks it
	// once, when the ports are open.
	Database func(ctx context.Context) (url string, err error)
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
	// Hosts are the names that requests may be addressed to (Host, :authority),
	// besides those of loopback: `app.example.com`, or `*` for all. A request
	// to another one is answered 421. A port that other machines can reach also
	// answers to its machine's name and to addresses.
	Hosts []string
	// AllowedOrigins are the origins of pages on other hosts that may call us
	// (CORS): `https://app.example.com`, or `*` for all. Credentials are never
	// allowed, so a wildcard gives nothing away that curl would not get.
	AllowedOrigins []string
	// TrustedProxies are the addresses and networks of proxies whose
	// X-Forwarded-For says who calls.
	TrustedProxies []string
	// Page is served at `/`. Nil: a pointer in plain text.
	Page http.Handler

	// MaxWait bounds the wait of a request at-least. Zero: 2 s; None: it doesn't
	// wait.
	MaxWait time.Duration
	// MaxSettle bounds how long the answer of a write is held back. Zero:
	// 250 ms; None: it isn't.
	MaxSettle time.Duration
	// MaxLag is how far the node may be behind before it says so, and stops
	// serving kept answers. Zero: 5 s.
	MaxLag time.Duration
	// ShedStreams ends streams, and refuses new ones, while the node has not been
	// ready for longer than MaxLag: for nodes behind a balancer that asks
	// /readyz, so that clients come to another. A node that is alone keeps them:
	// they are told of the lag.
	ShedStreams bool
	// CacheBytes bounds the answers that are kept. Zero: 64 MiB; None: none.
	CacheBytes int
	// MaxTopics bounds the topic table. Zero: 1,000,000.
	MaxTopics int
	// Heartbeat of streams. Zero: 15 s.
	Heartbeat time.Duration
	// Throttle of streams that ask for none. Zero: 100 ms; None: there is none.
	Throttle time.Duration
	// MaxConnections bounds the connections of Addr. Zero: 20,000; never more
	// than the limit of open files leaves.
	MaxConnections int
	// MaxConnectionsPerAddress bounds those that come from one address (of IPv6
	// a /64), proxies that are trusted excepted. Zero: half of MaxConnections;
	// None: no bound.
	MaxConnectionsPerAddress int
	// MaxStreams bounds open streams. Zero: 10,000.
	MaxStreams int
	// MaxStreamsPerAddress bounds those of one address. Zero: half of
	// MaxStreams; None: no bound.
	MaxStreamsPerAddress int
	// MaxStreamTopics bounds the topics of one stream. Zero: 1,000.
	MaxStreamTopics int
	// MaxTopicBytes bounds the memory of all streams' topics. Zero: 256 MiB.
	MaxTopicBytes int
	// WriteTimeout bounds how long a reader may take for a frame of a stream, or
	// for 64 KiB of an answer. Zero: 10 s.
	WriteTimeout time.Duration
	// MaxRead bounds a query that reads share. Zero: 30 s.
	MaxRead time.Duration
	// MaxWrite bounds one transaction of a write, from its first statement to the
	// answer to its COMMIT. Zero: 30 s.
	MaxWrite time.Duration
	// ReadInterval is the least mean time between two queries of one read
	// at-least a revision that several clients are after. Zero: 100 ms; None:
	// there is none.
	ReadInterval time.Duration

	// ReplayWindow and ReplayWindowBytes are how far the slot's confirmed
	// position is kept behind, whichever is less. Zero: 60 s, 64 MiB.
	ReplayWindow      time.Duration
	ReplayWindowBytes int
	// ProbeInterval is how often the primary's position is read. Zero: 10 ms.
	ProbeInterval time.Duration
	// Linger is how long a busy replication stream is left to gather before it
	// is read on, at most. Zero: 5 ms; None: not at all.
	Linger time.Duration

	// MaxRequestBytes bounds a request message, and a request's body. Zero: 4 MiB.
	MaxRequestBytes int
	// MaxHeaderBytes bounds a request's headers. Zero: 64 KiB.
	MaxHeaderBytes int
	// ReadTimeout bounds how long a request, headers and body, may take to
	// arrive. Zero: 20 s.
	ReadTimeout time.Duration
	// Drain is how long a shutdown takes for those who are served. The first
	// half is Retire's; in the second streams are told and calls may end, then
	// they are cut. Zero: 10 s; None: at once.
	Drain time.Duration

	// AuditReads says which calls prove that they look into no table but those
	// that they declare: intercept.AuditSample (zero), AuditAll or AuditOff.
	AuditReads intercept.AuditMode

	// Logger; nil: slog.Default().
	Logger *slog.Logger
	// OnReady is called once, with the URL, when the server is ready for the
	// first time. May be nil.
	OnReady func(url string)
}

// Defaults returns what the zero values stand for.
func Defaults() Config {
	return Config{
		Slot:              "freshet",
		Addr:              "127.0.0.1:8080",
		MaxWait:           2 * time.Second,
		MaxSettle:         250 * time.Millisecond,
		MaxLag:            5 * time.Second,
		CacheBytes:        64 << 20,
		MaxTopics:         1_000_000,
		Heartbeat:         15 * time.Second,
		Throttle:          100 * time.Millisecond,
		MaxConnections:    20_000,
		MaxStreams:        10_000,
		MaxStreamTopics:   1000,
		MaxTopicBytes:     256 << 20,
		WriteTimeout:      10 * time.Second,
		MaxRead:           30 * time.Second,
		MaxWrite:          30 * time.Second,
		ReadInterval:      100 * time.Millisecond,
		ReplayWindow:      time.Minute,
		ReplayWindowBytes: 64 << 20,
		ProbeInterval:     10 * time.Millisecond,
		Linger:            5 * time.Millisecond,
		MaxRequestBytes:   4 << 20,
		MaxHeaderBytes:    64 << 10,
		ReadTimeout:       20 * time.Second,
		Drain:             10 * time.Second,
	}
}

// withDefaults returns c with its defaults filled in, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.DatabaseURL == "" && c.Database == nil {
		return c, errors.New("there is no database URL")
	}
	if c.DatabaseURL != "" {
		c.Database = nil
	}
	d := Defaults()
	c.CaptureURL = cmp.Or(c.CaptureURL, c.DatabaseURL)
	c.Slot = cmp.Or(c.Slot, d.Slot)
	c.Addr = cmp.Or(c.Addr, d.Addr)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	if err := checkBounds(&c, d); err != nil {
		return c, err
	}
	if c.MaxConnectionsPerAddress == 0 {
		c.MaxConnectionsPerAddress = (c.MaxConnections + 1) / 2
	}
	if c.MaxStreamsPerAddress == 0 {
		c.MaxStreamsPerAddress = (c.MaxStreams + 1) / 2
	}
	for _, addr := range []struct{ flag, value string }{{"--addr", c.Addr}, {"--admin-addr", c.AdminAddr}} {
		if addr.value == "" {
			continue
		}
		if err := checkAddr(addr.value, c.Insecure); err != nil {
			return c, fmt.Errorf("%s: %w", addr.flag, err)
		}
	}
	if !slotName.MatchString(c.Slot) {
		return c, fmt.Errorf("--slot %q: want 1 to 63 lower-case letters, digits and underscores", c.Slot)
	}
	for _, host := range c.Hosts {
		if err := checkHost(host); err != nil {
			return c, err
		}
	}
	for _, origin := range c.AllowedOrigins {
		if err := checkOrigin(origin); err != nil {
			return c, err
		}
	}
	_, err := newCallers(c.TrustedProxies)
	return c, err
}

// slotName is what Postgres takes.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// checkBounds fills in d where c has zeros, and refuses what makes no sense.
// Errors name flags, which is where values come from.
func checkBounds(c *Config, d Config) error {
	const ms = time.Millisecond
	return errors.Join(
		bound("--max-wait", &c.MaxWait, d.MaxWait, ms, time.Hour, true),
		bound("--max-settle", &c.MaxSettle, d.MaxSettle, ms, time.Hour, true),
		bound("--max-lag", &c.MaxLag, d.MaxLag, 100*ms, 24*time.Hour, false),
		bound("--heartbeat", &c.Heartbeat, d.Heartbeat, 100*ms, time.Hour, false),
		bound("--throttle", &c.Throttle, d.Throttle, ms, stream.MaxThrottle, true),
		bound("--read-interval", &c.ReadInterval, d.ReadInterval, ms, time.Minute, true),
		bound("--replay-window", &c.ReplayWindow, d.ReplayWindow, time.Second, 24*time.Hour, false),
		bound("--replay-window-bytes", &c.ReplayWindowBytes, d.ReplayWindowBytes, 1<<20, math.MaxInt, false),
		bound("--probe-interval", &c.ProbeInterval, d.ProbeInterval, ms, time.Second, false),
		bound("--linger", &c.Linger, d.Linger, ms/1000, time.Second, true),
		bound("--cache-bytes", &c.CacheBytes, d.CacheBytes, 1, math.MaxInt, true),
		bound("--max-topics", &c.MaxTopics, d.MaxTopics, 1, math.MaxInt32, false),
		bound("--max-connections", &c.MaxConnections, d.MaxConnections, 1, math.MaxInt32, false),
		bound("--max-connections-per-address", &c.MaxConnectionsPerAddress, 0, 1, math.MaxInt32, true),
		bound("--max-streams", &c.MaxStreams, d.MaxStreams, 1, math.MaxInt32, false),
		bound("--max-streams-per-address", &c.MaxStreamsPerAddress, 0, 1, math.MaxInt32, true),
		bound("--max-stream-topics", &c.MaxStreamTopics, d.MaxStreamTopics, 1, 1_000_000, false),
		bound("--max-topic-bytes", &c.MaxTopicBytes, d.MaxTopicBytes, 1<<20, math.MaxInt, false),
		bound("--write-timeout", &c.WriteTimeout, d.WriteTimeout, 100*ms, time.Hour, false),
		bound("--read-timeout", &c.ReadTimeout, d.ReadTimeout, 100*ms, time.Hour, false),
		bound("--max-read", &c.MaxRead, d.MaxRead, ms, 24*time.Hour, false),
		bound("--max-write", &c.MaxWrite, d.MaxWrite, ms, 24*time.Hour, false),
		bound("--max-request-bytes", &c.MaxRequestBytes, d.MaxRequestBytes, 1<<10, 1<<30, false),
		bound("--max-header-bytes", &c.MaxHeaderBytes, d.MaxHeaderBytes, 1<<10, 1<<24, false),
		bound("--drain", &c.Drain, d.Drain, ms, time.Hour, true),
		bound("--max-conns", &c.MaxConns, 0, 1, 10_000, false),
	)
}

// bound sets a value that is zero to its default, and refuses one that isn't
// within from and to. With none, a value below zero is as good as None.
func bound[T time.Duration | int | int32](flag string, value *T, otherwise, from, to T, none bool) error {
	switch {
	case *value == 0:
		*value = otherwise
		return nil
	case *value >= from && *value <= to, none && *value < 0:
		return nil
	}
	or := ""
	if none {
		or = ", or 0 for none"
	}
	return fmt.Errorf("%s: want a value from %v to %v%s", flag, from, to, or)
}

// checkAddr refuses to serve other machines without authentication, unless
// told that this is meant.
func checkAddr(addr string, insecure bool) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("address %q: %w (want host:port, such as 127.0.0.1:8080)", addr, err)
	}
	if insecure || isLoopback(addr) {
		return nil
	}
	return fmt.Errorf("address %q can be reached from other machines, and nothing authenticates them: "+
		"use 127.0.0.1, or --insecure to serve everybody", addr)
}

// checkOrigin refuses what no browser would ever send as an Origin (RFC 6454
// section 6.2): it would never match.
func checkOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
		return fmt.Errorf("--allowed-origin %q: want scheme://host[:port] and nothing else, or *", origin)
	}
	usual := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	switch name := u.Hostname(); {
	case name == "":
		return fmt.Errorf("--allowed-origin %q: there is no host", origin)
	case strings.ToLower(origin) != origin:
		return fmt.Errorf("--allowed-origin %q: browsers send it in lower case: %q", origin, strings.ToLower(origin))
	case strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }):
		return fmt.Errorf("--allowed-origin %q: browsers send international names in ASCII (xn--…)", origin)
	case strings.ContainsAny(name, "*%_ "):
		return fmt.Errorf("--allowed-origin %q: there are no patterns; name each origin, or * for all", origin)
	case usual != "" && u.Port() == usual, strings.HasSuffix(u.Host, ":"):
		return fmt.Errorf("--allowed-origin %q: browsers leave the usual port out: %q", origin, u.Scheme+"://"+strings.TrimSuffix(u.Host, ":"+u.Port()))
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return fmt.Errorf("--allowed-origin %q: %q is no port", origin, port)
		}
	}
	return nil
}
