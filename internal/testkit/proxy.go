package testkit

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/badnet"
)

// Proxy closes with the test.
type Proxy struct {
	*badnet.Proxy
	url string // "" when the target isn't a URL
}

// NewProxy forwards from a free port on 127.0.0.1 to target: a PostgreSQL URL (also one with a Unix
// socket, such as Database returns), or host:port.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	var p Proxy
	var err error
	if strings.Contains(target, "://") {
		p.Proxy, p.url, err = badnet.NewDatabase(target)
	} else {
		p.Proxy, err = badnet.New(target)
	}
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return &p
}

// URL is the target's URL through the proxy.
func (p *Proxy) URL() string { return p.url }
