package intercept

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
)

// flights runs at most one query per key, and lets at most one wait for it to
// end, and for its turn: under a steady stream of writes thousands of readers
// ask for as many revisions, and each query satisfies only those who asked for
// less than it began with. So the queries of a key that several clients are
// after are paced: one per interval on average, after a burst (G7). Several
// are after it if requests join, or if more than one stream follows what it
// reads: those clients refetch whether or not they happen to meet here.
//
// Nobody who reads alone is held back, nor a strong read; and its query, which
// takes along all who wait, counts for nothing, or strong reads would put off
// the others without end.
type flights struct {
	node     Hub
	cache    *cache
	timeout  time.Duration // of a flight, whatever its callers' deadlines
	interval time.Duration // between take-offs of one key; not positive: no pace
	logger   *slog.Logger
	metrics  *Metrics

	mu    sync.Mutex // guards lanes and every flight's fields up to done
	lanes map[readKey]*lane
}

// burst is how many queries of one key may run ahead of the pace: a read that
// is asked for now and then never waits for its turn.
const burst = 10

// lane is the flights of one key. It exists while one of them does, or until
// what it has run ahead of the pace is paid off.
type lane struct {
	running *flight     // nil: none has taken off
	waiting *flight     // its snapshot is still to be taken; nil: nobody waits
	paid    time.Time   // when the shared flights so far will have kept the pace
	turn    *time.Timer // of what waits while nothing runs; nil: nothing does
}

// flight is one query and those who wait for its answer.
type flight struct {
	run    func(ctx context.Context) (connect.AnyResponse, error)
	topics []string
	why    cause // of the first caller

	start   freshet.Revision // the frontier before its snapshot; set when it takes off
	waiters int
	cancel  context.CancelFunc // of a flight that has taken off
	parent  context.Context    // values of the first caller, without its end
	strong  bool               // a strong read waits for it: it is neither held back nor counted
	counted bool               // against the pace

	done     chan struct{} // closed when the fields below are set
	response connect.AnyResponse
	err      error
	stamped  bool // the answer is of start's epoch
}

// join finds the flight that may answer a request, or starts one. What is under
// way may be taken if it meets the want, and, when the node is current, what has
// landed since the caller looked at the kept answers; otherwise the snapshot is
// still to be taken, by next if nobody waits yet. shared says that the flight
// was there before.
func (t *flights) join(ctx context.Context, key readKey, w want, current bool, next *flight) (f *flight, shared bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.lanes[key]; l != nil && l.running != nil && l.running.waiters > 0 && w.metBy(l.running.start) {
		l.running.waiters++
		t.count(l, l.running)
		return l.running, true
	}
	if a, ok := t.cache.get(key); ok && current && w.metBy(a.start) {
		return landed(a), true
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
	if l.running == nil {
		t.advance(key, l)
	}
	return f, shared
}

// landed is the flight that a kept answer came with.
func landed(a answer) *flight {
	f := &flight{start: a.start, done: make(chan struct{}), response: a.response, stamped: true}
	close(f.done)
	return f
}

// count has a query that several are after count against the pace, once. The
// caller holds mu.
func (t *flights) count(l *lane, f *flight) {
	if t.interval <= 0 || f.counted || f.strong {
		return
	}
	f.counted = true
	if now := time.Now(); l.paid.Before(now) {
		l.paid = now
	}
	l.paid = l.paid.Add(t.interval)
}

// advance lets what waits take off when it is its turn, and forgets a lane that
// has nothing left to do. The caller holds mu; nothing of the lane is running.
func (t *flights) advance(key readKey, l *lane) {
	if l.turn != nil {
		l.turn.Stop()
		l.turn = nil
	}
	now := time.Now()
	from := l.paid // when the lane may go on
	if l.waiting != nil {
		from = from.Add(-(burst - 1) * t.interval)
	}
	switch {
	case from.After(now) && (l.waiting == nil || !l.waiting.strong):
		l.turn = time.AfterFunc(from.Sub(now), func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.lanes[key] == l && l.running == nil {
				t.advance(key, l)
			}
		})
	case l.waiting == nil:
		delete(t.lanes, key)
	default:
		f := l.waiting
		l.running, l.waiting = f, nil
		if f.waiters > 1 || t.node.Followers(f.topics) > 1 {
			t.count(l, f)
		}
		t.takeOff(key, f)
	}
}

// takeOff reads the frontier and starts the query, in this order. The caller
// holds mu.
func (t *flights) takeOff(key readKey, f *flight) {
	f.start = t.node.Frontier()
	ctx, cancel := context.WithTimeout(f.parent, t.timeout)
	f.cancel = cancel
	// What the inner interceptors say of this answer is ours to judge.
	r := &reply{stamp: f.start, pinned: true}
	ctx = context.WithValue(ctx, replyKey{}, r)
	go func() {
		defer cancel()
		response, err := t.fly(ctx, f)
		var replaced connect.AnyResponse
		var sameSize bool
		if err == nil {
			// Both are made on first use: not while many read them.
			response.Header()
			response.Trailer()
			if !f.start.IsZero() && !t.node.Quarantined(f.topics) {
				replaced, sameSize = t.cache.put(key, answer{response, f.start})
			}
		}
		f.response, f.err, f.stamped = response, err, !r.stamp.IsZero()
		t.land(key)
		close(f.done)
		// Nobody waits for this.
		if replaced != nil {
			t.metrics.replaced(f.why, sameSize && sameMessage(replaced, response))
		}
	}()
}

// fly runs the query; a panic, which no caller's goroutine could recover, is
// an error.
func (t *flights) fly(ctx context.Context, f *flight) (_ connect.AnyResponse, err error) {
	defer func() {
		if value := recover(); value != nil {
			t.logger.LogAttrs(ctx, slog.LevelError, "rpc panicked",
				slog.String("panic", fmt.Sprint(value)), slog.String("stack", string(debug.Stack())))
			err = connect.NewError(connect.CodeInternal, errInternal)
		}
	}()
	return f.run(ctx)
}

// land lets the next one take off.
func (t *flights) land(key readKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lanes[key]
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
