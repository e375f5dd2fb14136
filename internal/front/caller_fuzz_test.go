package front

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzCaller: nobody but a proxy that is trusted says who calls, and no proxy can
// be made to say that it called itself on somebody else's account.
func FuzzCaller(f *testing.F) {
	for _, forwarded := range []string{"", "198.51.100.7", "203.0.113.9, 198.51.100.7, 10.9.9.9", "junk", "2001:db8::1%eth0", "10.1.1.1,10.2.2.2", "::ffff:1.2.3.4", strings.Repeat(",", 1000)} {
		f.Add(forwarded, true)
		f.Add(forwarded, false)
	}
	who, err := newCallers([]string{"10.0.0.0/8"})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, forwarded string, trusted bool) {
		peer := "192.0.2.1"
		if trusted {
			peer = "10.1.2.3"
		}
		got := who.request(&http.Request{RemoteAddr: peer + ":5", Header: http.Header{"X-Forwarded-For": {forwarded}}})
		require.True(t, got.IsValid())
		if trusted {
			last := strings.TrimSpace(forwarded[strings.LastIndexByte(forwarded, ',')+1:])
			if addr, err := netip.ParseAddr(last); err != nil || !who.trusts(addr.Unmap()) {
				// The proxy's own word is the last one; what is before it is anybody's.
				want := netip.MustParseAddr(peer)
				if err == nil {
					want = household(addr.Unmap())
				}
				require.Equal(t, want, got)
			}
			return
		}
		require.Equal(t, netip.MustParseAddr(peer), got, "made up")
	})
}

// FuzzHost takes the word of a URL's parser for what a name is.
func FuzzHost(f *testing.F) {
	for _, host := range []string{"", "localhost", "localhost:1", "evil.example", "app.example.com.", "[::1]:8", "127.1", "a.localhost", "localhost.evil.example", "[::ffff:127.0.0.1]", "192.0.2.1", "0x7f.1", "localhost:1:2", "evil.example:80]"} {
		f.Add(host)
	}
	h := newHosts("127.0.0.1:8080", []string{"app.example.com"})
	f.Fuzz(func(t *testing.T, host string) {
		if !h.allow(host) || host == "" {
			return
		}
		u, err := url.Parse("http://" + host + "/")
		if err != nil || u.Host != host {
			return // no client would call us by it
		}
		name := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
		addr, err := netip.ParseAddr(name)
		local := err == nil && addr.Unmap().IsLoopback() || name == "localhost" || strings.HasSuffix(name, ".localhost")
		require.True(t, local || name == "app.example.com" || name == "", "%q is %q", host, name)
	})
}
