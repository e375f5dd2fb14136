package reuse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/server/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// F21: a reader at-least 107 doesn't get the answer of a flight that began at
// 100; those who want it share one new statement.
func TestReads_flightFromBeforeTheChangeIsNotShared(t *testing.T) {
	r := newRig(t, nil)
	q := r.queries()
	first := r.read(t.Context(), "", strong)
	require.EqualValues(t, 1, waitFor(t, q.began, "the first query"))

	r.hub.Publish(change(107))
	second := r.read(t.Context(), "", at(107))
	third := r.read(t.Context(), "", at(107))
	r.queued(t, 2)
	require.Empty(t, q.began, "at most one running and one waiting")
	q.release <- struct{}{}
	require.Equal(t, outcome{"1", at(100), Miss, nil}, waitFor(t, first, "the first answer"))
	require.EqualValues(t, 2, waitFor(t, q.began, "the second query"))
	q.release <- struct{}{}
	a, b := waitFor(t, second, "the second answer"), waitFor(t, third, "the third answer")
	for _, o := range []outcome{a, b} {
		require.NoError(t, o.err)
		require.Equal(t, "2", o.body)
		require.Equal(t, at(107), o.stamp)
	}
	require.ElementsMatch(t, []Source{Miss, Joined}, []Source{a.from, b.from})
	require.EqualValues(t, 2, q.calls.Load())
}

// A flight that began at or above the floor is shared, and each waiter has the
// frontier that it read itself.
func TestReads_flightIsSharedByTheFloorRule(t *testing.T) {
	r := newRig(t, nil)
	q := r.queries()
	first := r.read(t.Context(), "", at(100))
	waitFor(t, q.began, "the query")
	r.hub.Advance(at(120)) // others' changes
	second := r.read(t.Context(), "", at(120))
	require.Eventually(t, func() bool { return r.waiters() == 2 }, 10*time.Second, time.Millisecond)
	q.release <- struct{}{}
	require.Equal(t, outcome{"1", at(100), Miss, nil}, waitFor(t, first, "the first answer"))
	require.Equal(t, outcome{"1", at(120), Joined, nil}, waitFor(t, second, "the second answer"))
}

// F22: an answer from before a change is never kept as one from after it.
func TestReads_slowReadIsNotKeptAsCurrent(t *testing.T) {
	r := newRig(t, nil)
	q := r.queries()
	slow := r.read(t.Context(), "", strong)
	waitFor(t, q.began, "the query")
	r.hub.Publish(change(107))
	close(q.release)
	require.Equal(t, "1", waitFor(t, slow, "the slow answer").body)
	require.Equal(t, outcome{"1", at(100), Hit, nil}, r.reads(t, at(100)), "what was asked for, and stamped as no more")
	o := r.reads(t, at(107))
	require.NotEqual(t, "1", o.body)
	require.Equal(t, at(107), o.stamp)
}

func TestReads_keptUntilATopicChanges(t *testing.T) {
	r := newRig(t, nil)
	q := r.queries()
	close(q.release)
	require.Equal(t, outcome{"1", at(100), Miss, nil}, r.reads(t, strong))
	require.Equal(t, outcome{"1", at(100), Hit, nil}, r.reads(t, at(100)))
	r.hub.Publish(freshet.Commit{Revision: at(150), Topics: []string{"another"}})
	require.Equal(t, outcome{"1", at(150), Hit, nil}, r.reads(t, at(150)), "stamped with what was proven")
	require.Equal(t, outcome{"2", at(150), Miss, nil}, r.reads(t, strong), "a strong read takes nothing that was kept")
	require.Equal(t, outcome{"2", at(150), Hit, nil}, r.reads(t, at(100)), "and fills the cache")
	r.hub.Publish(change(160))
	require.Equal(t, outcome{"2", at(150), Hit, nil}, r.reads(t, at(150)), "what was asked for, and stamped as no more")
	require.Equal(t, outcome{"3", at(160), Miss, nil}, r.reads(t, at(160)))

	// G9: not while the node is behind.
	r = newRig(t, func(c *Config) { c.MaxLag = time.Nanosecond; c.Node = lagging{c.Node} })
	q = r.queries()
	close(q.release)
	r.reads(t, strong)
	require.Equal(t, Miss, r.reads(t, at(100)).from)
}

