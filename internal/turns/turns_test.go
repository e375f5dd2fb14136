package turns

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A hundred of one caller wait; who comes then has the next turn but one at most.
func TestTurns_areTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := New(1)
		require.NoError(t, places.Acquire(t.Context(), "first"))
		var order []string
		var all sync.WaitGroup
		come := func(who string) {
			all.Go(func() {
				if places.Acquire(t.Context(), who) == nil {
					order = append(order, who) // it has the only place
					places.Release()
				}
			})
			synctest.Wait()
		}
		for range 100 {
			come("many")
		}
		come("one")
		come("other")
		come("one")
		places.Release()
		all.Wait()
		require.Equal(t, []string{"many", "one", "other", "many", "one", "many"}, order[:6])
		require.Len(t, order, 103)
		require.Zero(t, places.InUse())
		require.Empty(t, places.lines)
		require.Zero(t, places.order.Len())
	})
}

// Who stops waiting is forgotten, and a place that it has got just then isn't lost.
func TestTurns_whoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := New(1)
		require.NoError(t, places.Acquire(t.Context(), "a"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, places.Acquire(ctx, "b"), context.DeadlineExceeded)
		require.Empty(t, places.lines)
		require.Zero(t, places.order.Len())
		places.Release()
		require.NoError(t, places.Acquire(ctx, "c"), "a place is free: nobody has to wait")
		require.Equal(t, 1, places.InUse())
	})
}

// Never more than there are, never fewer while somebody waits, whoever comes and leaves.
func TestTurns_model(t *testing.T) {
	const most = 3
	places := New(most)
	var held atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for range 2000 {
				ctx, cancel := context.WithTimeout(context.Background(), rand.N(200*time.Microsecond))
				if err := places.Acquire(ctx, fmt.Sprint(i%5)); err == nil {
					if n := held.Add(1); n > most {
						panic(fmt.Sprint(n, " places are held"))
					}
					for range rand.IntN(100) {
						_ = slices.Max([]int{1, 2, 3})
					}
					held.Add(-1)
					places.Release()
				}
				cancel()
			}
		})
	}
	all.Wait()
	require.Zero(t, places.InUse())
	require.Empty(t, places.lines)
	require.Zero(t, places.order.Len())
	require.Equal(t, most, places.Places())
}
