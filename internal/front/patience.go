package front

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"
)

// answerPart is as much of an answer as its reader has to take within the write
// timeout: 6 kB/s with the default.
const answerPart = 64 << 10

// patience bounds what a request and its answer may take on the wire: the body
// has a size, and the server's read timeout, which net/http keeps; each part of
// the answer has the write timeout. Streams are left out: they have deadlines of their
// own per frame, and some take the connection over.
type patience struct {
	read, write time.Duration
	bytes       int64 // of a body
	metrics     *portMetrics
	streams     map[string]bool // paths
	endless     map[string]bool // paths whose request has no end by design
}

func (p *patience) bound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && isMalformed(r.URL.RawQuery) {
			refuse(w, http.StatusBadRequest, connect.CodeInvalidArgument, "the query's message is not base64 for URLs (RFC 4648 section 5)")
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			// A copy: by its own body net/http sees that what was not read is no
			// next request, and closes the connection.
			copied := *r
			copied.Body = &body{ReadCloser: http.MaxBytesReader(w, r.Body, p.bytes), patience: p, chunks: r.ProtoMajor == 1 && r.ContentLength < 0}
			r = &copied
		}
		if p.streams[r.URL.Path] {
			next.ServeHTTP(w, r)
			return
		}
		a := &answer{ResponseWriter: w, control: http.NewResponseController(w), patience: p}
		if p.endless[r.URL.Path] {
			// A connection that takes no deadlines has none to be taken away.
			_ = a.control.SetReadDeadline(time.Time{})
		}
		next.ServeHTTP(a, r)
		a.finish()
	})
}

// spareCapacity is how much larger than an answer the buffer may be that it is in,
// and that waits with it for who doesn't read.
const spareCapacity = 256 << 10

// answer has a deadline for each part. What errs is never kept by a cache
// unless its handler says so.
type answer struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience *patience
	since    time.Time // of the deadline; zero: there is none
	kept     []byte    // to be written when the handler has returned
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if h := a.Header(); status >= http.StatusBadRequest && h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	a.extend()
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. An answer in a buffer that is much larger (see
// gathered) is copied, so that the buffer goes back now, not when the answer is read.
func (a *answer) Write(p []byte) (n int, err error) {
	if cap(p)-len(p) > spareCapacity || len(a.kept) > 0 {
		a.kept = append(a.kept, p...)
		return len(p), nil
	}
	return a.write(p)
}

// finish writes what Write has kept.
func (a *answer) finish() {
	if kept := a.kept; len(kept) > 0 {
		a.kept = nil
		_, _ = a.write(kept) // it has been counted if it was cut; nobody is left to be told
	}
}

func (a *answer) write(p []byte) (n int, err error) {
	for {
		a.extend()
		part := p[n:min(len(p), n+answerPart)]
		m, err := a.ResponseWriter.Write(part)
		if n += m; err != nil {
			a.failed(err)
			return n, err
		}
		if n >= len(p) {
			return n, nil
		}
	}
}

// Flush implements http.Flusher. Who flushes may have nothing to say for long:
// until then there is no deadline, which HTTP/2 would reset the stream at.
func (a *answer) Flush() {
	a.finish()
	a.extend()
	if err := a.control.Flush(); err != nil {
		a.failed(err)
		return
	}
	if a.control.SetWriteDeadline(time.Time{}) == nil {
		a.since = time.Time{}
	}
}

// extend sets the deadline anew, unless that was done just now. A response
// without deadlines (in a test) goes on without.
func (a *answer) extend() {
	now := time.Now()
	if !a.since.IsZero() && now.Sub(a.since) < a.patience.write/8 {
		return
	}
	if a.control.SetWriteDeadline(now.Add(a.patience.write)) == nil {
		a.since = now
	}
}

// failed counts those that were cut for not reading. HTTP/2 says that the
// stream was reset, not why.
func (a *answer) failed(err error) {
	late := !a.since.IsZero() && time.Since(a.since) >= a.patience.write
	if (late || errors.Is(err, os.ErrDeadlineExceeded)) && !errors.Is(err, context.Canceled) {
		a.patience.metrics.cut.WithLabelValues("write").Inc()
	}
}