type lagging struct{ Node }

func (lagging) Lag() time.Duration { return time.Minute }

func TestReads_newEpochForgets(t *testing.T) {
	r := newRig(t, nil)
	q := r.queries()
	close(q.release)
	r.reads(t, strong)
	next := freshet.Revision{Epoch: epoch + 1, Position: 60}
	r.hub.Begin(next)
	r.hub.Serve(next)
	require.Equal(t, outcome{"2", next, Miss, nil}, r.reads(t, next))
}

// The frontier is lost between at-least's look at it and the query's: nothing says
// that the answer reaches what was asked for. Found by `freshet check --faults`.
func TestReads_frontierLostWhileWaiting(t *testing.T) {
	r := newRig(t, nil)
	q := r.queries()
	first := r.read(t.Context(), "", strong)
	waitFor(t, q.began, "the first query")
	r.hub.Publish(change(107))
	second := r.read(t.Context(), "", at(107))
	r.queued(t, 1)
	r.hub.Begin(freshet.Revision{Epoch: epoch + 1, Position: 60})
	close(q.release)
	require.NoError(t, waitFor(t, first, "the first answer").err)
	require.Equal(t, outcome{"2", freshet.Revision{}, Miss, nil}, waitFor(t, second, "the second answer"))
}

// A strong read wants a snapshot from after it arrived: it shares a query that
// waits, and none that runs.
func TestReads_strongJoinsOnlyWhatHasNotBegun(t *testing.T) {
	r := newRig(t, nil)
	q := r.queries()
	first := r.read(t.Context(), "", strong)
	waitFor(t, q.began, "the first query")
	second := r.read(t.Context(), "", strong)
	third := r.read(t.Context(), "", strong)
	r.queued(t, 2)
	close(q.release)
	require.Equal(t, "1", waitFor(t, first, "the first answer").body)
	require.Equal(t, "2", waitFor(t, second, "the second answer").body)
	require.Equal(t, "2", waitFor(t, third, "the third answer").body)
}

// F24: no answer crosses principals unless its method says that it may.
func TestReads_scope(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprint("shared ", shared), func(t *testing.T) {
			r := newRig(t, nil)
			r.method.Shared = shared
			q := r.queries()
			close(q.release)
			ada := waitFor(t, r.read(t.Context(), "ada", strong), "ada's answer")
			bob := waitFor(t, r.read(t.Context(), "bob", at(100)), "bob's answer")
			require.Equal(t, "1", ada.body)
			require.Equal(t, shared, bob.body == "1")
			require.Equal(t, Hit, waitFor(t, r.read(t.Context(), "ada", at(100)), "ada's answer").from)
		})
	}
}

func TestReads_notSharedIsAskedEachTime(t *testing.T) {
	for name, change := range map[string]func(*rig){
		"the method says so": func(r *rig) { r.method.Uncached = true },
		"the caller says so": func(r *rig) { r.alone = true },
		"no method":          func(r *rig) { r.method = nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			change(r)
			q := r.queries()
			close(q.release)
			require.Equal(t, outcome{"1", at(100), "", nil}, r.reads(t, at(100)))
			require.Equal(t, outcome{"2", at(100), "", nil}, r.reads(t, at(100)))
			r.hub.Begin(at(100)) // the frontier is lost
			require.Equal(t, outcome{"3", freshet.Revision{}, "", nil}, r.reads(t, strong))
			require.Equal(t, outcome{"4", freshet.Revision{}, "", nil}, r.reads(t, at(100)), "nothing says that it reaches that")
		})
	}
}

