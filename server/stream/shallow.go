package stream

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/freshet-dev/freshet"
)

// Shallow wraps the outermost handler of an http.Server, for streams at a path. A
// stream that has to stay with its handler (HTTP/2 shares its connection) then waits
// here, once the handlers within have returned: what they and their middleware have on
// the stack would otherwise be kept as long as the stream, twice over, since Go's stacks
// grow by doubling. For them the stream is as one that is taken over: it goes on after
// they have returned, and their context doesn't end it. Where one of them has put a
// writer of its own around net/http's, and that isn't a PassThrough, the stream stays
// where it is.
func Shallow(path string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 || r.URL.Path != path {
			next.ServeHTTP(w, r)
		} else if left := unwound(next, w, r); left != nil {
			<-left.done // here and no deeper: each frame counts
		}
	})
}

// unwound has next answer, and returns what it has left.
func unwound(next http.Handler, w http.ResponseWriter, r *http.Request) *resident {
	l := &later{w: w}
	returned := false
	defer func() {
		if !returned && l.resident != nil { // middleware panics after its handler
			l.resident.outlet.end(errHungUp)
		}
	}()
	next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), laterKey{}, l)))
	returned = true
	if l.resident != nil {
		l.resident.begin(r.Context())
	}
	return l.resident
}

type laterKey struct{}

// later is where a handler leaves what is to be done when it has returned. It belongs
// to the request's goroutine.
type later struct {
	w        http.ResponseWriter // that of Shallow
	resident *resident
}

// canLeave returns where the stream that w is for can be left, and whose writer it
// then goes on with; nil: nowhere.
func canLeave(w http.ResponseWriter, r *http.Request) *later {
	l, _ := r.Context().Value(laterKey{}).(*later)
	if l == nil || l.resident != nil || innermost(w) != l.w {
		return nil
	}
	return l
}

// innermost returns what w is, but for PassThroughs around it.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		through, ok := w.(PassThrough)
		if !ok {
			return w
		}
		w = through.PassThrough()
	}
}

// resident is the link of a stream that a handler waits for. What comes is written by a
// goroutine that lasts as long as there is something to do: writing takes a stack of
// 8 KiB, which the handler's would keep from the first heartbeat on.
type resident struct {
	outlet *outlet
	out    *sseEncoder
	unhook func() bool   // nil before begin
	done   chan struct{} // closed when the stream has ended
	wakes  atomic.Int32  // not answered yet; above zero there is a goroutine
}

// newResident leaves a session that has begun. Nothing wakes it before begin.
func (s *Server) newResident(session *session, out *sseEncoder) *resident {
	r := &resident{out: out, done: make(chan struct{})}
	r.wakes.Store(1)
	r.outlet = s.newOutlet(session, r)
	r.outlet.alone = r
	return r
}

// begin has the outlet woken by whatever happens from here on.
func (r *resident) begin(ctx context.Context) {
	o := r.outlet
	r.unhook = context.AfterFunc(ctx, func() {
		o.hungUp.Store(true)
		r.wake()
	})
	o.session.sub.Notify(r.wake)
	o.session.server.spawn(r.run) // for the wake of newResident: what has come since the catch-up
}

// wake has the outlet step. It never blocks.
func (r *resident) wake() {
	if r.wakes.Add(1) == 1 {
		r.outlet.session.server.spawn(r.run)
	}
}

// run answers wakes until there are no more. There is one of it at a time.
func (r *resident) run() {
	for n := r.wakes.Load(); n > 0; n = r.wakes.Add(-n) {
		r.outlet.step()
	}
}

func (r *resident) encoder(*pump) encoder { return r.out }

func (r *resident) pending() bool { return false } // each frame is written whole, or fails
func (r *resident) drain() error  { return nil }
func (r *resident) finish() error { return nil } // net/http does, when the handler returns
func (r *resident) close()        {}

func (r *resident) over(reason error, last freshet.Revision) {
	if r.unhook != nil {
		r.unhook()
	}
	r.out.server.logEnd(context.Background(), "sse", reason, last)
	close(r.done)
}
