package server_test

import (
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// What the hub counts gets out. (That whatever the manual names is there is seen
// where the whole program is: cmd/freshet.)
func TestRun_metrics(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	admin := listener.Addr().String()
	require.NoError(t, listener.Close())
	r := start(t, testkit.Migrated(t), func(c *live.Config) { c.Front.AdminAddr = admin })
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	h := &http.Client{Transport: transport}

	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.url+"/events?topic=messages", nil)
	require.NoError(t, err)
	req.Header.Set("Last-Event-ID", "42")
	stream, err := h.Do(req)
	require.NoError(t, err)
	defer stream.Body.Close()
	require.Equal(t, http.StatusOK, stream.StatusCode)

	resp, err := h.Get("http://" + admin + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(metrics), `freshet_hub_resets_total{cause="since"} 1`)
	require.Contains(t, string(metrics), `freshet_hub_resets_total{cause="epoch"} 0`)
	require.Regexp(t, `(?m)^freshet_feed_window_bytes [0-9.e+]+$`, string(metrics))
}
