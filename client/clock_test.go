package client

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests in this file run on a fake clock (testing/synctest), so they wait
// for nothing and their times are exact. The network is a pipe.

// pipeNet answers requests with scenes; the last one repeats.
type pipeNet struct {
	scenes  []func(*pipeEnd)
	calls   int
	asked   []string // Last-Event-ID of each request
	tokens  []string // of each request
	hosts   []string // of each request
	playing sync.WaitGroup
}

// pipeEnd is the server's end of a pipe.
type pipeEnd struct {
	ctx    context.Context
	body   *io.PipeWriter
	answer chan<- *http.Response
	pipe   *io.PipeReader
}

func (n *pipeNet) RoundTrip(r *http.Request) (*http.Response, error) {
	scene := n.scenes[min(n.calls, len(n.scenes)-1)]
	n.calls++
	n.asked = append(n.asked, r.Header.Get("Last-Event-ID"))
	n.tokens = append(n.tokens, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	n.hosts = append(n.hosts, r.URL.Host)
	pr, pw := io.Pipe()
	answer := make(chan *http.Response, 1)
	stop := context.AfterFunc(r.Context(), func() { _ = pr.CloseWithError(r.Context().Err()) })
	n.playing.Go(func() {
		defer stop()
		scene(&pipeEnd{ctx: r.Context(), body: pw, answer: answer, pipe: pr})
		_ = pw.Close()
	})
	select {
	case resp := <-answer:
		return resp, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (e *pipeEnd) open() {
	e.answer <- &http.Response{StatusCode: http.StatusOK, Body: e.pipe, Header: http.Header{"Content-Type": {eventStream}}}
}

func (e *pipeEnd) fail(status int, header http.Header) {
	e.answer <- &http.Response{StatusCode: status, Body: http.NoBody, Header: header}
}

func (e *pipeEnd) send(frame string) { _, _ = io.WriteString(e.body, frame) }
func (e *pipeEnd) hold()             { <-e.ctx.Done() }

// onFakeClock follows topic t on a fake clock until sink returns errEnough.
func onFakeClock(t *testing.T, sink func(Event) error, opts []Option, scenes ...func(*pipeEnd)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := &pipeNet{scenes: scenes}
		c, err := New("http://freshet.test", append([]Option{
			WithHTTPClient(&http.Client{Transport: network}),
		}, opts...)...)
		require.NoError(t, err)
		require.ErrorIs(t, c.Stream(t.Context(), []string{"t"}, sink), errEnough)
		network.playing.Wait() // a scene may be asleep when its stream ends
		synctest.Wait()        // every goroutine has ended, or the bubble deadlocks
	})
}

// F19: the heartbeats stop, the connection stays.
func TestStream_heartbeatsStop(t *testing.T) {
	var begin time.Time
	onFakeClock(t, func(e Event) error {
		switch e := e.(type) {
		case Connected:
			begin = time.Now()
		case Disconnected:
			require.Equal(t, &SilenceError{After: 25 * time.Second}, e.Err)
			require.Equal(t, 30*time.Second+25*time.Second, time.Since(begin))
			return errEnough
		}
		return nil
	}, nil, func(e *pipeEnd) {
		e.open()
		e.send(readyFrame(rev(1), 10*time.Second))
		for range 3 {
			time.Sleep(10 * time.Second)
			e.send(frontierFrame(rev(2), 0))
		}
		e.hold()
	})
}

// F19, the other half: comments are no events for r3labs, but they are a sign
// of life, and so is half a frame. An idle healthy stream stays.
func TestStream_anyByteIsASignOfLife(t *testing.T) {
	onFakeClock(t, func(e Event) error {
		switch e := e.(type) {
		case Disconnected:
			return e.Err
		case Frontier:
			return errEnough
		}
		return nil
	}, nil, func(e *pipeEnd) {
		e.open()
		e.send(readyFrame(rev(1), time.Second))
		for _, part := range []string{":\n\n", ": half", " a", " comment\n\n", "event: front", "ier\nda"} {
			time.Sleep(2400 * time.Millisecond)
			e.send(part)
		}
		time.Sleep(2400 * time.Millisecond)
		e.send("ta: {\"revision\":\"" + rev(2).String() + "\"}\n\n")
		e.hold()
	})
}

// Without a heartbeat announced, the default's 2.5 times count: 37.5 s.
func TestStream_silentBeforeReady(t *testing.T) {
	onFakeClock(t, func(e Event) error {
		if e, ok := e.(Disconnected); ok {
			require.Equal(t, &SilenceError{After: 37500 * time.Millisecond}, e.Err)
			return errEnough
		}
		return nil
	}, nil, func(e *pipeEnd) { e.open(); e.hold() })
}

// A sink that takes its time is not a server that is silent.
func TestStream_slowSinkIsNotSilence(t *testing.T) {
	var frontiers int
	onFakeClock(t, func(e Event) error {
		switch e := e.(type) {
		case Disconnected:
			return e.Err
		case Frontier:
			if frontiers++; frontiers == 3 {
				return errEnough
			}
			time.Sleep(time.Hour)
		}
		return nil
	}, nil, func(e *pipeEnd) {
		e.open()
		e.send(readyFrame(rev(1), time.Second))
		for e.ctx.Err() == nil {
			time.Sleep(time.Second)
			e.send(frontierFrame(rev(2), 0))
		}
	})
}

// A server that accepts and never answers is noticed too.
func TestStream_noHeader(t *testing.T) {
	onFakeClock(t, func(e Event) error {
		if e, ok := e.(Disconnected); ok {
			require.Equal(t, &SilenceError{After: 3 * time.Second}, e.Err)
			return errEnough
		}
		return nil
	}, []Option{WithConnectTimeout(3 * time.Second)}, func(e *pipeEnd) { e.hold() })
}

// Retry-After and `retry:` are floors; without them waits double, up to a bound.
func TestStream_waits(t *testing.T) {
	busy := func(status int, after string) func(*pipeEnd) {
		return func(e *pipeEnd) { e.fail(status, http.Header{"Retry-After": {after}}) }
	}
	closes := func(frames ...string) func(*pipeEnd) {
		return func(e *pipeEnd) {
			e.open()
			for _, f := range frames {
				e.send(f)
			}
		}
	}
	between := func(low, high time.Duration) func(time.Duration) {
		return func(d time.Duration) {
			t.Helper()
			require.GreaterOrEqual(t, d, low)
			require.LessOrEqual(t, d, high)
		}
	}
	exactly := func(d time.Duration) func(time.Duration) { return between(d, d) }
	steps := []struct {
		scene func(*pipeEnd)
		wait  func(time.Duration)
	}{
		{busy(503, "40"), exactly(40 * time.Second)},
		{busy(429, "60"), exactly(60 * time.Second)},
		{busy(502, ""), between(4*time.Second, 6*time.Second)},
		{busy(408, "soon"), between(8*time.Second, 12*time.Second)},
		{busy(500, ""), between(10*time.Second, 15*time.Second)}, // the bound
		{closes(), between(10*time.Second, 15*time.Second)},      // opened, but never ready
		{closes(readyFrame(rev(1), time.Minute)), between(time.Second, 1500*time.Millisecond)},
		{closes(readyFrame(rev(1), time.Minute), "retry: 7000\n\n"), between(7*time.Second, 10500*time.Millisecond)},
		{closes(readyFrame(rev(1), time.Minute), "retry: 99999999\n\n"), between(longestWish, longestWish*3/2)},
		{closes("retry: 3000\n\n", readyFrame(rev(1), time.Minute), "event: ready\ndata: x\n\n"), between(3*time.Second, 4500*time.Millisecond)},
		// Nonsense after every Ready is not answered by coming back at once for ever.
		{closes(readyFrame(rev(1), time.Minute), "event: ready\ndata: x\n\n"), between(6*time.Second, 9*time.Second)},
		{closes(readyFrame(rev(1), time.Minute), frontierFrame(rev(1), 0)), between(3*time.Second, 4500*time.Millisecond)},
		{busy(503, "99999"), between(longestWish, longestWish)},
	}
	var scenes []func(*pipeEnd)
	for _, s := range steps {
		scenes = append(scenes, s.scene)
	}
	var ends int
	var due time.Time
	onFakeClock(t, func(e Event) error {
		end, ok := e.(Disconnected)
		if !ok {
			return nil
		}
		if ends > 0 {
			require.Equal(t, due, time.Now(), "it waited as long as it had said")
		}
		due = time.Now().Add(end.Retry)
		steps[ends].wait(end.Retry)
		if ends++; ends == len(steps) {
			return errEnough
		}
		return nil
	}, []Option{WithBackoff(time.Second, 10*time.Second)}, scenes...)
}

// The wait between attempts ends with the context: r3labs' own doesn't.
func TestStream_cancelledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New("http://freshet.test", WithHTTPClient(&http.Client{Transport: &pipeNet{scenes: []func(*pipeEnd){
			func(e *pipeEnd) { e.fail(503, http.Header{"Retry-After": {"200"}}) },
		}}}))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		err = c.Stream(ctx, []string{"t"}, func(Event) error {
			time.AfterFunc(time.Second, cancel)
			return nil
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, time.Second, time.Since(begin))
	})
}
