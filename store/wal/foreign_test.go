package wal

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// TestQuarantine_foreign: what another version tells is held from the first time that
// it is seen until it hasn't been for long, and then until it has been told once more.
func TestQuarantine_foreign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const linger = time.Minute
		q := newQuarantine(nil)
		held := func(want ...freshet.Pattern) {
			t.Helper()
			floors, changed := q.takeChanged()
			require.True(t, changed)
			require.Equal(t, want, floors)
		}
		a, b := freshet.Pattern("a/*"), freshet.Pattern("b/*")
		require.True(t, q.meet([]freshet.Pattern{a, b}, linger))
		held(a, b)
		require.Equal(t, []freshet.Pattern{a, b}, q.tell())
		time.Sleep(linger - time.Second)
		require.False(t, q.meet([]freshet.Pattern{a}, linger))
		require.False(t, q.meet(nil, linger), "a node that connects anew isn't seen for a moment")
		require.Empty(t, q.tell())
		time.Sleep(2 * time.Second)
		require.True(t, q.meet([]freshet.Pattern{a}, linger))
		q.reached(0)
		_, changed := q.takeChanged()
		require.False(t, changed, "not before it has been told")
		require.Equal(t, []freshet.Pattern{b}, q.tell())
		q.reached(0)
		held(a)
		time.Sleep(2 * linger)
		require.True(t, q.meet(nil, linger))
		require.False(t, q.meet([]freshet.Pattern{a}, linger), "it is back before it was let go")
		require.Equal(t, []freshet.Pattern{a}, q.tell())
		q.reached(0)
		_, changed = q.takeChanged()
		require.False(t, changed)
	})
}

// TestGate_announced: that a contract was recorded isn't lost where commits are merged.
func TestGate_announced(t *testing.T) {
	g := gate{} // which merges everything
	for xid := range uint32(3) {
		g.push(&transaction{xid: xid + 1, end: pglogrepl.LSN(xid + 1), announced: xid == 1})
	}
	batch := g.release(&snapshot{xmax: 10}, 10, nil)
	require.NotEmpty(t, batch)
	require.True(t, slices.ContainsFunc(batch, func(w waiting) bool { return w.announced && w.end >= 2 }))
}
