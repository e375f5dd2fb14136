package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/messages"
)

// bare runs the message service on a node as those do who embed one: on an HTTP
// server of their own, without package front.
type bare struct {
	running
	web      *httptest.Server
	ready    chan struct{} // closed when the node is, for the first time
	database string
}

// embed makes a node of cfg, mounts it, and runs it until the test ends or stop.
func embed(t testing.TB, cfg server.Config) *bare {
	t.Helper()
	return embedBehind(t, cfg, func(h http.Handler) http.Handler { return h })
}

// embedBehind is the same behind a middleware.
func embedBehind(t testing.TB, cfg server.Config, wrap func(http.Handler) http.Handler) *bare {
	t.Helper()
	b := &bare{ready: make(chan struct{}), database: cfg.DatabaseURL}
	cfg = live.MessageConfig(cfg)
	cfg.OnReady = func() { close(b.ready) }
	if cfg.Logger == nil {
		cfg.Logger = testkit.Logger(t)
	}
	node, err := server.New(cfg)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(node.Protect(messages.Handler(node.DB(), node.HandlerOptions()...)))
	mux.Handle(node.Events())
	mux.Handle(node.Watch())
	b.web = httptest.NewUnstartedServer(wrap(mux))
	b.web.Config.Protocols = new(http.Protocols)
	b.web.Config.Protocols.SetHTTP1(true)
	b.web.Config.Protocols.SetUnencryptedHTTP2(true) // gRPC
	b.web.Start()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = node.Run(ctx)
	}()
	transport := new(http.Transport)
	b.running = running{url: b.web.URL, ctx: testkit.Context(t), node: node, http: &http.Client{Transport: transport}, stop: func() error {
		cancel()
		<-done
		return err
	}}
	t.Cleanup(func() {
		require.NoError(t, b.stop())
		transport.CloseIdleConnections()
		b.web.Close()
	})
	return b
}

// live waits until the node is ready.
func (b *bare) live(t testing.TB) *bare {
	t.Helper()
	select {
	case <-b.ready:
	case <-b.ctx.Done():
		require.FailNow(t, "not ready", "%v", b.node.Ready())
	}
	return b
}

// notReady returns why the node isn't.
func (b *bare) notReady(t *testing.T) *server.NotReadyError {
	t.Helper()
	var why *server.NotReadyError
	require.ErrorAs(t, b.node.Ready(), &why)
	return why
}

// connectTo is a Config.Connect.
func connectTo(url string) func(context.Context) (*pgx.ConnConfig, error) {
	return func(context.Context) (*pgx.ConnConfig, error) { return pgx.ParseConfig(url) }
}

const never = 24 * time.Hour // nothing waits for that long in a test
