package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// rev is a revision of epoch 10.
func rev(position uint64) freshet.Revision {
	return freshet.Revision{Epoch: 10, Position: position}
}

// call is one request that a fake server got.
type call struct {
	method string
	header http.Header
	query  map[string][]string
	body   string
}

// fakeServer plays one scene per connection; the last scene repeats.
type fakeServer struct {
	*httptest.Server
	mu     sync.Mutex
	calls  []call
	scenes []func(*wire)
}

// wire is the server's end of one connection.
type wire struct {
	t *testing.T
	w http.ResponseWriter
	r *http.Request
}

func newFakeServer(t *testing.T, scenes ...func(*wire)) *fakeServer {
	t.Helper()
	f := &fakeServer{scenes: scenes}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		n := len(f.calls)
		f.calls = append(f.calls, call{method: r.Method, header: r.Header.Clone(), query: r.URL.Query(), body: string(body)})
		f.mu.Unlock()
		scenes[min(n, len(scenes)-1)](&wire{t: t, w: w, r: r})
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
		f.Client().CloseIdleConnections()
	})
	return f
}

func (f *fakeServer) call(i int) call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[i]
}

// send writes frames; the stream begins with the first.
func (c *wire) send(frames ...string) {
	c.w.Header().Set("Content-Type", "text/event-stream")
	for _, f := range frames {
		_, _ = io.WriteString(c.w, f)
	}
	_ = http.NewResponseController(c.w).Flush()
}

// hold keeps the connection open until the client goes.
func (c *wire) hold() { <-c.r.Context().Done() }

// cut ends the connection without the end of the body.
func (c *wire) cut() { panic(http.ErrAbortHandler) }

func (c *wire) fail(status int, body string, header ...string) {
	for i := 0; i < len(header); i += 2 {
		c.w.Header().Set(header[i], header[i+1])
	}
	c.w.WriteHeader(status)
	_, _ = io.WriteString(c.w, body)
}

func invalidateFrame(r freshet.Revision, topics ...string) string {
	return fmt.Sprintf("event: invalidate\nid: %s\ndata: {\"revision\":%q,\"topics\":[\"%s\"],\"spread_ms\":0}\n\n",
		r, r.String(), strings.Join(topics, `","`))
}

func readyFrame(r freshet.Revision, heartbeat time.Duration) string {
	return fmt.Sprintf("event: ready\nid: %s\ndata: {\"revision\":%q,\"topics\":1,\"heartbeat_ms\":%d,\"contract\":\"c0ffee\"}\n\n",
		r, r.String(), heartbeat.Milliseconds())
}

func frontierFrame(r freshet.Revision, lagMS int) string {
	return fmt.Sprintf("event: frontier\nid: %s\ndata: {\"revision\":%q,\"lag_ms\":%d}\n\n", r, r.String(), lagMS)
}

// errEnough is what a sink returns to end a test's stream.
var errEnough = errors.New("enough")

// deadline ends a test that would hang; nothing waits for it otherwise.
const deadline = 20 * time.Second

// collect follows topic t until enough says so, and returns all events.
func collect(t *testing.T, c *Client, enough func([]Event) bool, opts ...StreamOption) []Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var events []Event
	err := c.Stream(ctx, []string{"t"}, func(e Event) error {
		events = append(events, e)
		if enough(events) {
			return errEnough
		}
		return nil
	}, opts...)
	require.ErrorIs(t, err, errEnough, "events so far: %v", events)
	return events
}

// last reports whether the last event is an E.
func last[E Event](events []Event) bool {
	_, ok := events[len(events)-1].(E)
	return ok
}

// only keeps the events that are an E.
func only[E Event](events []Event) []E {
	var out []E
	for _, e := range events {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

// quick is a client whose waits between attempts are short.
func quick(t *testing.T, f *fakeServer, opts ...Option) *Client {
	t.Helper()
	c, err := New(f.URL, append([]Option{
		WithHTTPClient(f.Client()), WithBackoff(time.Millisecond, 4*time.Millisecond),
	}, opts...)...)
	require.NoError(t, err)
	return c
}
