package intercept

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
)

// flights runs at most one query per key, and lets at most one wait for it to
// end, and for its turn: under a steady stream of writes thousands of readers
// ask for as many revisions, and each query satisfies only those who asked for
// less than it began with. So the queries of a key that several requests take
// their answer from, while they run or once it is kept, are paced: one per
// interval on average, after a burst of their own (G7). A strong read is never
// held back, nor somebody who reads alone.
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
	start   freshet.Revision // the frontier before its snapshot; set when it takes off
	waiters int
	cancel  context.CancelFunc // of a flight that has taken off
	run     func(ctx context.Context) (connect.AnyResponse, error)
	parent  context.Context // values of the first caller, without its end
	why     cause           // of the first caller
	strong  bool            // a strong read waits for it: it isn't held back
	counted *atomic.Bool    // against the pace; its answer, once kept, has the same

	done     chan struct{} // closed when the fields below are set
	response connect.AnyResponse
	err      error
	stamped  bool // the answer is of start's epoch
}

// join finds the flight that may answer a request, or starts one. What is under
// way may be taken if it meets the want, and, when the node is current, what has
// landed since the caller looked at the kept answers; otherwise the snapshot is
// still to be taken. shared says that the flight was there before.
func (t *flights) join(ctx context.Context, key readKey, w want, current bool, why cause, next func(context.Context) (connect.AnyResponse, error)) (f *flight, shared bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.lanes[key]; l != nil && l.running != nil && l.running.waiters > 0 && w.metBy(l.running.start) {
		t.share(l, l.running)
		return l.running, true
	}
	if a, ok := t.cache.get(key); ok && current && w.metBy(a.start) {
		t.countKept(key, a)
		return landed(a), true
	}
	l := t.lane(key)
	if f = l.waiting; f != nil {
		t.share(l, f)
		shared = true
	} else {
		f = &flight{
			waiters: 1, why: why, run: next, parent: context.WithoutCancel(ctx),
			counted: new(atomic.Bool), done: make(chan struct{}),
		}
		l.waiting = f
	}
	f.strong = f.strong || w.strong()
	if l.running == nil {
		t.advance(key, l)
	}
	return f, shared
}

// lane returns the key's lane, a new one if there is none. The caller holds mu.
func (t *flights) lane(key readKey) *lane {
	l := t.lanes[key]
	if l == nil {
		l = &lane{}
		t.lanes[key] = l
	}
	return l
}

// share adds a request to a flight. The caller holds mu.
func (t *flights) share(l *lane, f *flight) {
	f.waiters++
	t.count(l, f.counted)
}

// kept says that a request has taken a kept answer. Readers that come one
// after the other share a query as much as those that wait for it together.
func (t *flights) kept(key readKey, a answer) {
	if a.counted.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.countKept(key, a)
}

// countKept is count for a kept answer. The caller holds mu.
func (t *flights) countKept(key readKey, a answer) {
	l := t.lane(key)
	t.count(l, a.counted)
	if l.running == nil {
		t.advance(key, l)
	}
}

// landed is the flight that a kept answer came with.
func landed(a answer) *flight {
	f := &flight{start: a.start, counted: a.counted, done: make(chan struct{}), response: a.response, stamped: true}
	close(f.done)
	return f
}

// count has a query count against the pace, the first time that it is shared.
// The caller holds mu.
func (t *flights) count(l *lane, counted *atomic.Bool) {
	if t.interval <= 0 || counted.Swap(true) {
		return
	}
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
		l.running, l.waiting = l.waiting, nil
		t.takeOff(key, l.running)
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
			if !f.start.IsZero() {
				replaced, sameSize = t.cache.put(key, answer{response, f.start, f.counted})
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
