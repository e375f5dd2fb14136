package intercept

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/hub"
)

// queries is a handler whose n-th call answers n, when it is let.
type queries struct {
	calls   atomic.Int64
	began   chan int64    // one per call
	release chan struct{} // one per call; closed: all
	ended   chan error    // what cut a call short
}

func (r *rig) queries() *queries {
	q := &queries{began: make(chan int64, 100), release: make(chan struct{}), ended: make(chan error, 100)}
	r.handlers.get = func(ctx context.Context) (*messagesv1.GetMessageResponse, error) {
		n := q.calls.Add(1)
		q.began <- n
		select {
		case <-q.release:
			return &messagesv1.GetMessageResponse{Message: &messagesv1.Message{Body: strconv.FormatInt(n, 10)}}, nil
		case <-ctx.Done():
			q.ended <- ctx.Err()
			return nil, ctx.Err()
		}
	}
	return q
}

// outcome is the end of one read.
type outcome struct {
	body, stamp, cache string
	err                error
}

// read starts a read in the background.
func (r *rig) read(ctx context.Context, user, atLeast string) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		req := connect.NewRequest(&messagesv1.GetMessageRequest{Name: name})
		if atLeast != "" {
			req.Header().Set(HeaderAtLeast, atLeast)
		}
		req.Header().Set("Test-User", user)
		resp, err := r.client.GetMessage(ctx, req)
		if err != nil {
			done <- outcome{err: err}
			return
		}
		done <- outcome{resp.Msg.GetMessage().GetBody(), resp.Header().Get(HeaderRevision), resp.Header().Get(HeaderCache), nil}
	}()
	return done
}

// reads makes a read to its end, with handlers that answer at once.
func (r *rig) reads(t *testing.T, atLeast string) outcome {
	t.Helper()
	o := waitFor(t, r.read(t.Context(), "", atLeast), "a read")
	require.NoError(t, o.err)
	return o
}

// waiters counts those who wait for a query that runs.
func (r *rig) waiters(i *reuse) int {
	i.flights.mu.Lock()
	defer i.flights.mu.Unlock()
	n := 0
	for _, l := range i.flights.lanes {
		n += l.running.waiters
	}
	return n
}

// queued waits until n requests share the key's waiting flight.
func (r *rig) queued(t *testing.T, i *reuse, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		i.flights.mu.Lock()
		defer i.flights.mu.Unlock()
		for _, l := range i.flights.lanes {
			if l.waiting != nil && l.waiting.waiters == n {
				return true
			}
		}
		return false
	}, 10*time.Second, time.Millisecond)
}

func newReuseRig(t *testing.T, change func(*Config)) (*rig, *reuse) {
	t.Helper()
	var i *reuse
	r := newRig(t, func(c *Config) {
		if change != nil {
			change(c)
		}
		c.testReuse = func(made *reuse) { i = made }
	})
	r.hub.Current(time.Now().Add(time.Hour)) // no lag
	return r, i
}

func change(position uint64) freshet.Commit {
	return freshet.Commit{Revision: at(position), Topics: []string{name}}
}

// F21: a reader at-least 107 doesn't get the answer of a flight that began at
// 100; those who want it share one new statement.
func TestReuse_flightFromBeforeTheChangeIsNotShared(t *testing.T) {
	r, i := newReuseRig(t, nil)
	q := r.queries()
	first := r.read(t.Context(), "", "")
	require.EqualValues(t, 1, waitFor(t, q.began, "the first query"))

	r.hub.Publish(change(107))
	second := r.read(t.Context(), "", at(107).String())
	third := r.read(t.Context(), "", at(107).String())
	r.queued(t, i, 2)
	require.Empty(t, q.began, "at most one running and one waiting")
	q.release <- struct{}{}
	require.Equal(t, outcome{"1", at(100).String(), cacheMiss, nil}, waitFor(t, first, "the first answer"))
	require.EqualValues(t, 2, waitFor(t, q.began, "the second query"))
	q.release <- struct{}{}
	a, b := waitFor(t, second, "the second answer"), waitFor(t, third, "the third answer")
	for _, o := range []outcome{a, b} {
		require.NoError(t, o.err)
		require.Equal(t, "2", o.body)
		require.Equal(t, at(107).String(), o.stamp)
	}
	require.ElementsMatch(t, []string{cacheMiss, cacheJoined}, []string{a.cache, b.cache})
	require.EqualValues(t, 2, q.calls.Load())
}

