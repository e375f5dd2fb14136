package client

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/r3labs/sse/v2"
)

// This file is the only importer of r3labs/sse. What its client does, and what
// is done about it here:
//
//   - A clean EOF ends the subscription with nil, its own retries stop after 15
//     minutes and sleep on regardless of the context. So: one attempt per call,
//     and the loop is ours (stream.go).
//   - Its Chan variants can leave a goroutine behind; SubscribeRawWithContext
//     can't, as long as the handler returns.
//   - Comments are swallowed. So silence is watched below it, on the
//     response's body.
//   - It hands a frame that was cut in the middle to the handler like a whole
//     one, where WHATWG says to discard it: with a complete id and half a list
//     that would lose the other half for ever. The body below it voids the rest.
//   - A frame without an id repeats the last one; a frame with nothing but
//     `retry:` comes as an event without data. Both are harmless here: the
//     position moves by value, and never by an event's mere arrival.
//   - It can only GET. A long list needs a POST; a transport turns it into one.

// maxFrame bounds a frame. Version 1 promises 32 KiB; more would be an error
// of the server, and is one of the scanner (bufio.ErrTooLong).
const maxFrame = 128 << 10

// frame is one event as it came.
type frame struct {
	name, id, retry string
	data            []byte
}

// request is what one attempt sends.
type request struct {
	url    string
	header map[string]string
	body   []byte // JSON; nil: GET
}

// follow opens the stream once and hands its frames to handle, in order and
// from this goroutine, until the stream ends. opened is called before the first
// frame. It returns the error of opened or handle, a *SilenceError, a
// *StatusError, the context's error, an error of the network, or ErrClosed.
func follow(ctx context.Context, c *http.Client, req request, idle *idleTimer, opened func() error, handle func(frame) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle.start(cancel)
	defer idle.stop()

	base := transportOf(c)
	own := *c
	own.Timeout = 0 // it covers the body too, and a body that never ends is the point
	own.Transport = base
	if req.body != nil {
		own.Transport = &poster{base: base, body: req.body}
	}

	s := sse.NewClient(req.url, sse.ClientMaxBufferSize(maxFrame))
	s.Connection = &own
	s.Headers = req.header
	s.ReconnectStrategy = once{}
	s.ResponseValidator = func(_ *sse.Client, resp *http.Response) error {
		err := checkResponse(resp)
		if err == nil {
			idle.disarm()
			resp.Body = &body{ReadCloser: resp.Body, idle: idle}
			err = opened()
		}
		if err != nil {
			_ = resp.Body.Close() // r3labs leaves it open
		}
		return err
	}
	err := s.SubscribeRawWithContext(ctx, func(e *sse.Event) {
		if ctx.Err() != nil || string(e.Event) == tornEvent {
			return // the end has come; this is what was still in a buffer
		}
		f := frame{name: string(e.Event), id: string(e.ID), retry: string(e.Retry), data: e.Data}
		if err := handle(f); err != nil {
			cancel(err) // ends the read, and so the subscription
		}
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err == nil {
		return ErrClosed
	}
	return err
}

// once is a back-off strategy (cenkalti/backoff v1) that never retries.
type once struct{}

func (once) NextBackOff() time.Duration { return -1 } // backoff.Stop
func (once) Reset()                     {}

// poster turns r3labs' GET into a POST.
type poster struct {
	base http.RoundTripper
	body []byte
}

func (t *poster) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Method = http.MethodPost
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = int64(len(t.body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(t.body)), nil }
	r.Body, _ = r.GetBody()
	return t.base.RoundTrip(r)
}

// tornEvent is the name that body gives to a frame which was cut: NUL can't
// come from a server.
const tornEvent = "\x00"

// body is a response's body that arms the idle timer while it waits for bytes,
// and that marks a frame without an end.
type body struct {
	io.ReadCloser
	idle *idleTimer
	tail [4]byte // the last bytes read
	mark []byte  // still to be read
	err  error   // once set, what to return after mark
}

func (b *body) Read(p []byte) (int, error) {
	if b.err == nil {
		b.idle.arm()
		n, err := b.ReadCloser.Read(p)
		b.idle.disarm()
		for _, c := range p[max(0, n-len(b.tail)):n] {
			copy(b.tail[:], b.tail[1:])
			b.tail[3] = c
		}
		if err != nil {
			b.err = err
			b.mark = b.void()
		}
		if n > 0 {
			return n, nil
		}
	}
	n := copy(p, b.mark)
	b.mark = b.mark[n:]
	if n > 0 {
		return n, nil
	}
	return 0, b.err
}

// void is what has to follow the bytes read so that an unfinished frame is
// dispatched under the name tornEvent. Of several `event:` lines the last one
// counts.
func (b *body) void() []byte {
	t := b.tail[:]
	switch {
	case b.tail == [4]byte{}, bytes.HasSuffix(t, []byte("\n\n")), bytes.HasSuffix(t, []byte("\r\r")),
		bytes.HasSuffix(t, []byte("\n\r\n")):
		return nil
	case t[3] == '\n' || t[3] == '\r':
		return []byte("event:" + tornEvent + "\n\n")
	default:
		return []byte("\nevent:" + tornEvent + "\n\n")
	}
}

// idleTimer ends an attempt that hears nothing for too long. It is armed only
// while somebody waits for bytes: a slow sink is not a silent server.
type idleTimer struct {
	mu    sync.Mutex // guards all below
	limit time.Duration
	timer *time.Timer
	armed bool
}

// start arms it for the time until the response's header.
func (w *idleTimer) start(cancel context.CancelCauseFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = true
	w.timer = time.AfterFunc(w.limit, func() {
		w.mu.Lock()
		limit, armed := w.limit, w.armed
		w.mu.Unlock()
		if armed {
			cancel(&SilenceError{After: limit})
		}
	})
}

func (w *idleTimer) stop() { w.disarm() }

func (w *idleTimer) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = true
	w.timer.Reset(w.limit)
}

func (w *idleTimer) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = false
	w.timer.Stop()
}

// setLimit changes the time allowed, of a wait under way too.
func (w *idleTimer) setLimit(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limit = d
	if w.armed {
		w.timer.Reset(d)
	}
}
