package store_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// A batch is as pgx's: read one by one, by functions, or not at all.
func TestInTx_batch(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	d, conn := open(t, store.Config{URL: url}), testkit.Conn(t, url)
	call := in(t, d, func(ctx context.Context, tx pgx.Tx) error {
		b := new(pgx.Batch)
		b.Queue(insertSQL, "1")
		b.Queue("select body from messages order by body")
		b.Queue("select count(*) from messages where body = @body", pgx.NamedArgs{"body": "1"})
		results := tx.SendBatch(ctx, b)
		tag, err := results.Exec()
		require.NoError(t, err)
		require.Equal(t, "INSERT 0 1", tag.String())
		rows, err := results.Query()
		require.NoError(t, err)
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Equal(t, []string{"1"}, found)
		var n int
		require.NoError(t, results.QueryRow().Scan(&n))
		require.Equal(t, 1, n)
		_, err = results.Exec()
		require.ErrorContains(t, err, "no more results", "what travels with the batch doesn't show")
		require.Nil(t, results.Tx())
		return results.Close()
	})
	requireWriter(t, conn, call, "1")
	require.Equal(t, []string{"public.messages"}, tables(t, call.Written))

	// By functions, each with the results that are its statement's.
	in(t, d, func(ctx context.Context, tx pgx.Tx) error {
		var order []string
		b := new(pgx.Batch)
		b.Queue(insertSQL, "2").Exec(func(tag pgconn.CommandTag) error {
			order = append(order, tag.String())
			return nil
		})
		b.Queue("select 'row'").QueryRow(func(row pgx.Row) error {
			var text string
			err := row.Scan(&text)
			order = append(order, text)
			return err
		})
		b.Queue("select 'rows'").Query(func(rows pgx.Rows) error {
			texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
			order = append(order, texts...)
			return err
		})
		require.NoError(t, tx.SendBatch(ctx, b).Close())
		require.Equal(t, []string{"INSERT 0 1", "row", "rows"}, order)
		require.NoError(t, tx.SendBatch(ctx, new(pgx.Batch)).Close(), "an empty one")
		return nil
	})

	// What is left unread is not taken for the transaction's id.
	for name, read := range map[string]func(pgx.BatchResults){
		"nothing read": func(pgx.BatchResults) {},
		"rows left open": func(results pgx.BatchResults) {
			_, err := results.Exec()
			require.NoError(t, err)
			_, err = results.Query()
			require.NoError(t, err)
		},
	} {
		call = in(t, d, func(ctx context.Context, tx pgx.Tx) error {
			b := new(pgx.Batch)
			b.Queue(insertSQL, name)
			b.Queue("select 1::bigint from generate_series(1, 3)")
			results := tx.SendBatch(ctx, b)
			read(results)
			return results.Close()
		})
		requireWriter(t, conn, call, name)
	}
	call = in(t, d, func(ctx context.Context, tx pgx.Tx) error {
		b := new(pgx.Batch)
		b.Queue(insertSQL, "3").Exec(func(pgconn.CommandTag) error { return pgx.ErrNoRows })
		b.Queue("select 1::bigint").QueryRow(func(pgx.Row) error { t.Error("called after a function that failed"); return nil })
		require.ErrorIs(t, tx.SendBatch(ctx, b).Close(), pgx.ErrNoRows)
		return nil
	})
	requireWriter(t, conn, call, "3")
}

func TestInTx_batchFails(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d, conn := open(t, store.Config{URL: url}), testkit.Conn(t, url)
	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b := new(pgx.Batch)
		b.Queue(insertSQL, "1")
		b.Queue(insertSQL, "") // breaks a constraint
		b.Queue(insertSQL, "3").Exec(func(pgconn.CommandTag) error { t.Error("called after a failure"); return nil })
		return tx.SendBatch(ctx, b).Close()
	})
	var constraint *store.ConstraintError
	require.ErrorAs(t, err, &constraint)
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Empty(t, bodies(t, conn))

	require.ErrorContains(t, d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b := new(pgx.Batch)
		b.BeginTx(pgx.TxOptions{})
		return tx.SendBatch(ctx, b).Close()
	}), "use Begin")

	// A conflict in a batch is tried again, as anywhere.
	tries := 0
	call := new(store.Call)
	require.NoError(t, d.InTx(store.WithCall(ctx, call), func(ctx context.Context, tx pgx.Tx) error {
		tries++
		b := new(pgx.Batch)
		b.Queue(insertSQL, "again")
		if tries == 1 {
			b.Queue("do $$ begin raise exception using errcode = '40001'; end $$")
		}
		return tx.SendBatch(ctx, b).Close()
	}))
	require.Equal(t, 2, tries)
	require.Len(t, call.Outcomes(), 2)
	require.Equal(t, []string{"again"}, bodies(t, conn))
}
