package front

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
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/freshet-dev/freshet/internal/seldom"
	"github.com/freshet-dev/freshet/server"
)

// None in a field of Config says that there is none of it, where the field
// says that this is possible. (Zero is the default.)
const None = -1

// Config of a front. The zero value of a field with a default takes the
// default, which Defaults tells too.
type Config struct {
	// Addr of RPC, stream and page. Empty: 127.0.0.1:8080. Port 0 takes a
	// free one.
	Addr string
	// AdminAddr of metrics and pprof. Empty: not served.
	AdminAddr string
	// AdminSpares is how many ports after that of AdminAddr are tried where it is
	// taken. Zero: none.
	AdminSpares int
	// Administer says whether a caller may use AdminAddr: nil, server.ErrDenied, or why
	// it can't be told. Where that is beyond loopback, the node is asked who calls, then
	// Administer, about all but health. Nil: nobody can say, and AdminAddr has to be on
	// loopback.
	Administer func(context.Context, server.Principal) error
	// Authenticated says that the node lets nobody do anything who isn't meant to:
	// server.Config.Authenticate is set. It allows Addr to be beyond loopback.
	Authenticated bool
	// Insecure allows addresses beyond loopback though nobody asks who calls. On
	// AdminAddr nobody is asked then.
	Insecure bool
	// Hosts are the names that requests may be addressed to (Host, :authority),
	// besides those of loopback: `app.example.com`, or `*` for all. A request
	// to another one is answered 421. A port that other machines can reach also
	// answers to its machine's name and to addresses.
	Hosts []string
	// AllowedOrigins are the origins of pages on other hosts that may call us
	// (CORS): `https://app.example.com`, or `*` for all. They may send tokens
	// that they have (Authorization), but no cookies: these are the browser's, so a
	// wildcard gives nothing away that curl would not get.
	AllowedOrigins []string
	// TrustedProxies are the addresses and networks of proxies whose
	// X-Forwarded-For says who calls.
	TrustedProxies []string
	// TLSCert and TLSKey are files of a certificate, with those that lead to its
	// root, and of its key, in PEM. They are read again when they change. Both, or
	// neither: then Addr is served without TLS.
	TLSCert, TLSKey string
	// Page is served at `/`. Nil: a pointer in plain text.
	Page http.Handler
	// PublicPage serves Page to everybody: for one that lets its user sign in, and
	// holds nothing before. False: the node asks who calls, as for everything else.
	PublicPage bool
	// Public are handlers for everybody, by the pattern of their paths: nobody asks
	// who calls. They are what lets people sign in.
	Public map[string]http.Handler

	// MaxConnections bounds the connections of Addr. Zero: 20,000; never more
	// than the limit of open files leaves.
	MaxConnections int
	// MaxConnectionsPerAddress bounds those that come from one address (of IPv6
	// a /64), proxies that are trusted excepted. Zero: half of MaxConnections;
	// None: no bound.
	MaxConnectionsPerAddress int
	// MaxRequestsPerAddress bounds the requests under way from one address (of IPv6
	// a /64; behind a trusted proxy, whom that names), before anybody asks who calls.
	// Streams aside. Zero: 5,000; None: no bound.
	MaxRequestsPerAddress int
	// Reserved are the connections to the database that the process may open
	// besides. It says nothing by itself.
	Reserved int
	// MaxStreams is how many streams the node takes: fewer connections are worth a
	// warning.
	MaxStreams int
	// MaxRequestBytes bounds a request message, and a request's body. Zero: 4 MiB.
	MaxRequestBytes int
	// MaxHeaderBytes bounds a request's headers. Zero: 64 KiB.
	MaxHeaderBytes int
	// ReadTimeout bounds how long a request, headers and body, may take to
	// arrive. Zero: 20 s.
	ReadTimeout time.Duration
	// WriteTimeout bounds how long a reader may take for 64 KiB of an answer. Zero:
	// 10 s.
	WriteTimeout time.Duration
	// Drain is how long a shutdown takes for those who are served. The first
	// half is Retire's; in the second streams are told and calls may end, then
	// they are cut. Zero: 10 s; None: at once.
	Drain time.Duration

	// Logger; nil: slog.Default(). It is told now and then what happens again and again.
	Logger *slog.Logger
}

// Defaults returns what the zero values stand for.
func Defaults() Config {
	return Config{
		Addr:            "127.0.0.1:8080",
		MaxConnections:  20_000,
		MaxRequestBytes: 4 << 20,

		MaxRequestsPerAddress: 5_000,
		MaxHeaderBytes:        64 << 10,
		ReadTimeout:           20 * time.Second,
		WriteTimeout:          10 * time.Second,
		Drain:                 10 * time.Second,
	}
}

