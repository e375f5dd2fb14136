package front

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// callers tells by address who is behind a request. Behind a proxy that is
// trusted it is whom the proxy names in X-Forwarded-For.
type callers struct{ proxies []netip.Prefix }

func newCallers(proxies []string) (callers, error) {
	var c callers
	for _, text := range proxies {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil {
				return c, fmt.Errorf("--trusted-proxy %q: want an address or a network, such as 10.0.0.0/8", text)
			}
			prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		}
		c.proxies = append(c.proxies, prefix.Masked())
	}
	return c, nil
}

func (c callers) trusts(addr netip.Addr) bool {
	for _, prefix := range c.proxies {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// connection is whose connection this is; invalid for a proxy's, which is many
// people's.
func (c callers) connection(remote net.Addr) netip.Addr {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap()
	if c.trusts(addr) {
		return netip.Addr{}
	}
	return household(addr)
}

// request is whose request this is. A chain of proxies is followed from our
// end: what lies before the first that isn't trusted may be made up.
func (c callers) request(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && c.trusts(addr); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap()
	}
	return household(addr)
}

// household is what counts as one address: of IPv6 that is a /64, which one
// subscriber has whole.
func household(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		if prefix, err := addr.WithZone("").Prefix(64); err == nil { // any IPv6 address has one
			return prefix.Addr()
		}
	}
	return addr
}
