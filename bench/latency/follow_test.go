package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// broken is a server that can be wrong in the ways that the program must see.
type broken struct {
	messagesv1connect.UnimplementedMessageServiceHandler

	stale   int32  // answers that lack the row
	frames  string // after ready, when commit is closed
	cut     bool   // the stream ends after them
	commit  chan struct{}
	answers atomic.Int32
	asked   atomic.Value // at-least of the last read
}

func (s *broken) ListMessages(_ context.Context, r *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	s.asked.Store(r.Header().Get("Freshet-At-Least"))
	if s.answers.Add(1) <= s.stale {
		return connect.NewResponse(&messagesv1.ListMessagesResponse{}), nil
	}
	return connect.NewResponse(&messagesv1.ListMessagesResponse{
		Messages: []*messagesv1.Message{{Name: r.Msg.GetParent() + "/messages/1"}},
	}), nil
}

func (s *broken) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "event: ready\nid: 00000001-0000000000000001\ndata: {\"revision\":\"00000001-0000000000000001\",\"topics\":1}\n\n")
	_ = http.NewResponseController(w).Flush()
	select {
	case <-s.commit:
	case <-r.Context().Done():
		return
	}
	_, _ = io.WriteString(w, s.frames)
	_ = http.NewResponseController(w).Flush()
	if !s.cut {
		<-r.Context().Done()
	}
}

const (
	noticed = "event: invalidate\nid: 00000001-0000000000000009\n" +
		"data: {\"revision\":\"00000001-0000000000000009\",\"topics\":[\"conversations/a/messages\"],\"spread_ms\":0}\n\n"
	epochOver = "event: reset\nid: 00000002-0000000000000001\ndata: {\"revision\":\"00000002-0000000000000001\",\"reason\":\"epoch\"}\n\n"
)

// follows commits one row on s and follows it. The error is the follower's, or
// of the wait for the sample's end.
func follows(t *testing.T, s *broken) (*book, error) {
	t.Helper()
	s.commit = make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/events", s.events)
	mux.Handle(messagesv1connect.NewMessageServiceHandler(s))
	server := httptest.NewServer(mux)
	defer server.Close()
	h := server.Client()
	defer h.CloseIdleConnections()

	b := newBook([]string{"a"})
	f, err := newFollower(server.URL, h, []string{"a"}, b)
	require.NoError(t, err)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	ready, done := make(chan struct{}, 2), make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		done <- f.run(ctx, func() { ready <- struct{}{} })
		close(ended)
	}()
	<-ready
	<-ready
	sample, err := b.begin(named)
	require.NoError(t, err)
	b.committed(sample, time.Now(), time.Now())
	close(s.commit)

	draining, cancel := context.WithCancelCause(ctx)
	go func() {
		<-ended
		cancel(errors.New("the follower ended"))
	}()
	drained := b.drain(draining)
	if drained == nil {
		stop()
		return b, <-done
	}
	return b, <-done
}

func TestFollower_sound(t *testing.T) {
	s := &broken{frames: noticed}
	b, err := follows(t, s)
	require.NoError(t, err)
	finished, early, stray := b.counts()
	require.Equal(t, [3]int{1, 0, 0}, [3]int{finished, early, stray})
	_, err = b.verdict()
	require.NoError(t, err)
	require.Equal(t, "00000001-0000000000000009", s.asked.Load(), "the notice's revision")
}

// G1: an answer at-least the notice's revision that lacks the row is counted.
func TestFollower_countsAnswersWithoutTheRow(t *testing.T) {
	b, err := follows(t, &broken{frames: noticed, stale: 3})
	require.NoError(t, err)
	finished, early, _ := b.counts()
	require.Equal(t, [2]int{1, 3}, [2]int{finished, early})
	_, err = b.verdict()
	require.ErrorContains(t, err, "3 responses lacked the row")
}

func TestFollower_disturbed(t *testing.T) {
	_, err := follows(t, &broken{cut: true})
	require.ErrorContains(t, err, "cut while it was measured")
	_, err = follows(t, &broken{frames: epochOver})
	require.ErrorContains(t, err, "epoch changed")
}
