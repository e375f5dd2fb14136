package reuse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
)

// errPanicked is all that callers learn of a panic; the log has the rest.
var errPanicked = errors.New("a query panicked")

// flights runs the queries that reads share. Of each key at most one query runs
// and at most one is waited for:
//
//   - While a query runs, those who come join it if it began late enough for them:
//     at or above what they ask for (want.metBy).
//   - All others wait together for the next one. Its snapshot is taken when it
//     starts, which is after the last of them has come, so it does for all.
//
// That alone bounds queries to one after the other, without a pause: after a
// commit thousands of readers refetch, each asking for the revision that it was
// told, and under steady writes that is a new revision every few milliseconds. So
// the start of what waits may be put off: see pace.go.
type flights struct {
	node     Node
	cache    *cache
	timeout  time.Duration // of a flight, whatever its callers' deadlines
	replicas bool          // Config.Replicas
	interval time.Duration // between queries of one key in the long run; not positive: no pace
	logger   *slog.Logger
	metrics  *metrics
	heat     Heat // nil: nobody measures, ever

	mu    sync.Mutex // guards lanes and every flight's fields up to done
	lanes map[readKey]*lane
}

// lane is the flights of one key. It exists while one of them does, or until
// what it has run ahead of the pace is paid off.
type lane struct {
	running *flight     // nil: no query runs
	waiting *flight     // its snapshot is still to be taken; nil: nobody waits
	paid    time.Time   // see pace.go
	turn    *time.Timer // of what waits while nothing runs; nil: nothing does
}

// flight is one query and those who wait for its answer.
type flight struct {
	run    func(ctx context.Context, since Since) (connect.AnyResponse, freshet.Revision, error)
	topics []string // of its request
	// depends returns the topics of its answer, where only that tells them.
	depends func(connect.AnyResponse) ([]string, error)
	why     cause // of the first caller

	// start is what its snapshot is sure to hold: set when it takes off, to the frontier,
	// or to the least that will do, if a replica may serve it; then it rises when it lands.
	start   freshet.Revision
	need    freshet.Revision // the highest of what its waiters need, before it takes off
	waiters int
	cancel  context.CancelFunc // of a flight that has taken off
	parent  context.Context    // values of the first caller, without its end
	strong  bool               // a strong read waits for it: it is neither held back nor counted
	counted bool               // against the pace

	done     chan struct{} // closed when the fields below are set
	response connect.AnyResponse
	answered []string // what depends says of it
	verdict  *verdict
	err      error
}

// snapshot is what a flight has landed with.
func (f *flight) snapshot() snapshot { return snapshot{f.response, f.start, f.answered, f.verdict} }

// join finds the flight that may answer a request, or starts one. What is under
// way may be taken if it meets the want, and, when the node is current, what has
// landed since the caller looked at the kept answers; otherwise the snapshot is
// still to be taken, by next if nobody waits yet. by is the want that it was judged
// by, and shared says that the flight was there before.
func (t *flights) join(ctx context.Context, key readKey, w want, current bool, next *flight) (f *flight, by want, shared bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.lanes[key]; l != nil && l.running != nil && l.running.waiters > 0 && w.metBy(l.running.start) {
		l.running.waiters++
		t.count(l, l.running)
		return l.running, w, true
	}
	if a, ok := t.cache.get(key); ok && current && !t.node.Quarantined(a.topics) {
		if by = w.of(t.node, a); by.metBy(a.start) {
			return landed(a), by, true
		}
	}
	l := t.lanes[key]
	if l == nil {
		l = &lane{}
		t.lanes[key] = l
	}
	if f = l.waiting; f != nil {
		f.waiters++
		shared = true
	} else {
		f = next
		f.waiters, f.parent, f.done = 1, context.WithoutCancel(ctx), make(chan struct{})
		l.waiting = f
	}
	f.strong = f.strong || w.strong()
	f.need = f.need.Max(w.need())
	if l.running == nil {
		t.advance(key, l)
	}
	return f, w, shared
}

// landed is the flight that a kept answer came with.
func landed(a snapshot) *flight {
	f := &flight{start: a.start, done: make(chan struct{}), response: a.response, answered: a.topics, verdict: a.verdict}
	close(f.done)
	return f
}

// takeOff reads the frontier and starts the query, in this order. The caller
// holds mu.
func (t *flights) takeOff(key readKey, f *flight) {
	need := f.need
	if f.strong {
		need = freshet.Revision{}
	}
	from := t.since(t.node.Frontier(), need)
	if f.start = from.Frontier; !from.AtLeast.IsZero() {
		f.start = from.AtLeast
	}
	ctx, cancel := context.WithTimeout(f.parent, t.timeout)
	f.cancel = cancel
	go func() {
		defer cancel()
		response, start, err := t.fly(ctx, f, from)
		var answered []string
		if err == nil {
			answered, err = f.depends(response)
		}
		var replaced connect.AnyResponse
		var sameSize bool
		// Headers are made on first use: not while many read them.
		if cerr := new(connect.Error); errors.As(err, &cerr) {
			cerr.Meta()
		} else if err == nil {
			response.Header()
			response.Trailer()
			if !start.IsZero() && !t.node.Quarantined(f.topics) && !t.node.Quarantined(answered) {
				f.verdict = t.judge(key, f, response, answered)
				replaced, sameSize = t.cache.put(key, snapshot{response, start, answered, f.verdict})
			}
		}
		f.response, f.answered, f.err = response, answered, err
		t.land(key, start)
		close(f.done)
		// Nobody waits for this.
		if replaced != nil {
			t.metrics.replaced(f.why, sameSize && sameMessage(replaced, response))
		}
	}()
}

// since is what a query is asked for. A need that isn't of the frontier's history, as
// when another one has begun since, is the primary's to answer.
func (t *flights) since(frontier, need freshet.Revision) Since {
	if !t.replicas || !reaches(frontier, need) {
		need = freshet.Revision{}
	}
	return Since{Frontier: frontier, AtLeast: need}
}

// fly runs the query; a panic, which no caller's goroutine could recover, is
// an error.
func (t *flights) fly(ctx context.Context, f *flight, from Since) (_ connect.AnyResponse, _ freshet.Revision, err error) {
	defer func() {
		if value := recover(); value != nil {
			t.logger.LogAttrs(ctx, slog.LevelError, "rpc panicked",
				slog.String("panic", fmt.Sprint(value)), slog.String("stack", string(debug.Stack())))
			err = connect.NewError(connect.CodeInternal, errPanicked)
		}
	}()
	return f.run(ctx, from)
}

// land says what the flight's snapshot holds, and lets the next one take off.
func (t *flights) land(key readKey, start freshet.Revision) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lanes[key]
	l.running.start = start
	l.running = nil
	t.advance(key, l)
}

// wait returns when the flight has landed or ctx has ended. The last waiter to
// leave cancels the query.
func (t *flights) wait(ctx context.Context, key readKey, f *flight) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f.waiters--
	if f.waiters > 0 {
		return ctx.Err()
	}
	if f.cancel != nil {
		f.cancel()
	} else if l := t.lanes[key]; l != nil && l.waiting == f {
		l.waiting = nil
		if l.running == nil {
			t.advance(key, l)
		}
	}
	return ctx.Err()
}

// sameMessage compares two answers.
func sameMessage(a, b connect.AnyResponse) bool {
	one, ok := a.Any().(proto.Message)
	other, also := b.Any().(proto.Message)
	return ok && also && proto.Equal(one, other)
}
