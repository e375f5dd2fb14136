package front_test

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/stretchr/testify/require"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/freshet-dev/freshet/internal/front"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
)

// onlyAda lets nobody in but ada, whose name is her token.
func onlyAda(r *http.Request) (server.Principal, error) {
	if r.Header.Get("Authorization") != "Bearer ada" {
		return server.Principal{}, connect.NewError(connect.CodeUnauthenticated, errors.New("who?"))
	}
	return server.Principal{Subject: "ada"}, nil
}

// Nothing is to be had on the main port without a token, whatever is asked for, but
// health and what the CORS protocol needs to ask at all; and a page that is public.
func TestRun_authenticatesEverything(t *testing.T) {
	t.Run("page too", func(t *testing.T) { authenticatesEverything(t, false) })
	t.Run("public page", func(t *testing.T) { authenticatesEverything(t, true) })
}

func authenticatesEverything(t *testing.T, public bool) {
	r := start(t, func(c *live.Config) {
		c.Authenticate = onlyAda
		c.Front.Authenticated = true
		c.Front.PublicPage = public
		c.Front.Public = map[string]http.Handler{"/sign-in/": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })}
		c.Front.AllowedOrigins = []string{"https://app.example.com"}
	})
	ask := func(method, path string, header ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(r.ctx, method, r.URL+path, nil)
		require.NoError(t, err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := r.http.Do(req)
		require.NoError(t, err)
		if resp.Header.Get("Content-Type") != "text/event-stream" {
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
		}
		require.NoError(t, resp.Body.Close())
		return resp
	}
	const list = "/messages.v1.MessageService/ListConversations"
	for _, tt := range []struct {
		method, path string
		with         int // status with a token
	}{
		{http.MethodGet, list + "?connect=v1&encoding=json&message=%7B%7D", 200},
		{http.MethodPost, list, 415},
		{http.MethodDelete, list, 405},
		{http.MethodPost, "/messages.v1.MessageService/NoSuchMethod", 501},
		{http.MethodGet, "/events?topic=messages", 200},
		{http.MethodPost, "/events", 415},
		{http.MethodPut, "/events", 405},
		{http.MethodPost, "/freshet.v1.InvalidationService/Watch", 415},
		{http.MethodPost, "/" + grpcreflect.ReflectV1ServiceName + "/ServerReflectionInfo", 415},
		{http.MethodPost, "/" + grpcreflect.ReflectV1AlphaServiceName + "/ServerReflectionInfo", 415},
		{http.MethodPost, "/", 405},
		{http.MethodOptions, list, 405},
		{http.MethodGet, "/x/../events?topic=messages", 200}, // by way of a redirect
		{http.MethodGet, "/sign-in/../events?topic=messages", 200},
		{http.MethodPost, "/sign-in/../messages.v1.MessageService/ListConversations", 415},
	} {
		what := tt.method + " " + tt.path
		resp := ask(tt.method, tt.path)
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode, what)
		require.Equal(t, "Bearer", resp.Header.Get("WWW-Authenticate"), what)
		require.Equal(t, "no-store", resp.Header.Get("Cache-Control"), what)
		require.Equal(t, http.StatusUnauthorized, ask(tt.method, tt.path, "Authorization", "Bearer eve").StatusCode, what)
		require.Equal(t, tt.with, ask(tt.method, tt.path, "Authorization", "Bearer ada").StatusCode, what)
	}
	for _, path := range []string{"/", "/favicon.svg", "/no.such/Thing"} {
		resp := ask(http.MethodGet, path)
		require.Equal(t, !public, resp.StatusCode == http.StatusUnauthorized, "%s: %d", path, resp.StatusCode)
	}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		require.Equal(t, http.StatusNoContent, ask(method, "/sign-in/anything").StatusCode, method)
		require.Equal(t, http.StatusNoContent, ask(method, "/sign-in/", "Authorization", "Bearer eve").StatusCode, method)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200} {
		require.Equal(t, want, ask(http.MethodGet, path).StatusCode, path)
	}
	status, err := connect.NewClient[healthv1.HealthCheckRequest, healthv1.HealthCheckResponse](r.http,
		r.URL+"/"+grpchealth.HealthV1ServiceName+"/Check", connect.WithGRPC()).CallUnary(r.ctx, connect.NewRequest(new(healthv1.HealthCheckRequest)))
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_SERVING, status.Msg.GetStatus())

	// A page elsewhere may ask whether it may send a token, and read why not.
	resp := ask(http.MethodOptions, list, "Origin", "https://app.example.com", "Access-Control-Request-Method", "POST")
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	require.Contains(t, resp.Header.Get("Access-Control-Allow-Headers"), "Authorization")
	resp = ask(http.MethodPost, list, "Origin", "https://app.example.com")
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	require.Equal(t, "https://app.example.com", resp.Header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, resp.Header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate")
	require.Empty(t, resp.Header.Get("Access-Control-Allow-Credentials"))
	require.Equal(t, http.StatusUnauthorized, ask(http.MethodOptions, list, "Origin", "https://evil.example", "Access-Control-Request-Method", "POST").StatusCode)
}

// A front that was told that callers are authenticated doesn't open a port for a node
// that lets in everybody.
func TestRun_authenticatedByNobody(t *testing.T) {
	f, err := front.New(front.Config{Addr: "0.0.0.0:0", Authenticated: true})
	require.NoError(t, err)
	node, err := server.New(live.MessageConfig(server.Config{DatabaseURL: testkit.Migrated(t)}))
	require.NoError(t, err)
	require.ErrorContains(t, f.Run(testkit.Context(t), node, nil), "Authenticate")
	require.Empty(t, f.URL())
}
