package store_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

var errWanted = errors.New("wanted")

// Savepoints keep or take back what was done since, also after a statement that
// failed, and also within each other.
func TestInTx_savepoints(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	d, conn := open(t, store.Config{URL: url, MaxConns: 1}), testkit.Conn(t, url)
	var xid string
	call := in(t, d, func(ctx context.Context, tx pgx.Tx) error {
		require.ErrorIs(t, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // the first of all
			require.NoError(t, insert(ctx, tx, "taken back"))
			return errWanted
		}), errWanted)
		require.NoError(t, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			require.NoError(t, insert(ctx, tx, "kept"))
			require.ErrorIs(t, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				require.NoError(t, insert(ctx, tx, "inner"))
				return errWanted
			}), errWanted)
			return insert(ctx, tx, "kept too")
		}))
		var constraint *store.ConstraintError
		require.ErrorAs(t, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return insert(ctx, tx, "") }), &constraint, "breaks a constraint")
		require.ErrorContains(t, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "select $1::int from nowhere", 1)
			return err
		}), "nowhere", "can't be prepared")
		var n int
		require.NoError(t, tx.QueryRow(ctx, "select count(*) from messages").Scan(&n))
		require.Equal(t, 2, n)
		xid = xidOf(ctx, t, tx)
		return insert(ctx, tx, "last")
	})
	require.Equal(t, []string{"kept", "kept too", "last"}, bodies(t, conn))
	require.Equal(t, xid, strconv.FormatUint(onlyOutcome(t, call).Xid, 10))

	in(t, d, func(ctx context.Context, tx pgx.Tx) error {
		sp, err := tx.Begin(ctx)
		require.NoError(t, err)
		require.NoError(t, sp.Rollback(ctx))
		for _, err := range []error{sp.Commit(ctx), insert(ctx, sp, "late"), sp.SendBatch(ctx, new(pgx.Batch)).Close()} {
			require.ErrorIs(t, err, pgx.ErrTxClosed)
		}
		_, err = sp.Begin(ctx)
		require.ErrorIs(t, err, pgx.ErrTxClosed)
		require.Nil(t, sp.Conn())
		return nil
	})
}

// A savepoint that is left in a failed state fails the transaction.
func TestInTx_savepointLeftFailed(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	d, conn := open(t, store.Config{URL: url}), testkit.Conn(t, url)
	require.ErrorContains(t, d.InTx(testkit.Context(t), func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, insert(ctx, tx, "1"))
		sp, err := tx.Begin(ctx)
		require.NoError(t, err)
		require.Error(t, insert(ctx, sp, ""))
		return nil
	}), "its function returned no error")
	require.Empty(t, bodies(t, conn))
}
