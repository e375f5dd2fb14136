package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// F51: doctor --url names what a path does to a stream: real proxies, set up in the
// ways that do harm, and as docs/operations.md has them.
func TestDoctor_F51_path(t *testing.T) {
	url, stop := serving(t, "--database-url", testkit.Database(t), "--heartbeat=1s")
	upstream := strings.TrimPrefix(url, "http://")
	const nginx = "server { listen 127.0.0.1:8000; location / { proxy_pass http://127.0.0.1:8080; %s } }"
	const haproxy = `
defaults
    mode http
    %s
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend public
    bind 127.0.0.1:8000
    default_backend freshet
backend freshet
    server one 127.0.0.1:8080
`
	with := func(config, setting string) string { return strings.Replace(config, "%s", setting, 1) }
	for name, c := range map[string]struct {
		proxy, config string
		code          int
		want          string
	}{
		"nginx":          {"nginx", testkit.ConfigIn(t, "docs/operations.md", "nginx"), exitOK, "heartbeats came, every 1s"},
		"haproxy":        {"haproxy", testkit.ConfigIn(t, "docs/operations.md", "haproxy"), exitOK, "heartbeats came, every 1s"},
		"caddy":          {"caddy", testkit.ConfigIn(t, "docs/operations.md", "caddy"), exitOK, "through"},
		"held back":      {"haproxy", with(haproxy, ""), exitFailed, "option http-no-delay"},
		"buffered":       {"nginx", with(nginx, "proxy_ignore_headers X-Accel-Buffering;"), exitFailed, "buffers it"},
		"compressed":     {"nginx", with(nginx, "gzip on; gzip_min_length 0; gzip_proxied any; gzip_types text/event-stream;"), exitFailed, "compresses the stream (gzip)"},
		"cut":            {"nginx", with(nginx, "proxy_read_timeout 300ms;"), exitFailed, "was cut after"},
		"of another way": {"nginx", with(nginx, "} location /events { return 404;"), exitFailed, "/events is answered 404"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, _ := testkit.NewWebProxy(t, c.proxy, upstream, c.config)
			code, stdout, stderr := runs(t, "doctor", "--url", "http://"+front)
			require.Equal(t, c.code, code, stdout+stderr)
			require.Contains(t, stdout, c.want)
			if c.code == exitOK {
				require.NotContains(t, stdout, "problem")
			}
		})
	}
	t.Run("directly", func(t *testing.T) {
		code, stdout, stderr := runs(t, "doctor", "--url", url)
		require.Equal(t, exitOK, code, stdout+stderr)
	})
	t.Cleanup(func() { require.Equal(t, exitOK, stop()) }) // after those in parallel
}

// A server that asks who calls is looked at with a token, or says what is missing.
func TestDoctor_pathWithToken(t *testing.T) {
	url, stop := serving(t, "--database-url", testkit.Database(t), "--heartbeat=1s", "--demo-auth", "--addr="+live.FreeAddr(t), "--data-dir="+t.TempDir())
	resp, err := http.PostForm(url+"/demo/token", map[string][]string{"account": {"bob"}}) //nolint:noctx // the test's
	require.NoError(t, err)
	token, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, token, 0o600))
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitFailed, "401 Unauthorized"},
		{nil, exitFailed, "--token-file"},
		{[]string{"--token-file", file}, exitFailed, "--topic"},
		{[]string{"--token-file", file, "--topic", "conversations/7/messages"}, exitOK, "heartbeats came, every 1s"},
	} {
		code, stdout, stderr := runs(t, append([]string{"doctor", "--url", url}, c.args...)...)
		require.Equal(t, c.code, code, stdout+stderr)
		require.Contains(t, stdout, c.want)
		require.NotContains(t, stdout+stderr, strings.TrimSpace(string(token)))
	}
	require.Equal(t, exitOK, stop())
}

// Who interrupts doctor cuts its stream, and the path is blamed for nothing.
func TestDoctor_pathInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(testkit.Context(t))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/events" {
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: ready\ndata: {\"heartbeat_ms\":60000}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	progress := writerFunc(func(b []byte) (int, error) { interrupt(); return len(b), nil }) // it waits for a heartbeat
	var out bytes.Buffer
	run(ctx, []string{"doctor", "--url", server.URL}, &out, progress)
	require.Contains(t, out.String(), "the first frame of a stream")
	require.NotContains(t, out.String(), "problem")
}

// A service of somebody's own need have nothing but the stream, and somebody may ask for
// tokens on all other paths.
func TestDoctor_pathOfAServiceOfOnesOwn(t *testing.T) {
	for status, code := range map[int]int{
		http.StatusNotFound:     exitOK,
		http.StatusUnauthorized: exitOK,
		http.StatusBadGateway:   exitFailed,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/events" {
				w.WriteHeader(status)
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "event: ready\ndata: {\"heartbeat_ms\":100}\n\n")
			beats := time.NewTicker(100 * time.Millisecond)
			defer beats.Stop()
			for r.Context().Err() == nil {
				_ = http.NewResponseController(w).Flush()
				<-beats.C
				_, _ = io.WriteString(w, "event: frontier\ndata: {}\n\n")
			}
		}))
		got, stdout, stderr := runs(t, "doctor", "--url", server.URL)
		server.Close()
		require.Equal(t, code, got, stdout+stderr)
		require.Equal(t, code == exitOK, strings.Contains(stdout, "2 heartbeats came"))
	}
	nothing := httptest.NewServer(http.NotFoundHandler())
	defer nothing.Close()
	code, stdout, _ := runs(t, "doctor", "--url", nothing.URL)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "A service of your own mounts the stream at /events")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestDoctor_pathOfAnotherKind(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer other.Close()
	for url, want := range map[string]string{
		other.URL:            "something in between answers",
		"http://127.0.0.1:1": "nobody answers",
	} {
		code, stdout, _ := runs(t, "doctor", "--url", url)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stdout, want)
	}
	code, _, stderr := runs(t, "doctor", "--url", "localhost")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "want http://host:port or https://host")
}
