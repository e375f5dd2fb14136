package store_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// nextEpoch begins it as a node does that finds the row of an ended one.
func nextEpoch(t testing.TB, url string, e freshet.Epoch) {
	t.Helper()
	testkit.Exec(t, url, "update freshet.incarnation set epoch = $1, postmaster_start = pg_postmaster_start_time()", int64(e))
}

// lastEpoch is of which epoch the call's last transaction was, which has committed.
func lastEpoch(t testing.TB, call *store.Call) freshet.Epoch {
	t.Helper()
	outcomes := call.Outcomes()
	require.NotEmpty(t, outcomes)
	last := outcomes[len(outcomes)-1]
	require.True(t, last.Committed)
	return last.Position.Epoch
}

// F42, G5, G6: a clean shutdown keeps the row that names the epoch, which has ended
// all the same. Nothing is read or written in its name: a pool says that there is no
// epoch until a node has begun the next, and whatever is written then is of that one,
// though nobody has asked for it.
func TestPool_F42_cleanRestart(t *testing.T) {
	t.Parallel()
	server := testkit.NewServer(t, map[string]string{"fsync": "off"})
	ctx, url := testkit.Context(t), server.URL("postgres")
	require.NoError(t, prepare(ctx, url))
	direct, through := open(t, store.Config{URL: url}), open(t, store.Config{URL: testkit.NewPgBouncer(t, url, "transaction").URL()})
	pools := map[string]*store.DB{"direct": direct, "through a pooler": through}
	// wrote has a call write that asks for no epoch, and returns of which its outcome is.
	wrote := func(d *store.DB) freshet.Epoch {
		call := new(store.Call)
		require.NoError(t, d.InTx(store.WithCall(ctx, call), create))
		return lastEpoch(t, call)
	}
	for name, d := range pools {
		require.Equal(t, epoch, wrote(d), name)
	}
	server.Restart(t)
	kept := testkit.Conn(t, url)
	require.Equal(t, int64(epoch), one[int64](t, kept, "select epoch from freshet.incarnation"), "the row was kept")
	late := open(t, store.Config{URL: url}) // of a node that starts
	pools["opened since"] = late
	for name, d := range pools {
		for kind, run := range map[string]func(context.Context, func(context.Context, pgx.Tx) error) error{"Read": d.Read, "ReadTx": d.ReadTx, "InTx": d.InTx} {
			require.ErrorIs(t, run(ctx, list), store.ErrNoEpoch, "%s: %s", name, kind)
		}
	}
	require.ErrorIs(t, askOf(ctx, guardedPool(t, url, nil)), store.ErrNoEpoch)
	require.ErrorIs(t, store.CheckReplica(ctx, url, url), store.ErrNoEpoch)

	nextEpoch(t, url, epoch+1)
	for name, d := range pools {
		require.Equal(t, epoch+1, wrote(d), name)
		require.NoError(t, d.Read(ctx, list), name)
	}
}

// G5, G6: a node may begin the next epoch of a server that goes on: where it has
// served a higher one itself, or what wrote the row was another version. Connections
// of the one before live on, and serve no write any more, which names no epoch, once
// the node is in the next; nor do new ones, should the database still be behind.
func TestPool_F42_nextEpochOfTheSameRun(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	pooler := testkit.NewPgBouncer(t, url, "transaction").URL()
	for name, d := range map[string]*store.DB{
		"direct": open(t, store.Config{URL: url, MaxConns: 2}), "through a pooler": open(t, store.Config{URL: pooler, MaxConns: 2}),
	} {
		setEpoch(t, url, epoch)
		write := func(node freshet.Epoch) (freshet.Epoch, error) {
			call := &store.Call{Guarded: node}
			if err := d.InTx(store.WithCall(ctx, call), create); err != nil {
				return 0, err
			}
			return lastEpoch(t, call), nil
		}
		of, err := write(0)
		require.NoError(t, err, name)
		require.Equal(t, epoch, of, name)

		_, err = write(epoch + 1)
		require.ErrorIs(t, err, store.ErrEpoch, "%s: the database is behind the node", name)
		_, err = write(0)
		require.ErrorIs(t, err, store.ErrEpoch, "%s: and is known to be", name)

		setEpoch(t, url, epoch+1)
		for _, node := range []freshet.Epoch{epoch + 1, 0} {
			of, err = write(node)
			require.NoError(t, err, name)
			require.Equal(t, epoch+1, of, name)
		}
		setEpoch(t, url, epoch+2)
		of, err = write(epoch + 2)
		require.NoError(t, err, name)
		require.Equal(t, epoch+2, of, "%s: no connection is left of the epoch before", name)
	}
}
