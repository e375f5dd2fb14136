package store_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// F60: through a pooler, in either of the modes in which a transaction stays on
// one server, every call works, without a setting, also when there are more
// callers than server connections.
func TestPooler_F60(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ctx, url := testkit.Context(t), migrated(t)
			d := open(t, store.Config{URL: testkit.NewPgBouncer(t, url, mode).URL(), MaxConns: 4})
			const callers, calls = 12, 8
			var all errgroup.Group
			for range callers {
				all.Go(func() error {
					for range calls {
						if err := d.InTx(ctx, create); err != nil {
							return err
						}
						if err := d.Read(ctx, list); err != nil {
							return err
						}
						if err := d.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error { return list(ctx, tx) }); err != nil {
							return err
						}
					}
					return nil
				})
			}
			require.NoError(t, all.Wait())
			require.Equal(t, callers*calls, countMessages(t, d))
			require.ErrorIs(t, d.Read(ctx, get), store.ErrNotFound)

			call := new(store.Call)
			require.NoError(t, d.InTx(store.WithCall(ctx, call), create))
			require.NotZero(t, onlyOutcome(t, call).Xid)
			call = new(store.Call)
			require.NoError(t, d.InTx(store.WithCall(ctx, call), func(context.Context, pgx.Tx) error { return nil }))
			require.Zero(t, onlyOutcome(t, call).Xid, "nothing asked, nothing written")
		})
	}
}

// F60: a pooler that takes transactions apart is refused, in words.
func TestPooler_F60_statementMode(t *testing.T) {
	t.Parallel()
	d := open(t, store.Config{URL: testkit.NewPgBouncer(t, migrated(t), "statement").URL()})
	require.ErrorIs(t, d.InTx(testkit.Context(t), create), store.ErrUnavailable)
	require.ErrorIs(t, d.Read(testkit.Context(t), list), store.ErrUnavailable)
	watch(t, d)
	awaitReady(t, d, "pool_mode")
}

// F86: a pooler keeps our connections while the server behind them becomes
// another one. No call of one epoch is answered by another, though the
// connection was tagged with the first.
func TestPooler_F86_anotherServerBehindTheConnection(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ctx, url, promoted := testkit.Context(t), migrated(t), migrated(t)
			setEpoch(t, promoted, epoch+1)
			testkit.Exec(t, url, "insert into messages (conversation, author, body) values ('7', 'ann', 'lost')")
			pooler := testkit.NewPgBouncer(t, url, mode)
			d := open(t, store.Config{URL: pooler.URL(), MaxConns: 1})
			calling := func(later freshet.Epoch) context.Context {
				return store.WithCall(ctx, &store.Call{Epoch: epoch + later})
			}
			require.NoError(t, d.Read(calling(0), list))
			var old int32
			require.NoError(t, d.Ask(ctx, "select pg_backend_pid()", &old))
			pooler.Point(promoted)
			testkit.Exec(t, url, "select pg_terminate_backend($1)", old) // the old primary is gone
			for name, run := range map[string]func(context.Context, func(context.Context, pgx.Tx) error) error{
				"Read": d.Read, "ReadTx": d.ReadTx, "InTx": d.InTx,
			} {
				require.ErrorIs(t, run(calling(0), list), store.ErrEpoch, name)
				require.NoError(t, run(calling(1), list), name)
			}
			call := new(store.Call)
			require.NoError(t, d.InTx(store.WithCall(ctx, call), create))
			require.Equal(t, epoch+1, call.Outcomes()[0].Position.Epoch, "a write's need is of the history that it was written in")
		})
	}
}
