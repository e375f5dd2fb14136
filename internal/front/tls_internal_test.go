package front

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// A pair that changes between two looks is still being written.
func TestCertificate_countsWhenTwoLooksAgree(t *testing.T) {
	pair := testkit.NewCertificate(t)
	synctest.Test(t, func(t *testing.T) {
		c, err := openCertificate(pair.CertFile, pair.KeyFile, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.run(ctx) }()
		used := func() []byte { return c.current.Load().Certificate[0] }
		look := func() {
			time.Sleep(lookEvery)
			synctest.Wait()
		}
		first := used()
		for range 3 {
			pair.Renew(t)
			look()
			require.Equal(t, first, used(), "seen once")
		}
		last := pair.Renew(t)
		look()
		require.Equal(t, first, used())
		look()
		require.Equal(t, last, used(), "seen twice")
		cancel()
		require.NoError(t, <-ended)
	})
}

// A client of HTTP/2 is told how many streams it may have on a connection.
func TestPort_F62_streamsOfAConnectionAreBounded(t *testing.T) {
	f := testFront(t, func(*Config) {})
	at := f.testPort(t, new(port), http.NotFoundHandler())
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", at)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	frames := http2.NewFramer(conn, conn)
	require.NoError(t, frames.WriteSettings())
	frame, err := frames.ReadFrame()
	require.NoError(t, err)
	settings, ok := frame.(*http2.SettingsFrame)
	require.True(t, ok, "%v", frame)
	most, ok := settings.Value(http2.SettingMaxConcurrentStreams)
	require.True(t, ok)
	require.EqualValues(t, maxStreamsPerConnection, most)
}
