package client

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/r3labs/sse/v2"
	"github.com/stretchr/testify/require"
)

// This is why the server writes its own frames (docs/decisions/0001): in
// r3labs/sse, one subscriber that doesn't drain stops the stream of all others.
// If this test fails after an upgrade, that reason is gone.
func TestR3labsServer_oneFullSubscriberStopsAllOthers(t *testing.T) {
	const published = 200
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		server := sse.New()
		server.AutoReplay = false
		server.CreateStream("s")
		subscribe := func(w http.ResponseWriter) {
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/?stream=s", nil)
			go server.ServeHTTP(w, r)
			synctest.Wait() // registered
		}
		full := &subscriber{drain: make(chan struct{})}
		healthy := &subscriber{}
		subscribe(full)
		subscribe(healthy)

		for i := range published {
			server.Publish("s", &sse.Event{ID: []byte(strconv.Itoa(i)), Data: []byte("x")})
		}
		// Now every goroutine has done what it can, and waits for another.
		synctest.Wait()
		// One event in the full subscriber's hands, 64 in its queue; the loop
		// holds the next one, and the healthy subscriber hears no more.
		require.EqualValues(t, 65, healthy.events.Load())

		close(full.drain)
		synctest.Wait()
		require.EqualValues(t, published, healthy.events.Load(), "it was the full one that stopped it")

		cancel()
		synctest.Wait()
		server.Close()
	})
}

// subscriber is a connection; a full one takes nothing until it is drained.
type subscriber struct {
	header http.Header
	drain  chan struct{} // nil: drains always
	events atomic.Int64
}

func (s *subscriber) Header() http.Header {
	if s.header == nil {
		s.header = http.Header{}
	}
	return s.header
}

func (s *subscriber) WriteHeader(int) {}
func (s *subscriber) Flush()          {}

func (s *subscriber) Write(p []byte) (int, error) {
	if s.drain != nil {
		<-s.drain
	}
	if strings.HasPrefix(string(p), "data:") {
		s.events.Add(1)
	}
	return len(p), nil
}

// The other half of the reason: its positions are numbers of one process, so
// that ours (`<epoch>-<position>`) are refused.
func TestR3labsServer_refusesOurPositions(t *testing.T) {
	server := sse.New()
	defer server.Close()
	server.CreateStream("s")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?stream=s", nil)
	r.Header.Set("Last-Event-ID", rev(1).String())
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "Last-Event-ID must be a number")
}