// ConfigError says what is wrong with a Config itself, whatever becomes of the files that
// it names.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ConfigError) Unwrap() error { return e.Err }

// withDefaults returns c with its defaults filled in, or what is wrong with it.
// Errors name flags, which is where values come from.
func (c Config) withDefaults() (Config, error) {
	d := Defaults()
	c.Addr = cmp.Or(c.Addr, d.Addr)
	c.Logger = seldom.Logger(cmp.Or(c.Logger, slog.Default()))
	if err := checkBounds(&c, d); err != nil {
		return c, err
	}
	if c.MaxConnectionsPerAddress == 0 {
		c.MaxConnectionsPerAddress = (c.MaxConnections + 1) / 2
	}
	for _, addr := range []struct {
		flag, value string
		safe        bool
		means       string
	}{
		{"--addr", c.Addr, c.Insecure || c.Authenticated, "have callers authenticated (--oidc-issuer, --jwt-keys), "},
		{"--admin-addr", c.AdminAddr, c.Insecure || c.Authenticated && c.Administer != nil || c.AdminAddr == "", "have callers authenticated (--oidc-issuer, --jwt-keys) and say who may (`admin: true` in --grants), "},
	} {
		if err := checkAddr(addr.value, addr.safe, addr.means); err != nil {
			return c, fmt.Errorf("%s: %w", addr.flag, err)
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return c, errors.New("--tls-cert and --tls-key: want both, or neither")
	}
	for _, host := range c.Hosts {
		if err := checkHost(host); err != nil {
			return c, err
		}
		// Loopback alone is no bound where a proxy leads others to it.
		if ours := (&hosts{loopback: true}); !c.Insecure && !c.Authenticated && !ours.allow(host) {
			return c, fmt.Errorf("--host %q: other machines come by that name, through a proxy, and nothing keeps anybody out: "+
				"leave it out, have callers authenticated (--oidc-issuer, --jwt-keys), or --insecure to serve everybody", host)
		}
	}
	for _, origin := range c.AllowedOrigins {
		if err := checkOrigin(origin); err != nil {
			return c, err
		}
	}
	return c, nil
}

// guardsAdmin reports whether those who use the admin port are asked who they are:
// other machines reach it.
func (c Config) guardsAdmin() bool {
	return c.AdminAddr != "" && !isLoopback(c.AdminAddr) && !c.Insecure
}

// checkBounds fills in d where c has zeros, and refuses what makes no sense.
func checkBounds(c *Config, d Config) error {
	const ms = time.Millisecond
	return errors.Join(
		bound("--max-connections", &c.MaxConnections, d.MaxConnections, 1, math.MaxInt32, false),
		bound("--max-connections-per-address", &c.MaxConnectionsPerAddress, 0, 1, math.MaxInt32, true),
		bound("--max-requests-per-address", &c.MaxRequestsPerAddress, d.MaxRequestsPerAddress, 1, math.MaxInt32, true),
		bound("--max-request-bytes", &c.MaxRequestBytes, d.MaxRequestBytes, 1<<10, 1<<30, false),
		bound("--drain", &c.Drain, d.Drain, ms, time.Hour, true),
		// These are no flags.
		bound("MaxHeaderBytes", &c.MaxHeaderBytes, d.MaxHeaderBytes, 1<<10, 1<<24, false),
		bound("ReadTimeout", &c.ReadTimeout, d.ReadTimeout, 100*ms, time.Hour, false),
		bound("WriteTimeout", &c.WriteTimeout, d.WriteTimeout, 100*ms, time.Hour, false),
	)
}

// bound sets a value that is zero to its default, and refuses one that isn't
// within from and to. With none, a value below zero is as good as None.
func bound[T time.Duration | int](flag string, value *T, otherwise, from, to T, none bool) error {
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

// checkAddr refuses to serve other machines unless that is safe. means are what
// would make it so, besides --insecure.
func checkAddr(addr string, safe bool, means string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = net.DefaultResolver.LookupPort(context.Background(), "tcp", port) // a number, or a name of /etc/services
	}
	if addr != "" && err != nil {
		return fmt.Errorf("address %q: %w (want host:port, such as 127.0.0.1:8080)", addr, err)
	}
	if safe || isLoopback(addr) {
		return nil
	}
	return fmt.Errorf("address %q can be reached from other machines, and nothing keeps anybody out: "+
		"use 127.0.0.1, %sor --insecure to serve everybody", addr, means)
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
