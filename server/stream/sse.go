package stream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/freshet-dev/freshet"
)

// How long a client waits before it reconnects: jittered, so that a thousand
// that lost the same server don't come back as one. Clients add up to half (see
// docs/protocol.md), and behind a balancer they are to be elsewhere within 2 s. A
// server that says goodbye may be the only one, and back after a restart.
const (
	retryMin    = 400 * time.Millisecond
	retryMax    = 1200 * time.Millisecond
	retryMinBye = time.Second
	retryMaxBye = 6 * time.Second
)

func jitter(from, to time.Duration) time.Duration { return from + rand.N(to-from) }

// unbuffered has nginx pass on each event as it comes.
func unbuffered(h http.Header) { h.Set("X-Accel-Buffering", "no") }

// ServeHTTP serves GET and POST of the events' path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	session, refused := s.accept(w, r)
	if refused != nil {
		s.metrics.refused.WithLabelValues(refused.reason).Inc()
		refused.write(w)
		return
	}
	taken := false
	defer func() {
		if !taken {
			session.close()
		}
	}()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform") // a proxy that compresses buffers
	unbuffered(h)
	h.Set("X-Content-Type-Options", "nosniff")
	var own http.ResponseWriter // of net/http, if the stream is to be taken over
	var left *later             // if it is to be left to Shallow
	if !s.config.KeepHandler {
		own, left = canTakeOver(w, r), canLeave(w, r)
	}
	switch {
	case own != nil:
		w = own
		h.Set("Connection", "close") // what comes after the stream isn't net/http's
	case left != nil:
		w = left.w
	}
	out := &sseEncoder{server: s, out: &responseWriter{session.bound(http.NewResponseController(w)), w}}
	out.retry = jitter(retryMin, retryMax)
	err := session.begin(out)
	if err == nil && own != nil {
		if taken = s.takeOver(own, session); taken {
			return // the session is its outlet's
		}
	}
	if err == nil && left != nil {
		left.resident, taken = s.newResident(session, out), true
		return
	}
	if err == nil {
		err = session.live(r.Context())
	}
	err = session.lastWords(err)
	s.logEnd(r.Context(), "sse", err, session.last)
}

// accept finds out whether there will be a stream.
func (s *Server) accept(w http.ResponseWriter, r *http.Request) (*session, *refusal) {
	var req *request
	var refused *refusal
	switch r.Method {
	case http.MethodGet:
		req, refused = s.parseGet(r)
	case http.MethodPost:
		req, refused = s.parsePost(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		refused = badRequest("%.16q is not GET or POST", r.Method)
		refused.status = http.StatusMethodNotAllowed
	}
	if refused != nil {
		return nil, refused
	}
	if refused = s.probe(r.Context(), http.NewResponseController(w)); refused != nil {
		return nil, refused
	}
	return s.start(r.Context(), req)
}

// probe refuses a connection that takes no write deadlines: a reader that
// doesn't drain could not be cut.
func (s *Server) probe(ctx context.Context, rc *http.ResponseController) *refusal {
	if err := rc.SetWriteDeadline(time.Time{}); err != nil {
		s.config.Logger.ErrorContext(ctx, "the connection takes no deadlines: does a middleware hide http.ResponseController?", "error", err)
		return internal()
	}
	return nil
}

// endGrace is how long a reader may take for what is on its way when its stream is to
// end, and as long again for the event that says why.
const endGrace = 250 * time.Millisecond

// deadlineWriter bounds one frame's way out. A handler that waits in a write can't be
// told that its stream is to end; so whoever ends it shortens the deadline.
type deadlineWriter struct {
	session *session
	rc      *http.ResponseController

	// mu guards writing, and rc while it is set: of HTTP/2 it is of no use any more
	// once the handler has returned.
	mu      sync.Mutex
	writing bool
}

// within runs write with a deadline on the connection (HTTP/2: on the stream).
func (d *deadlineWriter) within(write func() error) error {
	start := time.Now()
	if err := d.begin(start); err != nil {
		return err
	}
	err := write()
	// HTTP/2 resets a stream whose deadline passes while it idles.
	if reset := d.end(err == nil); err == nil {
		return reset
	}
	// HTTP/2 says that the stream was reset, not why.
	if why := d.session.ending(); why != nil {
		return errors.Join(why, err)
	}
	if server := d.session.server; time.Since(start) >= server.config.WriteTimeout {
		server.metrics.writeTimeouts.Inc()
	}
	return err
}

// begin sets the deadline: a stream that is to end doesn't wait for its reader.
func (d *deadlineWriter) begin(start time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writing = true // before it is looked whether the stream is to end: see cut
	limit := d.session.server.config.WriteTimeout
	if d.session.revoked.Load() {
		limit = min(limit, endGrace)
	}
	if d.session.expires != 0 {
		limit = min(limit, max(time.Unix(0, d.session.expires).Sub(start), 0)+endGrace)
	}
	return d.rc.SetWriteDeadline(start.Add(limit))
}

func (d *deadlineWriter) end(reset bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writing = false
	if !reset {
		return nil
	}
	return d.rc.SetWriteDeadline(time.Time{})
}

// cut has a write that is under way end soon. It is called once the session is revoked.
func (d *deadlineWriter) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.writing {
		_ = d.rc.SetWriteDeadline(time.Now().Add(endGrace)) // the connection is gone if it can't be
	}
}

