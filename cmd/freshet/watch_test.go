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
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/client"
)

const (
	rev1 = "0000000a-0000000000000001"
	rev2 = "0000000a-0000000000000002"
)

// watched runs `freshet watch args…` against a server that plays frames once
// and then holds, until output has so many lines, and ends it as Ctrl-C does.
func watched(t *testing.T, frames string, lines int, args ...string) (stdout, stderr string, asked *http.Request, err error) {
	t.Helper()
	requests := make(chan *http.Request, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, frames)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()

	var cmd watchCmd
	parser, err := kong.New(&cmd, kong.Exit(func(int) { t.Fatal("exit") }))
	require.NoError(t, err)
	_, err = parser.Parse(append(args, "--url", server.URL))
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out := &lineCounter{enough: lines, then: cancel}
	var state bytes.Buffer
	err = cmd.run(ctx, out, &state, false, false)
	return out.String(), strings.ReplaceAll(state.String(), server.URL, "URL"), <-requests, err
}

// lineCounter is standard output; after enough lines somebody presses Ctrl-C.
type lineCounter struct {
	bytes.Buffer
	enough int
	then   func()
}

func (c *lineCounter) Write(p []byte) (int, error) {
	n, err := c.Buffer.Write(p)
	if strings.Count(c.String(), "\n") >= c.enough {
		c.then()
	}
	return n, err
}

const frames = "retry: 5\n\n" +
	"event: invalidate\nid: " + rev1 + "\ndata: {\"revision\":\"" + rev1 + "\",\"topics\":[\"messages\",\"conversations/7/messages\"],\"spread_ms\":0}\n\n" +
	"event: ready\nid: " + rev1 + "\ndata: {\"revision\":\"" + rev1 + "\",\"topics\":2,\"heartbeat_ms\":15000,\"contract\":\"c0ff\\u001b[2Jee\"}\n\n" +
	"event: frontier\nid: " + rev2 + "\ndata: {\"revision\":\"" + rev2 + "\",\"lag_ms\":12}\n\n" +
	"event: reset\nid: " + rev2 + "\ndata: {\"revision\":\"" + rev2 + "\",\"reason\":\"epoch\"}\n\n"

func TestWatch_lines(t *testing.T) {
	stdout, stderr, asked, err := watched(t, frames, 4, "messages", "conversations/7/messages", "--since", rev1, "--throttle", "2s")
	require.NoError(t, err, "Ctrl-C is how one leaves it")
	times := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{3}`)
	require.Equal(t, strings.Join([]string{
		"T  invalidate  " + rev1 + "  messages  conversations/7/messages",
		"T  ready       " + rev1 + "  topics 2, heartbeat 15s, contract c0ff\uFFFD[2Jee",
		"T  frontier    " + rev2 + "  lag 12ms",
		"T  reset       " + rev2 + "  reason epoch: refetch everything",
		"",
	}, "\n"), times.ReplaceAllString(stdout, "T"))
	require.Equal(t, "T  connected to URL\n", times.ReplaceAllString(stderr, "T"))
	require.Equal(t, rev1, asked.URL.Query().Get("since"))
	require.Equal(t, "2000", asked.URL.Query().Get("throttle"))
	require.Equal(t, []string{"conversations/7/messages", "messages"}, asked.URL.Query()["topic"])
}

func TestWatch_json(t *testing.T) {
	stdout, _, asked, err := watched(t, frames, 4, "messages", "conversations/7/messages", "--json")
	require.NoError(t, err)
	times := regexp.MustCompile(`"time":"\d{4}-\d\d-\d\dT[^"]+"`)
	require.Equal(t, strings.Join([]string{
		`{T,"event":"invalidate","revision":"` + rev1 + `","topics":["messages","conversations/7/messages"],"spread_ms":0}`,
		`{T,"event":"ready","revision":"` + rev1 + `","subscribed":2,"heartbeat_ms":15000,"contract":"c0ff\u001b[2Jee"}`,
		`{T,"event":"frontier","revision":"` + rev2 + `","lag_ms":12}`,
		`{T,"event":"reset","revision":"` + rev2 + `","reason":"epoch"}`,
		"",
	}, "\n"), times.ReplaceAllString(stdout, "T"))
	require.False(t, asked.URL.Query().Has("throttle"))
}

func TestWatch_token(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("secret\n"), 0o600))
	_, _, asked, err := watched(t, frames, 1, "messages", "--token-file", file)
	require.NoError(t, err)
	require.Equal(t, "Bearer secret", asked.Header.Get("Authorization"))
}

func TestWatch_refused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"code":"permission_denied","message":"no grant on messages"}`)
	}))
	defer server.Close()
	cmd := watchCmd{Topics: []string{"messages"}, URL: server.URL}
	err := cmd.run(t.Context(), io.Discard, io.Discard, false, false)
	require.EqualError(t, err, "the server answered 403 Forbidden: permission_denied: no grant on messages")
}

// However long a server was away, its follower is back within three seconds of it.
func TestWatch_isBackSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		back := began.Add(time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		asks := 0
		cmd := watchCmd{Topics: []string{"messages"}, URL: "http://freshet.test", http: &http.Client{
			Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				if asks++; time.Now().Before(back) {
					return nil, errors.New("connection refused")
				}
				cancel()
				return nil, context.Canceled
			}),
		}}
		require.NoError(t, cmd.run(ctx, io.Discard, io.Discard, false, false))
		require.LessOrEqual(t, time.Since(back), 3*time.Second)
		require.LessOrEqual(t, asks, int(time.Hour/(2*time.Second))+2, "nor does it hammer")
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestWatch_badFlags(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for want, cmd := range map[string]watchCmd{
		"--since":              {Topics: []string{"t"}, URL: "http://h", Since: "7"},
		"--throttle 11s":       {Topics: []string{"t"}, URL: "http://h", Throttle: new(11 * time.Second)},
		"--url":                {Topics: []string{"t"}, URL: "localhost:8080"},
		"is empty":             {Topics: []string{"t"}, URL: "http://h", TokenFile: empty},
		"no such file":         {Topics: []string{"t"}, URL: "http://h", TokenFile: empty + "x"},
		"it contains a contro": {Topics: []string{"a\n"}, URL: "http://h"},
	} {
		require.ErrorContains(t, cmd.run(t.Context(), io.Discard, io.Discard, false, false), want)
	}
}

func TestWatch_colour(t *testing.T) {
	var out, state bytes.Buffer
	now := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC) }
	p := &printer{out: &out, state: &state, outColour: true, stateColour: true, url: "URL", now: now}
	require.NoError(t, p.print(client.Invalidate{Topics: []string{"t"}}))
	require.NoError(t, p.print(client.Disconnected{Err: errors.New("gone\x1b[2J"), Retry: 1234 * time.Millisecond}))
	require.Equal(t, "\x1b[2m03:04:05.006\x1b[0m  \x1b[1minvalidate\x1b[0m    t\n", out.String())
	require.Equal(t, "\x1b[2m03:04:05.006\x1b[0m  \x1b[31mdisconnected: gone\uFFFD[2J; next attempt in 1.23s\x1b[0m\n", state.String())

	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer file.Close()
	require.False(t, colourful(file), "a file is no terminal")
	t.Setenv("NO_COLOR", "1")
	require.False(t, colourful(os.Stdout))
}

// A write that fails ends the command: nobody reads it any more.
func TestWatch_brokenPipe(t *testing.T) {
	p := &printer{out: brokenPipe{}, state: io.Discard, now: time.Now}
	require.ErrorIs(t, p.print(client.Ready{}), io.ErrClosedPipe)
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
