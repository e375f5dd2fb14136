package front_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server/intercept"
)

// raw sends one request's text on a connection of its own, and returns the
// answer's status and body. The connection is closed with the test.
func raw(t *testing.T, addr, text string) (status int, body string) {
	t.Helper()
	resp := answerTo(t, connectTo(t, addr), text)
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return resp.StatusCode, "" // it has no end
	}
	read, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, string(read)
}

func connectTo(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(testkit.Context(t), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func answerTo(t *testing.T, conn net.Conn, text string) *http.Response {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return resp
}

// F57: whoever asks for a name that isn't ours (a page whose own name resolves to
// our address) gets 421, on every port, path and protocol.
func TestRun_F57_foreignHost(t *testing.T) {
	admin := live.FreeAddr(t)
	r := start(t, func(c *live.Config) {
		c.Front.AdminAddr = admin
		c.Front.Hosts = []string{"app.example.com"}
		c.Front.Insecure = true
	})
	addr := strings.TrimPrefix(r.URL, "http://")
	const list = "/messages.v1.MessageService/ListConversations?connect=v1&encoding=json&message=%7B%7D"
	for _, path := range []string{"/", "/healthz", "/readyz", "/events?topic=messages", list} {
		code, body := raw(t, addr, "GET "+path+" HTTP/1.1\r\nHost: evil.example:8080\r\nConnection: close\r\n\r\n")
		require.Equal(t, http.StatusMisdirectedRequest, code, path)
		require.Contains(t, body, `{"code":"permission_denied","message":"`, path)
		for _, host := range []string{"localhost:1", "APP.example.com"} {
			code, _ = raw(t, addr, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			require.Equal(t, http.StatusOK, code, path)
		}
	}
	code, _ := raw(t, addr, "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	require.Equal(t, http.StatusMisdirectedRequest, code, "the target's host counts")
	// F69: arguments may hold a password.
	_, body := raw(t, admin, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	require.Equal(t, os.Args[0], body)
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/debug/pprof/cmdline"} {
		code, _ := raw(t, admin, "GET "+path+" HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
		require.Equal(t, http.StatusMisdirectedRequest, code, path)
	}

	req, err := http.NewRequestWithContext(r.ctx, http.MethodPost, r.URL+"/messages.v1.MessageService/CreateMessage", strings.NewReader(`{}`))
	require.NoError(t, err)
	req.Host = "evil.example" // HTTP/2: :authority
	resp, err := r.http.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusMisdirectedRequest, resp.StatusCode)

	foreign, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("evil.example"))
	require.NoError(t, err)
	defer func() { require.NoError(t, foreign.Close()) }()
	err = foreign.Invoke(r.ctx, messagesv1connect.MessageServiceListConversationsProcedure,
		new(messagesv1.ListConversationsRequest), new(messagesv1.ListConversationsResponse))
	require.Equal(t, codes.Unknown, status.Code(err), "%v", err)
	_, err = healthv1.NewHealthClient(foreign).Check(r.ctx, new(healthv1.HealthCheckRequest))
	require.ErrorContains(t, err, "421")
}

// F72: what errs is kept by no cache, whoever answers.
func TestRun_F72_errorsAreNotKept(t *testing.T) {
	r := start(t, nil)
	addr := strings.TrimPrefix(r.URL, "http://")
	for _, target := range []string{
		"/messages.v1.MessageService/GetMessage?connect=v1&encoding=json&message=%7B%22name%22%3A%22conversations/7/messages/01890a5d-ac96-774b-bcce-b302099a8057%22%7D",
		"/messages.v1.MessageService/GetMessage?connect=v1&encoding=json&message=junk",
		"/messages.v1.MessageService/ListMessages?connect=v1&encoding=json&message=%7B%7D",
		"/messages.v1.MessageService/Nothing?connect=v1&encoding=json&message=%7B%7D",
		"/messages.v1.MessageService/CreateMessage?connect=v1&encoding=json&message=%7B%7D",
		"/nothing", "/events", "/events?topic=a&typo=b",
	} {
		resp := answerTo(t, connectTo(t, addr), "GET "+target+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		require.GreaterOrEqual(t, resp.StatusCode, 400, target)
		require.Equal(t, "no-store", resp.Header.Get("Cache-Control"), target)
		require.NoError(t, resp.Body.Close())
	}
}

// F63: a node that has lost its feed for longer than --max-lag sends its clients
// to another, if it is told that there is one, and takes them again when it is
// well.
func TestRun_F63_clientsAreSentAway(t *testing.T) {
	database := testkit.Migrated(t)
	feed := testkit.NewProxy(t, database)
	r := startOn(t, database, func(c *live.Config) {
		c.CaptureURL, c.ShedStreams, c.MaxLag = feed.URL(), true, 200*time.Millisecond
	})
	const request = "GET /events?topic=messages HTTP/1.1\r\nHost: localhost\r\n\r\n"
	addr := strings.TrimPrefix(r.URL, "http://")
	stream := connectTo(t, addr)
	_, err := io.WriteString(stream, request)
	require.NoError(t, err)
	lines := bufio.NewScanner(stream)
	for lines.Scan() && lines.Text() != "event: ready" {
		continue
	}
	feed.Pause()
	var said strings.Builder
	for lines.Scan() { // to its end
		said.WriteString(lines.Text() + "\n")
	}
	require.NoError(t, lines.Err())
	require.Regexp(t, `retry: \d+\n`, said.String())
	code, body := raw(t, addr, request)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "another")
	feed.Resume()
	require.Eventually(t, func() bool {
		code, _ := raw(t, addr, request)
		return code == http.StatusOK
	}, time.Minute, 50*time.Millisecond)
}

func TestRun_crossOrigin(t *testing.T) {
	r := start(t, func(c *live.Config) { c.Front.AllowedOrigins = []string{"https://app.example"} })
	ask := func(method, origin string) http.Header {
		req, err := http.NewRequestWithContext(r.ctx, method, r.URL+"/messages.v1.MessageService/ListMessages", nil)
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
	r := start(t, nil)
	resp, err := r.http.Get(r.URL + "/")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"))
	require.NotEmpty(t, resp.Header.Get("Content-Security-Policy"))
}