// A flight that began at or above the floor is shared, and each waiter has the
// frontier that it read itself.
func TestReuse_flightIsSharedByTheFloorRule(t *testing.T) {
	r, i := newReuseRig(t, nil)
	q := r.queries()
	first := r.read(t.Context(), "", at(100).String())
	waitFor(t, q.began, "the query")
	r.hub.Advance(at(120)) // others' changes
	second := r.read(t.Context(), "", at(120).String())
	require.Eventually(t, func() bool { return r.waiters(i) == 2 }, 10*time.Second, time.Millisecond)
	q.release <- struct{}{}
	require.Equal(t, outcome{"1", at(100).String(), cacheMiss, nil}, waitFor(t, first, "the first answer"))
	require.Equal(t, outcome{"1", at(120).String(), cacheJoined, nil}, waitFor(t, second, "the second answer"))
}

// F22: an answer from before a change is never kept as one from after it.
func TestReuse_slowReadIsNotKeptAsCurrent(t *testing.T) {
	r, _ := newReuseRig(t, nil)
	q := r.queries()
	slow := r.read(t.Context(), "", "")
	waitFor(t, q.began, "the query")
	r.hub.Publish(change(107))
	close(q.release)
	require.Equal(t, "1", waitFor(t, slow, "the slow answer").body)
	require.Equal(t, outcome{"1", at(100).String(), cacheHit, nil}, r.reads(t, at(100).String()), "what was asked for, and stamped as no more")
	o := r.reads(t, at(107).String())
	require.NotEqual(t, "1", o.body)
	require.Equal(t, at(107).String(), o.stamp)
}

func TestReuse_keptUntilATopicChanges(t *testing.T) {
	r, _ := newReuseRig(t, nil)
	q := r.queries()
	close(q.release)
	require.Equal(t, outcome{"1", at(100).String(), cacheMiss, nil}, r.reads(t, ""))
	require.Equal(t, outcome{"1", at(100).String(), cacheHit, nil}, r.reads(t, at(100).String()))
	r.hub.Publish(freshet.Commit{Revision: at(150), Topics: []string{"another"}})
	require.Equal(t, outcome{"1", at(150).String(), cacheHit, nil}, r.reads(t, at(150).String()), "stamped with what was proven")
	require.Equal(t, outcome{"2", at(150).String(), cacheMiss, nil}, r.reads(t, ""), "a strong read takes nothing that was kept")
	require.Equal(t, outcome{"2", at(150).String(), cacheHit, nil}, r.reads(t, at(100).String()), "and fills the cache")
	r.hub.Publish(change(160))
	require.Equal(t, outcome{"2", at(150).String(), cacheHit, nil}, r.reads(t, at(150).String()), "what was asked for, and stamped as no more")
	require.Equal(t, outcome{"3", at(160).String(), cacheMiss, nil}, r.reads(t, at(160).String()))

	// G9: not while the node is behind.
	r, _ = newReuseRig(t, func(c *Config) { c.MaxLag = time.Nanosecond; c.Hub = lagging{c.Hub} })
	q = r.queries()
	close(q.release)
	r.reads(t, "")
	require.Equal(t, cacheMiss, r.reads(t, at(100).String()).cache)
}

type lagging struct{ Hub }

func (lagging) Lag() time.Duration { return time.Minute }

func TestReuse_newEpochForgets(t *testing.T) {
	r, _ := newReuseRig(t, nil)
	q := r.queries()
	close(q.release)
	r.reads(t, "")
	next := freshet.Revision{Epoch: epoch + 1, Position: 60}
	r.primary.mu.Lock()
	r.primary.insert = next
	r.primary.mu.Unlock()
	r.hub.Begin(next)
	r.hub.Serve(next)
	require.Equal(t, outcome{"2", next.String(), cacheMiss, nil}, r.reads(t, next.String()))
}