// responseWriter puts frames into an HTTP response.
type responseWriter struct {
	*deadlineWriter

	w http.ResponseWriter
}

func (r *responseWriter) write(frame []byte) error {
	return r.within(func() error {
		if _, err := r.w.Write(frame); err != nil {
			return err
		}
		return r.rc.Flush()
	})
}

// frameWriter takes whole frames, and must not keep them.
type frameWriter interface{ write(frame []byte) error }

// sseEncoder makes frames.
type sseEncoder struct {
	server *Server
	out    frameWriter
	buf    []byte
	retry  time.Duration // to say with the next frame; 0: nothing
	chunks bool          // frames are chunks of HTTP/1.1's coding, too
}

// keepBuf is how much of a buffer a stream keeps between frames.
const keepBuf = 1 << 10

func (e *sseEncoder) begin() []byte {
	b := e.buf[:0]
	if e.chunks {
		b = append(b, chunkHead...)
	}
	if e.retry > 0 {
		b = appendRetry(b, e.retry)
		e.retry = 0
	}
	return b
}

func (e *sseEncoder) send(frame []byte) error {
	if e.chunks {
		frame = sealChunk(frame)
	}
	if cap(frame) <= keepBuf {
		e.buf = frame
	}
	return e.out.write(frame)
}

func (e *sseEncoder) invalidate(rev freshet.Revision, topics []string, partial bool) error {
	for len(topics) > 0 {
		var frame []byte
		frame, topics = appendInvalidate(e.begin(), rev, topics, partial)
		e.server.metrics.invalidates.Inc()
		if err := e.send(frame); err != nil {
			return err
		}
	}
	return nil
}

func (e *sseEncoder) ready(rev freshet.Revision, topics int, expires time.Duration) error {
	e.server.metrics.readies.Inc()
	return e.send(appendReady(e.begin(), rev, topics, e.server.config.Heartbeat, expires, e.server.config.Contract))
}

func (e *sseEncoder) reset(rev freshet.Revision) error {
	e.server.metrics.resets.Inc()
	return e.send(appendReset(e.begin(), rev))
}

func (e *sseEncoder) frontier(rev freshet.Revision, lag time.Duration) error {
	e.server.metrics.frontiers.Inc()
	return e.send(appendFrontier(e.begin(), rev, lag))
}

func (e *sseEncoder) goodbye(rev freshet.Revision, lag time.Duration) error {
	e.retry = jitter(retryMinBye, retryMaxBye)
	return e.frontier(rev, lag)
}

func (e *sseEncoder) end(why *ending) error {
	e.retry = jitter(retryMin, retryMax)
	e.server.metrics.ends.Inc()
	return e.send(appendEnd(e.begin(), why.reason))
}
