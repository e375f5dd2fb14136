package server_test

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

func TestNew_refuses(t *testing.T) {
	good := server.Config{DatabaseURL: "postgres://x"}
	_, err := server.New(good, messageService)
	require.NoError(t, err)
	_, err = server.New(good)
	require.ErrorContains(t, err, "no service")
	for name, tt := range map[string]struct {
		change func(*server.Config)
		want   string
	}{
		"no database":        {func(c *server.Config) { c.DatabaseURL = "" }, "no database URL"},
		"every interface":    {func(c *server.Config) { c.Addr = ":8080" }, "--insecure"},
		"another interface":  {func(c *server.Config) { c.Addr = "10.0.0.1:8080" }, "--insecure"},
		"a name":             {func(c *server.Config) { c.Addr = "example.com:8080" }, "--insecure"},
		"admin elsewhere":    {func(c *server.Config) { c.AdminAddr = "0.0.0.0:9090" }, "--insecure"},
		"no port":            {func(c *server.Config) { c.Addr = "127.0.0.1" }, "want host:port"},
		"negative wait":      {func(c *server.Config) { c.MaxWait = -time.Second }, "max wait"},
		"negative limit":     {func(c *server.Config) { c.MaxRequestBytes = -1 }, "negative"},
		"origin with a path": {func(c *server.Config) { c.AllowedOrigins = []string{"https://a.example/b"} }, "scheme://host"},
		"origin is a name":   {func(c *server.Config) { c.AllowedOrigins = []string{"a.example"} }, "scheme://host"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			_, err := server.New(cfg, messageService)
			require.ErrorContains(t, err, tt.want)
		})
	}
	for _, addr := range []string{"localhost:1", "127.0.0.2:1", "[::1]:1"} {
		cfg := good
		cfg.Addr = addr
		_, err := server.New(cfg, messageService)
		require.NoError(t, err, addr)
	}
	good.Addr, good.Insecure = "0.0.0.0:8080", true
	_, err = server.New(good, messageService)
	require.NoError(t, err)
}

func TestRun_crossOrigin(t *testing.T) {
	r := start(t, testkit.Migrated(t), func(c *server.Config) { c.AllowedOrigins = []string{"https://app.example"} })
	ask := func(method, origin string) http.Header {
		req, err := http.NewRequestWithContext(r.ctx, method, r.url+"/messages.v1.MessageService/ListMessages", nil)
		require.NoError(t, err)
		req.Header.Set("Origin", origin)
		if method == http.MethodOptions {
			req.Header.Set("Access-Control-Request-Method", "POST")
		}
		resp, err := r.http.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Empty(t, resp.Header.Get("Access-Control-Allow-Credentials"))
		require.Contains(t, resp.Header.Values("Vary"), "Origin")
		return resp.Header
	}
	preflight := ask(http.MethodOptions, "https://app.example")
	require.Equal(t, "https://app.example", preflight.Get("Access-Control-Allow-Origin"))
	require.Contains(t, preflight.Get("Access-Control-Allow-Headers"), intercept.HeaderAtLeast)
	require.Contains(t, ask(http.MethodPost, "https://app.example").Get("Access-Control-Expose-Headers"), intercept.HeaderRevision)
	require.Empty(t, ask(http.MethodOptions, "https://evil.example").Get("Access-Control-Allow-Origin"))
}

func TestRun_pageAndItsHeaders(t *testing.T) {
	r := start(t, testkit.Migrated(t), nil)
	resp, err := r.http.Get(r.url + "/")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"))
	require.NotEmpty(t, resp.Header.Get("Content-Security-Policy"))
}

// freeAddr is an address that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
