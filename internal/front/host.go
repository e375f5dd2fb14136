package front

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet/server/auth"
)

// hosts are the names that a port answers to (Host, or :authority). A page of
// another site can have its own name resolve to our address ("DNS rebinding");
// the browser then takes us for that site and hands over whatever we answer.
// What it can't do is make the browser send a name that isn't the site's own.
type hosts struct {
	names    []string // in lower case
	any      bool     // `*` is among the names
	loopback bool     // the port is on loopback: of addresses, only such
}

// newHosts returns what a port on addr answers to: names of loopback, the names
// given, and addresses, which can't be rebound. A port that other machines reach
// also answers to this machine's name.
func newHosts(addr string, names []string) *hosts {
	h := &hosts{names: names, any: slices.Contains(names, "*"), loopback: isLoopback(addr)}
	if name, err := os.Hostname(); !h.loopback && err == nil {
		h.names = append(slices.Clip(names), strings.ToLower(name))
	}
	return h
}

// isLoopback reports whether addr (host:port) is reached from this machine only.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && auth.IsLoopback(host)
}

// allow decides about a Host header, with or without a port. Requests of
// HTTP/1.0 may have none; browsers always send one.
func (h *hosts) allow(host string) bool {
	if h.any || host == "" {
		return true
	}
	host = bareName(host)
	if ip, err := netip.ParseAddr(host); err == nil {
		return !h.loopback || ip.Unmap().IsLoopback()
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	// RFC 6761 section 6.3: names under localhost are loopback's.
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(h.names, host)
}

// bareName is a Host header without port, and an address of IPv6 without brackets.
func bareName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

// check answers a request for a name that isn't ours with 421 (RFC 9110
// section 15.5.20).
func (h *hosts) check(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.allow(r.Host) {
			refuse(w, http.StatusMisdirectedRequest, connect.CodePermissionDenied,
				fmt.Sprintf("this server doesn't answer to the name %.100q: if it should, start it with --host", r.Host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkHost refuses a name that no Host header could carry.
func checkHost(name string) error {
	bad := name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != ""
	if name != "*" && bad {
		return fmt.Errorf("--host %q: want a name in lower case without scheme and port, such as app.example.com, or * for all", name)
	}
	return nil
}
