package wal

import (
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// An epoch is never given twice, though the database's own rows go back with a
// restored copy, and though epochs are ahead of the clock.
func TestResolveEpoch_restoredCopy(t *testing.T) {
	url := testkit.Migrated(t)
	conn, ctx := testkit.Conn(t, url), testkit.Context(t)
	started := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	run := func(n int) incarnation { // of the same cluster, started again
		return incarnation{systemIdentifier: "7", timeline: 1, postmasterStart: started.Add(time.Duration(n) * time.Second)}
	}
	resolve := func(now incarnation, served history) (freshet.Epoch, bool) {
		t.Helper()
		epoch, fresh, err := resolveEpoch(ctx, conn, now, served, 0)
		require.NoError(t, err)
		return epoch, fresh
	}
	testkit.Exec(t, url, `insert into freshet.epoch (last) values (extract(epoch from clock_timestamp())::bigint + 1000)`)
	first, fresh := resolve(run(1), history{})
	require.True(t, fresh)
	again, fresh := resolve(run(1), history{})
	require.False(t, fresh)
	require.Equal(t, first, again)
	second, fresh := resolve(run(2), history{first, run(1)})
	require.True(t, fresh)
	require.Equal(t, first+1, second)
	again, fresh = resolve(run(2), history{second, run(2)})
	require.False(t, fresh, "a session that begins anew")
	require.Equal(t, second, again)

	// The copy is from before the second run: by itself it would come to its epoch.
	restore := func() {
		testkit.Exec(t, url, `update freshet.epoch set last = $1`, first)
		testkit.Exec(t, url, `update freshet.incarnation set epoch = $1, postmaster_start = $2`, first, run(1).postmasterStart)
	}
	restore()
	third, fresh := resolve(run(3), history{second, run(2)})
	require.True(t, fresh)
	require.Equal(t, second+1, third)

	// Another node is first, and knows of nothing.
	restore()
	theirs, fresh := resolve(run(3), history{})
	require.True(t, fresh)
	require.Equal(t, second, theirs)
	third, fresh = resolve(run(3), history{second, run(2)})
	require.True(t, fresh)
	require.Equal(t, second+1, third)
	theirs, fresh = resolve(run(3), history{theirs, run(3)})
	require.False(t, fresh, "which the other one takes over")
	require.Equal(t, third, theirs)
}

// TestResolveEpoch_F77_anotherDatabase: the rows travel with a dump, which may be
// restored beside the original and take its name.
func TestResolveEpoch_F77_anotherDatabase(t *testing.T) {
	url := testkit.Migrated(t)
	conn, ctx := testkit.Conn(t, url), testkit.Context(t)
	original := incarnation{systemIdentifier: "7", timeline: 1, postmasterStart: time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC), database: 16384}
	first, _, err := resolveEpoch(ctx, conn, original, history{}, 0)
	require.NoError(t, err)
	restored := original
	restored.database = 16999
	second, fresh, err := resolveEpoch(ctx, conn, restored, history{}, 0)
	require.NoError(t, err)
	require.True(t, fresh)
	require.Greater(t, second, first)
	again, fresh, err := resolveEpoch(ctx, conn, restored, history{}, 0)
	require.NoError(t, err)
	require.False(t, fresh)
	require.Equal(t, second, again)
}

// TestResolveEpoch_F8_putBack: a virtual machine that is put back to a snapshot with its
// memory is the same server, by all that it says of itself. A node that has told of more
// than its WAL holds begins an epoch, which the others take over, whatever they have told.
func TestResolveEpoch_F8_putBack(t *testing.T) {
	url := testkit.Migrated(t)
	conn, ctx := testkit.Conn(t, url), testkit.Context(t)
	now := incarnation{systemIdentifier: "7", timeline: 1, postmasterStart: time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)}
	resolve := func(served history, reached pglogrepl.LSN) (freshet.Epoch, bool) {
		t.Helper()
		epoch, fresh, err := resolveEpoch(ctx, conn, now, served, reached)
		require.NoError(t, err)
		return epoch, fresh
	}
	first, _ := resolve(history{}, 0)
	var end pglogrepl.LSN
	require.NoError(t, conn.QueryRow(ctx, `select pg_current_wal_insert_lsn()`).Scan(&end))
	again, fresh := resolve(history{first, now}, end)
	require.False(t, fresh)
	require.Equal(t, first, again)

	second, fresh := resolve(history{first, now}, end+1<<30)
	require.True(t, fresh)
	require.Greater(t, second, first)
	for _, reached := range []pglogrepl.LSN{end, end + 1<<30} {
		again, fresh = resolve(history{first, now}, reached)
		require.False(t, fresh)
		require.Equal(t, second, again)
	}
}

// TestResolveEpoch_F70_readOnly: where transactions are read-only unless somebody
// asks, as providers do when a disk is nearly full, the epoch is written all the
// same: without one nobody is served.
func TestResolveEpoch_F70_readOnly(t *testing.T) {
	conn, ctx := testkit.Conn(t, testkit.WithParam(t, testkit.Migrated(t), "default_transaction_read_only", "on")), testkit.Context(t)
	epoch, fresh, err := resolveEpoch(ctx, conn, incarnation{systemIdentifier: "7", postmasterStart: time.Now()}, history{}, 0)
	require.NoError(t, err)
	require.True(t, fresh)
	require.NotZero(t, epoch)
}
