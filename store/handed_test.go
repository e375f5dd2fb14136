package store_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// These tests are about the pgx.Tx that InTx, ReadTx and Read hand out: what
// works on pgx's own works on it, and the outcome is right whatever was used.

const insertSQL = "insert into messages (conversation, author, body) values ('7', 'ann', $1)"

func insert(ctx context.Context, tx pgx.Tx, body string) error {
	_, err := tx.Exec(ctx, insertSQL, body)
	return err
}

// bodies are the messages in the database, as SQL sees them.
func bodies(t testing.TB, conn *pgx.Conn) []string {
	t.Helper()
	return one[[]string](t, conn, "select coalesce(array_agg(body order by body), '{}') from messages")
}

// xidOf is the id of the transaction, which a row that is written under a
// savepoint doesn't have.
func xidOf(ctx context.Context, t testing.TB, tx pgx.Tx) (xid string) {
	t.Helper()
	require.NoError(t, tx.QueryRow(ctx, "select pg_current_xact_id()::text").Scan(&xid))
	return xid
}

// requireWriter checks that an outcome names the transaction that wrote a message.
func requireWriter(t testing.TB, conn *pgx.Conn, call *store.Call, body string) {
	t.Helper()
	o := onlyOutcome(t, call)
	require.True(t, o.Committed)
	require.Equal(t, one[string](t, conn, "select xmin::text from messages where body = $1", body), strconv.FormatUint(o.Xid, 10))
	require.LessOrEqual(t, one[uint64](t, conn, "select (pg_current_wal_insert_lsn() - '0/0')::bigint - $1::bigint", int64(o.Position.Position)), uint64(1<<20))
}

// in runs fn in a transaction that succeeds, audited, and returns its call.
func in(t testing.TB, d *store.DB, fn func(ctx context.Context, tx pgx.Tx) error) *store.Call {
	t.Helper()
	call := &store.Call{Audit: true}
	require.NoError(t, d.InTx(store.WithCall(testkit.Context(t), call), fn))
	return call
}

// After COPY nobody knows the transaction's id: it is asked for once.
func TestInTx_copy(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d, conn := open(t, store.Config{URL: url, MaxConns: 1}), testkit.Conn(t, url)
	columns := []string{"conversation", "author", "body"}
	told := uint64(0)
	call := &store.Call{Audit: true, BeforeCommit: func(xid uint64) { told = xid }}
	require.NoError(t, d.InTx(store.WithCall(ctx, call), func(ctx context.Context, tx pgx.Tx) error {
		n, err := tx.CopyFrom(ctx, pgx.Identifier{"messages"}, columns, pgx.CopyFromRows([][]any{{"7", "ann", "1"}, {"7", "ann", "2"}}))
		require.EqualValues(t, 2, n)
		return err
	}))
	requireWriter(t, conn, call, "1")
	require.Equal(t, onlyOutcome(t, call).Xid, told)
	require.Equal(t, []string{"public.messages"}, tables(t, call.Written))
	require.Equal(t, []string{"1", "2"}, bodies(t, conn))

	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, insert(ctx, tx, "3"))
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"messages"}, columns, pgx.CopyFromRows([][]any{{"7", "ann", ""}}))
		return err
	})
	var constraint *store.ConstraintError
	require.ErrorAs(t, err, &constraint)
	require.Equal(t, []string{"1", "2"}, bodies(t, conn))
}