// The frontier is lost between at-least's look at it and the query's: nothing says
// that the answer reaches what was asked for. Found by `freshet check --faults`.
func TestReuse_frontierLostWhileWaiting(t *testing.T) {
	r, i := newReuseRig(t, nil)
	q := r.queries()
	first := r.read(t.Context(), "", "")
	waitFor(t, q.began, "the first query")
	r.hub.Publish(change(107))
	second := r.read(t.Context(), "", at(107).String())
	r.queued(t, i, 1)
	r.hub.Begin(freshet.Revision{Epoch: epoch + 1, Position: 60})
	close(q.release)
	require.NoError(t, waitFor(t, first, "the first answer").err)
	requireCode(t, connect.CodeUnavailable, waitFor(t, second, "the second answer").err)
}

// The same where queries aren't shared.
func TestReuse_frontierLostUncached(t *testing.T) {
	r, _ := newReuseRig(t, func(c *Config) {
		c.Contract.Method(messagesv1connect.MessageServiceGetMessageProcedure).Uncached = true
		c.Hub = &forgetful{Hub: c.Hub}
	})
	close(r.queries().release)
	requireCode(t, connect.CodeUnavailable, waitFor(t, r.read(t.Context(), "", at(100).String()), "the answer").err)
}

// forgetful loses its frontier when it has been asked for it once.
type forgetful struct {
	Hub
	asked atomic.Bool
}

func (f *forgetful) Frontier() freshet.Revision {
	if f.asked.Swap(true) {
		return freshet.Revision{}
	}
	return f.Hub.Frontier()
}

// A strong read wants a snapshot from after it arrived: it shares a query that
// waits, and none that runs.
func TestReuse_strongJoinsOnlyWhatHasNotBegun(t *testing.T) {
	r, i := newReuseRig(t, nil)
	q := r.queries()
	first := r.read(t.Context(), "", "")
	waitFor(t, q.began, "the first query")
	second := r.read(t.Context(), "", "")
	third := r.read(t.Context(), "", "")
	r.queued(t, i, 2)
	close(q.release)
	require.Equal(t, "1", waitFor(t, first, "the first answer").body)
	require.Equal(t, "2", waitFor(t, second, "the second answer").body)
	require.Equal(t, "2", waitFor(t, third, "the third answer").body)
}

// F24: no answer crosses principals unless its method says that it may.
func TestReuse_scope(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprint("shared ", shared), func(t *testing.T) {
			r, _ := newReuseRig(t, func(c *Config) {
				c.Contract.Method(messagesv1connect.MessageServiceGetMessageProcedure).Shared = shared
			})
			q := r.queries()
			close(q.release)
			ada := waitFor(t, r.read(t.Context(), "ada", ""), "ada's answer")
			bob := waitFor(t, r.read(t.Context(), "bob", at(100).String()), "bob's answer")
			require.Equal(t, "1", ada.body)
			require.Equal(t, shared, bob.body == "1")
			require.Equal(t, cacheHit, waitFor(t, r.read(t.Context(), "ada", at(100).String()), "ada's answer").cache)
		})
	}
}

func TestReuse_uncachedIsAskedEachTime(t *testing.T) {
	r, _ := newReuseRig(t, func(c *Config) {
		c.Contract.Method(messagesv1connect.MessageServiceGetMessageProcedure).Uncached = true
	})
	q := r.queries()
	close(q.release)
	require.Equal(t, outcome{"1", at(100).String(), "", nil}, r.reads(t, at(100).String()))
	require.Equal(t, outcome{"2", at(100).String(), "", nil}, r.reads(t, at(100).String()))
}