// F26: the client that started a flight may leave; the last one cancels it.
func TestReads_clientsLeave(t *testing.T) {
	r := newRig(t, nil)
	q := r.queries()
	leaving, leave := context.WithCancel(t.Context())
	first := r.read(leaving, "", at(100))
	waitFor(t, q.began, "the query")
	staying, leaveToo := context.WithCancel(t.Context())
	defer leaveToo()
	second := r.read(staying, "", at(100))
	require.Eventually(t, func() bool { return r.waiters() == 2 }, 10*time.Second, time.Millisecond)
	leave()
	require.Error(t, waitFor(t, first, "the first client").err)
	require.Eventually(t, func() bool { return r.waiters() == 1 }, 10*time.Second, time.Millisecond)
	require.Empty(t, q.ended)
	q.release <- struct{}{}
	require.Equal(t, "1", waitFor(t, second, "the second answer").body)

	third := r.read(staying, "", strong)
	waitFor(t, q.began, "another query")
	leaveToo()
	require.Error(t, waitFor(t, third, "the third client").err)
	require.ErrorIs(t, waitFor(t, q.ended, "the query's end"), context.Canceled)

	// What was cancelled is shared with nobody.
	fourth := r.read(t.Context(), "", at(100))
	var o outcome
	select {
	case <-q.began:
		q.release <- struct{}{}
		o = waitFor(t, fourth, "the fourth answer")
	case o = <-fourth: // kept from before
		require.Equal(t, Hit, o.from)
	}
	require.NoError(t, o.err)
}

func TestReads_flightHasItsOwnDeadline(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxRead = 10 * time.Millisecond })
	q := r.queries()
	o := waitFor(t, r.read(t.Context(), "", strong), "the answer")
	require.ErrorIs(t, o.err, context.DeadlineExceeded)
	require.ErrorIs(t, waitFor(t, q.ended, "the query's end"), context.DeadlineExceeded)
}

func TestReads_errorsAndPanicsAreNotKept(t *testing.T) {
	r := newRig(t, nil)
	calls := 0
	r.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		if calls++; calls == 1 {
			panic("no")
		}
		return new(messagesv1.GetMessageResponse), nil
	}
	o := waitFor(t, r.read(t.Context(), "", at(100)), "the answer")
	require.Equal(t, connect.CodeInternal, connect.CodeOf(o.err))
	require.Contains(t, r.log.String(), "rpc panicked")
	require.Equal(t, Miss, r.reads(t, at(100)).from)
}

// An error is sent to many, as a response is: each reads its headers, which Connect
// makes on first use. Fails under -race.
func TestReads_errorsAreSharedReady(t *testing.T) {
	r := newRig(t, nil)
	release := make(chan struct{})
	r.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		<-release
		return nil, fmt.Errorf("get: %w", connect.NewError(connect.CodeNotFound, errors.New("gone")))
	}
	first := r.read(t.Context(), "", strong)
	require.Eventually(t, func() bool { return r.waiters() == 1 }, 10*time.Second, time.Millisecond)
	var all sync.WaitGroup
	for range 2 {
		answer := r.read(t.Context(), "", strong)
		all.Go(func() {
			var cerr *connect.Error
			if o := <-answer; !errors.As(o.err, &cerr) || len(cerr.Meta()) != 0 {
				t.Error(o.err)
			}
		})
	}
	r.queued(t, 2)
	close(release)
	all.Wait()
	require.Error(t, (<-first).err)
}

var _ Node = (*hub.Hub)(nil)

// A flight that lands between a reader's look at the kept answers and its look
// at the flights has kept its answer by then: there is no second query (G7).
func TestReads_flightLandsBetweenTheTwoLooks(t *testing.T) {
	r := newRig(t, nil)
	r.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		return &messagesv1.GetMessageResponse{}, nil
	}
	require.Equal(t, Miss, r.reads(t, at(100)).from)
	var key readKey
	r.made.cache.mu.Lock()
	for key = range r.made.cache.byKey {
	}
	r.made.cache.mu.Unlock()
	kept, ok := r.made.cache.get(key)
	require.True(t, ok)
	join := func(w want, current bool) (f *flight, queries int) {
		f, _, _ = r.made.flights.join(t.Context(), key, w, current, &flight{why: becauseFloor, depends: (&Read{}).dependsOn, run: func(_ context.Context, s Since) (connect.AnyResponse, freshet.Revision, error) {
			queries++
			return kept.response, s.Frontier, nil
		}})
		require.NoError(t, r.made.flights.wait(t.Context(), key, f))
		return f, queries
	}
	f, queries := join(want{asked: at(100), frontier: at(100)}, true)
	require.Zero(t, queries)
	require.Same(t, kept.response, f.response)
	require.Equal(t, kept.start, f.start)
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