// How the transaction ends is not its function's, in any of the ways that there
// are; nor is the transaction once the function has returned.
func TestInTx_notYours(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d, conn := open(t, store.Config{URL: url, MaxConns: 1}), testkit.Conn(t, url)
	for name, run := range map[string]func(context.Context, func(context.Context, pgx.Tx) error) error{
		"Read": d.Read, "ReadTx": d.ReadTx, "InTx": d.InTx,
	} {
		var kept pgx.Tx
		require.NoError(t, run(ctx, func(ctx context.Context, tx pgx.Tx) error {
			kept = tx
			require.ErrorIs(t, tx.Commit(ctx), store.ErrNotYours, name)
			require.ErrorIs(t, tx.Rollback(ctx), store.ErrNotYours, name)
			require.Nil(t, tx.Conn(), name)
			require.PanicsWithValue(t, "store: LargeObjects is not offered: call lo_create, lo_open, lo_put and their like in SQL", func() { tx.LargeObjects() })
			return list(ctx, tx)
		}), name)
		_, execErr := kept.Exec(ctx, "select 1")
		_, queryErr := kept.Query(ctx, "select 1")
		_, prepareErr := kept.Prepare(ctx, "one", "select 1")
		batch := new(pgx.Batch)
		batch.Queue("select 1")
		for _, err := range []error{
			execErr, queryErr, prepareErr, list(ctx, kept), kept.QueryRow(ctx, "select 1").Scan(new(int)), kept.SendBatch(ctx, batch).Close(),
		} {
			require.ErrorIs(t, err, pgx.ErrTxClosed, name)
		}
	}
	require.ErrorContains(t, d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "commit")
		return err
	}), "ended by a statement")
	require.NoError(t, d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error { return insert(ctx, tx, "next") }), "the connection is fit for use")
	require.Equal(t, []string{"next"}, bodies(t, conn))
}

// A first statement that can't be prepared has taken BEGIN down with it. What
// follows must not be committed by itself.
func TestInTx_firstStatementCannotBePrepared(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d, conn := open(t, store.Config{URL: url}), testkit.Conn(t, url)
	for name, fail := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"Exec": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "select $1::int from nowhere", 1)
			return err
		},
		"no args": func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "select from nowhere"); return err },
		"QueryRow": func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, "select 1 from nowhere").Scan(new(int))
		},
		"Query": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Query(ctx, "select 1 from nowhere")
			return err
		},
		"batch": func(ctx context.Context, tx pgx.Tx) error {
			b := new(pgx.Batch)
			b.Queue("select 1 from nowhere")
			return tx.SendBatch(ctx, b).Close()
		},
		"COPY": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"nowhere"}, []string{"a"}, pgx.CopyFromRows([][]any{{1}}))
			return err
		},
		"Prepare": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Prepare(ctx, "n", "select 1 from nowhere")
			return err
		},
	} {
		err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			require.ErrorContains(t, fail(ctx, tx), "nowhere", name)
			require.ErrorContains(t, insert(ctx, tx, name), "current transaction is aborted", name)
			return nil
		})
		require.ErrorContains(t, err, "aborted", name)
	}
	require.Empty(t, bodies(t, conn))

	// What pgx can't send costs a connection, and is not tried again.
	tries := 0
	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tries++
		_, err := tx.Exec(ctx, "select $1::int", int64(1)<<40)
		return err
	})
	require.ErrorContains(t, err, "encode")
	require.Equal(t, 1, tries)
}

// What pgx takes beside SQL and its arguments is taken.
func TestInTx_options(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d, conn := open(t, store.Config{URL: url, MaxConns: 1}), testkit.Conn(t, url)
	call := in(t, d, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertSQL, pgx.QueryExecModeSimpleProtocol, "simple")
		return err
	})
	requireWriter(t, conn, call, "simple")
	in(t, d, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "insert into messages (conversation, author, body) values ('7', 'ann', @body)", pgx.NamedArgs{"body": "named"})
		require.NoError(t, err)
		tag, err := tx.Exec(ctx, "select 1; delete from messages where body = 'named' -- and nothing else")
		require.NoError(t, err)
		require.Equal(t, "DELETE 1", tag.String())
		tag, err = tx.Exec(ctx, "")
		require.NoError(t, err)
		require.Empty(t, tag.String())

		rows, err := tx.Query(ctx, "select n from generate_series(1, 3) n", pgx.QueryResultFormats{pgx.TextFormatCode})
		require.NoError(t, err)
		require.Equal(t, pgx.TextFormatCode, int(rows.FieldDescriptions()[0].Format))
		found, err := pgx.CollectRows(rows, pgx.RowTo[int])
		require.NoError(t, err)
		require.Equal(t, []int{1, 2, 3}, found)
		var n int
		require.NoError(t, tx.QueryRow(ctx, "select $1::int", pgx.QueryExecModeExec, 5).Scan(&n))
		require.Equal(t, 5, n)

		_, err = tx.Prepare(ctx, "count", "select count(*) from messages")
		require.NoError(t, err)
		require.NoError(t, tx.QueryRow(ctx, "count").Scan(&n))
		require.Equal(t, 1, n)
		tag, err = tx.Exec(ctx, "count")
		require.NoError(t, err)
		require.Equal(t, "SELECT 1", tag.String())

		rows, err = tx.Query(ctx, "select n from generate_series(1, 3) n")
		require.NoError(t, err)
		for rows.Next() { //nolint:revive // and not closed: the last Next does
		}
		require.NoError(t, rows.Err())
		return insert(ctx, tx, "rest")
	})
	require.Equal(t, []string{"rest", "simple"}, bodies(t, conn))

	none := func(ctx context.Context, tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, "select body from messages where body = 'none'") // whose error CollectOneRow has
		_, err := pgx.CollectOneRow(rows, pgx.RowTo[string])
		return err
	}
	for name, run := range map[string]func(context.Context, func(context.Context, pgx.Tx) error) error{
		"Read": d.Read, "ReadTx": d.ReadTx, "InTx": d.InTx,
	} {
		err := run(ctx, none)
		require.ErrorIs(t, err, store.ErrNotFound, name)
		require.ErrorIs(t, err, pgx.ErrNoRows, name)
		var pg *pgconn.PgError
		require.ErrorAs(t, run(ctx, func(ctx context.Context, tx pgx.Tx) error {
			rows, _ := tx.Query(ctx, "select 1 / $1::int", 0)
			_, err := pgx.CollectRows(rows, pgx.RowTo[int])
			return err
		}), &pg, name)
	}
}

