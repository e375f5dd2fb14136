package stream

import (
	"context"
	"net/http"

	"github.com/freshet-dev/freshet"
)

// Shallow wraps the outermost handler of an http.Server. A stream that has to stay with
// its handler (HTTP/2 shares its connection) is then served from here, once the
// handlers within have returned: what they and their middleware have on the stack
// would otherwise be kept as long as the stream, twice over, since Go's stacks grow by
// doubling. For them the stream is as one that is taken over: it goes on after they
// have returned, and their context doesn't end it. Where one of them has put a writer
// of its own around net/http's, and that isn't a PassThrough, the stream stays where it
// is.
func Shallow(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 {
			next.ServeHTTP(w, r)
			return
		}
		o := unwound(next, w, r)
		if o == nil {
			return
		}
		defer o.abandon()
		for !o.over { // here and no deeper: each frame counts
			<-o.alone
			o.step()
		}
	})
}

// unwound has next answer, and returns what is left to do.
func unwound(next http.Handler, w http.ResponseWriter, r *http.Request) *outlet {
	l := &later{w: w}
	returned := false
	defer func() {
		if !returned && l.resident != nil { // middleware panics after its handler
			l.resident.outlet.abandon()
		}
	}()
	next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), laterKey{}, l)))
	returned = true
	if l.resident == nil {
		return nil
	}
	l.resident.begin(r.Context())
	return l.resident.outlet
}

type laterKey struct{}

// later is where a handler leaves what is to be done when it has returned. It belongs
// to the request's goroutine.
type later struct {
	w        http.ResponseWriter // that of Shallow
	resident *resident
}

// canLeave returns where the stream that w is for can be left; nil: nowhere.
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

// resident is the link of a stream that a handler waits for: as an outlet, so that one
// receive in small frames is all that its stack holds meanwhile. A select among what
// may come, as in session.live, would keep that stack at twice the size.
type resident struct {
	outlet *outlet
	out    *sseEncoder
	unhook func() bool // nil before begin
}

func (s *Server) newResident(session *session, out *sseEncoder) *resident {
	r := &resident{out: out}
	r.outlet = s.newOutlet(session, r)
	r.outlet.pump, r.outlet.alone = nil, make(chan struct{}, 1)
	return r
}

// begin has the outlet woken by whatever happens from here on.
func (r *resident) begin(ctx context.Context) {
	o := r.outlet
	r.unhook = context.AfterFunc(ctx, func() {
		o.hungUp.Store(true)
		o.wake()
	})
	o.session.sub.Notify(o.wake)
	o.wake() // what has come since the catch-up
}

// abandon ends what a panic has left; net/http logs that.
func (o *outlet) abandon() {
	if !o.over {
		o.end(errHungUp)
	}
}

func (r *resident) encoder(*pump) encoder { return r.out }

func (r *resident) pending() bool { return false } // each frame is written whole, or fails
func (r *resident) drain() error  { return nil }
func (r *resident) finish() error { return nil } // net/http does, when serve returns
func (r *resident) close()        {}

func (r *resident) over(reason error, last freshet.Revision) {
	if r.unhook != nil {
		r.unhook()
	}
	r.out.server.logEnd(context.Background(), "sse", reason, last)
}
