package server_test

import (
	"net"
	"net/http"
	"strings"
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

// F81: what makes no sense is refused with the name of the flag that it comes
// from.
func TestNew_F81_nonsense(t *testing.T) {
	origins := func(origin string) func(*server.Config) {
		return func(c *server.Config) { c.AllowedOrigins = []string{origin} }
	}
	for name, tt := range map[string]struct {
		change func(*server.Config)
		want   string
	}{
		"a heartbeat that floods":     {func(c *server.Config) { c.Heartbeat = 1 }, "--heartbeat: want a value from 100ms to 1h0m0s"},
		"no heartbeat":                {func(c *server.Config) { c.Heartbeat = server.None }, "--heartbeat"},
		"heartbeats once a day":       {func(c *server.Config) { c.Heartbeat = 24 * time.Hour }, "--heartbeat"},
		"a throttle above a client's": {func(c *server.Config) { c.Throttle = 11 * time.Second }, "--throttle"},
		"waits for a nanosecond":      {func(c *server.Config) { c.MaxWait = 1 }, "--max-wait: want a value from 1ms to 1h0m0s, or 0 for none"},
		"no lag":                      {func(c *server.Config) { c.MaxLag = server.None }, "--max-lag"},
		"no window":                   {func(c *server.Config) { c.ReplayWindow = server.None }, "--replay-window"},
		"no window of bytes":          {func(c *server.Config) { c.ReplayWindowBytes = server.None }, "--replay-window-bytes"},
		"a busy probe":                {func(c *server.Config) { c.ProbeInterval = 1 }, "--probe-interval"},
		"no streams":                  {func(c *server.Config) { c.MaxStreams = server.None }, "--max-streams"},
		"no topics":                   {func(c *server.Config) { c.MaxTopics = server.None }, "--max-topics"},
		"no topics of a stream":       {func(c *server.Config) { c.MaxStreamTopics = server.None }, "--max-stream-topics"},
		"no memory":                   {func(c *server.Config) { c.MaxTopicBytes = 1 }, "--max-topic-bytes"},
		"no connections":              {func(c *server.Config) { c.MaxConnections = server.None }, "--max-connections"},
		"no time to read":             {func(c *server.Config) { c.WriteTimeout = server.None }, "--write-timeout"},
		"no time to send":             {func(c *server.Config) { c.ReadTimeout = 1 }, "--read-timeout"},
		"no requests":                 {func(c *server.Config) { c.MaxRequestBytes = 1 }, "--max-request-bytes"},
		"no headers":                  {func(c *server.Config) { c.MaxHeaderBytes = server.None }, "--max-header-bytes"},
		"a negative pool":             {func(c *server.Config) { c.MaxConns = -1 }, "--max-conns"},
		"a slot's name":               {func(c *server.Config) { c.Slot = "Freshet-1" }, "--slot"},
		"an address":                  {func(c *server.Config) { c.AdminAddr = "9090" }, "--admin-addr"},
		"a proxy's name":              {func(c *server.Config) { c.TrustedProxies = []string{"nginx"} }, "--trusted-proxy"},
		"a host with a port":          {func(c *server.Config) { c.Hosts = []string{"app.example.com:443"} }, "--host"},
		"a host with a scheme":        {func(c *server.Config) { c.Hosts = []string{"https://app.example.com"} }, "--host"},
		"an empty host":               {func(c *server.Config) { c.Hosts = []string{""} }, "--host"},
		"origin in upper case":        {origins("https://App.example.com"), `lower case: "https://app.example.com"`},
		"origin with the usual port":  {origins("https://app.example.com:443"), `leave the usual port out: "https://app.example.com"`},
		"origin with an empty port":   {origins("http://app.example.com:"), "leave the usual port out"},
		"origin with a strange port":  {origins("http://app.example.com:080"), "is no port"},
		"origin with a pattern":       {origins("https://*.example.com"), "no patterns"},
		"origin in Unicode":           {origins("https://bücher.example"), "ASCII"},
		"origin with a slash":         {origins("https://app.example.com/"), "scheme://host"},
		"origin of nobody":            {origins("https://:8443"), "no host"},
		"the opaque origin":           {origins("null"), "scheme://host"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := server.Config{DatabaseURL: "postgres://x"}
			tt.change(&cfg)
			_, err := server.New(cfg, messageService)
			require.ErrorContains(t, err, tt.want)
		})
	}
	for _, origin := range []string{"https://app.example.com:8443", "http://localhost:5173", "http://[::1]:3000", "capacitor://localhost", "chrome-extension://abcdefghijklmnop", "*"} {
		cfg := server.Config{DatabaseURL: "postgres://x"}
		origins(origin)(&cfg)
		_, err := server.New(cfg, messageService)
		require.NoError(t, err, origin)
	}
	cfg := server.Config{
		DatabaseURL: "postgres://x", MaxWait: server.None, MaxSettle: server.None, Throttle: server.None,
		ReadInterval: server.None, Linger: server.None, CacheBytes: server.None, Drain: server.None,
		MaxConnectionsPerAddress: server.None, MaxStreamsPerAddress: server.None,
	}
	_, err := server.New(cfg, messageService)
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
	allowed := strings.Split(preflight.Get("Access-Control-Allow-Headers"), ", ")
	require.Contains(t, allowed, intercept.HeaderAtLeast)
	// F72: what tracing adds to every request of a page, and Connect's clients to
	// theirs.
	require.Subset(t, allowed, []string{"traceparent", "tracestate", "baggage", "b3", "Connect-Protocol-Version", "Connect-Timeout-Ms", "Content-Type", "Grpc-Timeout", "X-User-Agent"})
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