// F26: the client that started a flight may leave; the last one cancels it.
func TestReuse_clientsLeave(t *testing.T) {
	r, i := newReuseRig(t, nil)
	q := r.queries()
	leaving, leave := context.WithCancel(t.Context())
	first := r.read(leaving, "", at(100).String())
	waitFor(t, q.began, "the query")
	staying, leaveToo := context.WithCancel(t.Context())
	defer leaveToo()
	second := r.read(staying, "", at(100).String())
	require.Eventually(t, func() bool { return r.waiters(i) == 2 }, 10*time.Second, time.Millisecond)
	leave()
	require.Error(t, waitFor(t, first, "the first client").err)
	require.Eventually(t, func() bool { return r.waiters(i) == 1 }, 10*time.Second, time.Millisecond)
	require.Empty(t, q.ended)
	q.release <- struct{}{}
	require.Equal(t, "1", waitFor(t, second, "the second answer").body)

	third := r.read(staying, "", "")
	waitFor(t, q.began, "another query")
	leaveToo()
	require.Error(t, waitFor(t, third, "the third client").err)
	require.ErrorIs(t, waitFor(t, q.ended, "the query's end"), context.Canceled)

	// What was cancelled is shared with nobody.
	fourth := r.read(t.Context(), "", at(100).String())
	var o outcome
	select {
	case <-q.began:
		q.release <- struct{}{}
		o = waitFor(t, fourth, "the fourth answer")
	case o = <-fourth: // kept from before
		require.Equal(t, cacheHit, o.cache)
	}
	require.NoError(t, o.err)
}

func TestReuse_flightHasItsOwnDeadline(t *testing.T) {
	r, _ := newReuseRig(t, func(c *Config) { c.MaxRead = 10 * time.Millisecond })
	q := r.queries()
	o := waitFor(t, r.read(t.Context(), "", ""), "the answer")
	requireCode(t, connect.CodeUnavailable, o.err)
	require.ErrorIs(t, waitFor(t, q.ended, "the query's end"), context.DeadlineExceeded)
}

func TestReuse_errorsAndPanicsAreNotKept(t *testing.T) {
	r, _ := newReuseRig(t, nil)
	calls := 0
	r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		if calls++; calls == 1 {
			panic("no")
		}
		return new(messagesv1.GetMessageResponse), nil
	}
	o := waitFor(t, r.read(t.Context(), "", at(100).String()), "the answer")
	requireCode(t, connect.CodeInternal, o.err)
	require.Equal(t, cacheMiss, r.reads(t, at(100).String()).cache)
}

var _ Hub = (*hub.Hub)(nil)

// A flight that lands between a reader's look at the kept answers and its look
// at the flights has kept its answer by then: there is no second query (G7).
func TestReuse_flightLandsBetweenTheTwoLooks(t *testing.T) {
	r, i := newReuseRig(t, nil)
	r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		return &messagesv1.GetMessageResponse{}, nil
	}
	require.Equal(t, cacheMiss, r.reads(t, at(100).String()).cache)
	var key readKey
	i.flights.cache.mu.Lock()
	for key = range i.flights.cache.byKey {
	}
	i.flights.cache.mu.Unlock()
	kept, ok := i.flights.cache.get(key)
	require.True(t, ok)
	join := func(w want, current bool) (f *flight, queries int) {
		f, _ = i.flights.join(t.Context(), key, w, current, &flight{why: becauseFloor, run: func(context.Context) (connect.AnyResponse, error) {
			queries++
			return kept.response, nil
		}})
		require.NoError(t, i.flights.wait(t.Context(), key, f))
		return f, queries
	}
	f, queries := join(want{asked: at(100), frontier: at(100)}, true)
	require.Zero(t, queries)
	require.Same(t, kept.response, f.response)
	require.Equal(t, kept.start, f.start)
	require.True(t, f.stamped)
	for name, tt := range map[string]struct {
		w       want
		current bool
	}{
		"it is behind":            {want{asked: at(101), frontier: at(101)}, true},
		"the read is strong":      {want{}, true},
		"the node is not current": {want{asked: at(100), frontier: at(100)}, false},
	} {
		_, queries := join(tt.w, tt.current)
		require.Equal(t, 1, queries, name)
	}
}
