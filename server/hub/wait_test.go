package hub

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// waiting starts a Wait whose result arrives on the channel.
func waiting(ctx context.Context, h *Hub, rev freshet.Revision) <-chan error {
	done := make(chan error, 1)
	go func() { done <- h.Wait(ctx, rev) }()
	return done
}

func requirePending(t *testing.T, done <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		require.Failf(t, "the wait is over", "%v", err)
	default:
	}
}

func requireDone(t *testing.T, done <-chan error) error {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		return err
	default:
		require.Fail(t, "the wait goes on")
		return nil
	}
}

func TestWait_isReleasedInOrderByPublishAdvanceAndServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Config{})
		zero := waiting(t.Context(), h, freshet.Revision{})
		first := waiting(t.Context(), h, at(100))
		second := waiting(t.Context(), h, at(110))
		third := waiting(t.Context(), h, at(111))
		h.Begin(at(90))
		h.Publish(commit(105, "a"))
		requirePending(t, zero)
		requirePending(t, first)
		require.Equal(t, 4, h.Stats().Waiters)
		h.Serve(at(105))
		require.NoError(t, requireDone(t, zero))
		require.NoError(t, requireDone(t, first))
		requirePending(t, second)
		h.Publish(commit(110, "a"))
		require.NoError(t, requireDone(t, second))
		requirePending(t, third)
		h.Advance(at(200))
		require.NoError(t, requireDone(t, third))
		require.NoError(t, h.Wait(t.Context(), at(200)))
		require.NoError(t, h.Wait(t.Context(), freshet.Revision{}))
		require.Zero(t, h.Stats().Waiters)
	})
}

func TestWait_endsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serving(t, Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		stays := waiting(t.Context(), h, at(500))
		start := time.Now()
		require.ErrorIs(t, h.Wait(ctx, at(400)), context.DeadlineExceeded)
		require.Equal(t, 2*time.Second, time.Since(start))
		require.Equal(t, 1, h.Stats().Waiters, "the other one keeps its place")
		h.Advance(at(500))
		require.NoError(t, requireDone(t, stays))
	})
}

func TestWait_acrossEpochs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serving(t, Config{})
		old := waiting(t.Context(), h, at(500))
		next := func(p uint64) freshet.Revision { return freshet.Revision{Epoch: 8, Position: p} }
		higher := waiting(t.Context(), h, next(10))
		requirePending(t, higher)
		h.Begin(next(5))
		requirePending(t, old)
		h.Serve(next(9))
		var ended *EpochError
		require.ErrorAs(t, requireDone(t, old), &ended)
		require.Equal(t, freshet.Epoch(8), ended.Current)
		require.ErrorAs(t, h.Wait(t.Context(), at(1)), &ended)
		requirePending(t, higher)
		h.Publish(freshet.Commit{Revision: next(10)})
		require.NoError(t, requireDone(t, higher))
	})
}

// The frontier may get there between Wait's first look and its place in the heap.
func TestWait_looksAgainBeforeItWaits(t *testing.T) {
	h := serving(t, Config{})
	w := &waiter{rev: at(100), done: make(chan error, 1)}
	require.False(t, h.enqueue(w))
	require.NoError(t, <-w.done)
	require.Zero(t, h.Stats().Waiters)
}