// Read has no transaction, and says so; ReadTx has one.
func TestRead_whatATransactionIsFor(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d := open(t, store.Config{URL: url, MaxConns: 1})
	both := func(ctx context.Context, tx pgx.Tx) error {
		b := new(pgx.Batch)
		b.Queue("select 1")
		b.Queue("select 2").QueryRow(func(row pgx.Row) error { return row.Scan(new(int)) })
		results := tx.SendBatch(ctx, b)
		var n int
		require.NoError(t, results.QueryRow().Scan(&n))
		require.Equal(t, 1, n)
		require.NoError(t, results.Close())
		_, err := tx.Prepare(ctx, "three", "select 3")
		require.NoError(t, err)
		require.NoError(t, tx.QueryRow(ctx, "three").Scan(&n))
		require.Equal(t, 3, n)
		_, err = tx.Exec(ctx, "select 1")
		return err
	}
	require.NoError(t, d.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Begin(ctx)
		require.ErrorIs(t, err, store.ErrNoTransaction)
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"messages"}, []string{"body"}, pgx.CopyFromRows(nil))
		require.ErrorIs(t, err, store.ErrNoTransaction)
		return both(ctx, tx)
	}))
	require.NoError(t, d.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select 1")
		require.NoError(t, err)
		require.Error(t, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"messages"}, []string{"body"}, pgx.CopyFromRows([][]any{{"x"}}))
			require.ErrorContains(t, err, "read-only")
			return err
		}))
		return both(ctx, tx)
	}))
}

// F60: all of it works through a pooler, but what would stay behind there.
func TestPooler_F60_whatAPgxTxCan(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	conn := testkit.Conn(t, url)
	d := open(t, store.Config{URL: testkit.NewPgBouncer(t, url, "transaction").URL(), MaxConns: 2})
	require.NoError(t, d.Read(ctx, list)) // the pooler is noticed
	var xid string
	call := in(t, d, func(ctx context.Context, tx pgx.Tx) error {
		b := new(pgx.Batch)
		b.Queue(insertSQL, "batch")
		require.NoError(t, tx.SendBatch(ctx, b).Close())
		require.ErrorIs(t, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			require.NoError(t, insert(ctx, tx, "taken back"))
			return errWanted
		}), errWanted)
		_, err := tx.Prepare(ctx, "one", "select 1")
		require.ErrorContains(t, err, "pooler")
		xid = xidOf(ctx, t, tx)
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"messages"}, []string{"conversation", "author", "body"}, pgx.CopyFromRows([][]any{{"7", "ann", "copy"}}))
		return err
	})
	require.Equal(t, xid, strconv.FormatUint(onlyOutcome(t, call).Xid, 10))
	require.Equal(t, []string{"batch", "copy"}, bodies(t, conn))
}
