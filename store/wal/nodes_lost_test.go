package wal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
	"github.com/freshet-dev/freshet/store/wal"
)

// TestNodes_F8_windowLost: the window's slot has lost its WAL (wal_status = lost) beside
// nodes that live. They don't notice, and nothing is told twice or conservatively;
// doctor says so while it is so; one of them makes it anew out of its own, and counts
// that.
func TestNodes_F8_windowLost(t *testing.T) {
	t.Parallel()
	_, url := ownDatabase(t, map[string]string{"max_slot_wal_keep_size": "32MB", "min_wal_size": "32MB", "wal_keep_size": "0"})
	nodes := startNodes(t, 2, func(int) string { return url }, func(c *wal.Config) { c.WindowBytes = 1 << 40 })
	told(t, url, "before", nodes...)
	var horizons []freshet.Revision
	var toldBefore []int
	for _, node := range nodes {
		horizons, toldBefore = append(horizons, node.Horizon()), append(toldBefore, len(messages(node)))
	}

	// So that it stays lost until doctor has looked: for 10 s at most.
	conn, ctx := testkit.Conn(t, url), testkit.Context(t)
	_, err := conn.Exec(ctx, `select pg_advisory_lock($1, $2)`, wal.LockClass, wal.LockKeys(slotOf(t, url))[0])
	require.NoError(t, err)
	loseWindow(t, url)
	problems, err := setup.CheckSlot(ctx, conn, slotOf(t, url))
	require.NoError(t, err)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Text, "has lost its WAL")
	require.True(t, problems[0].Warning)
	require.Zero(t, nodes[0].Stats().Slots+nodes[1].Stats().Slots)
	_, err = conn.Exec(ctx, `select pg_advisory_unlock_all()`)
	require.NoError(t, err)

	nodes[0].await(t, "the slot is made anew", func() bool {
		problems, err = setup.CheckSlot(ctx, conn, slotOf(t, url))
		require.NoError(t, err)
		return len(problems) == 0
	})
	nodes[0].await(t, "one of them counts it", func() bool { return nodes[0].Stats().Slots+nodes[1].Stats().Slots == 1 })
	told(t, url, "after", nodes...)
	for i, node := range nodes {
		require.Zero(t, node.Stats().Sessions)
		require.NoError(t, node.Ready())
		require.Equal(t, horizons[i], node.Horizon(), "whoever comes back is told exactly")
		require.Len(t, messages(node)[toldBefore[i]:], 1, "nothing to be on the safe side")
	}
	late := start(t, url).live(t)
	told(t, url, "late", append(nodes, late)...)
	require.Zero(t, late.Stats().Slots, "it has copied the new one")
}

// loseWindow writes WAL until the window's slot has lost its own, and the nodes' copies
// have not: they follow segment by segment.
func loseWindow(t *testing.T, url string) {
	t.Helper()
	conn, ctx, slot := testkit.Conn(t, url), testkit.Context(t), slotOf(t, url)
	var status, at string
	for status != "lost" {
		require.NoError(t, conn.QueryRow(ctx, `select pg_switch_wal()::text from (select pg_logical_emit_message(true, 'test', 'x')) x`).Scan(&at))
		require.Eventually(t, func() bool {
			_, err := conn.Exec(ctx, `checkpoint`) // writes what lets copies move on, and is what finds slots lost
			require.NoError(t, err)
			var behind int
			require.NoError(t, conn.QueryRow(ctx, `
select count(*) filter (where temporary and slot_name ~ $2 and restart_lsn < $3::text::pg_lsn), coalesce(max(wal_status) filter (where slot_name = $1), '')
from pg_replication_slots`, slot, setup.CopiesOf(slot), at).Scan(&behind, &status))
			return behind == 0
		}, testTimeout, testTick)
	}
}
