package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	beginSQL = "begin isolation level read committed"
	xidSQL   = "select coalesce(pg_current_xact_id_if_assigned()::text::bigint, 0)"
)

// errSwallowed: fn returned nil after a statement that failed; COMMIT would roll
// back and look like success.
var errSwallowed = errors.New("transaction is aborted, but its function returned no error")

// transaction is the db.DBTX of InTx. BEGIN travels with the first statement,
// and the question for the transaction's id behind each: so that a mutation of
// one statement takes two round trips, COMMIT included, and not four. (Through a
// pooler BEGIN has a round trip of its own, which proves the epoch.)
type transaction struct {
	conn  *pgxpool.Conn
	begun bool   // BEGIN has been sent
	xid   uint64 // after the last statement; zero: nothing was written
	known bool   // xid is of now
}

// send sends a statement with its company. The caller reads its result, then
// calls finish.
func (tx *transaction) send(ctx context.Context, sql string, args []any) (pgx.BatchResults, error) {
	batch := new(pgx.Batch)
	first := !tx.begun
	if first {
		batch.Queue(beginSQL)
	}
	batch.Queue(sql, args...)
	batch.Queue(xidSQL)
	tx.begun, tx.known = true, false
	results := tx.conn.SendBatch(ctx, batch)
	if first {
		if _, err := results.Exec(); err != nil {
			return results, err
		}
	}
	return results, nil
}

// finish reads what follows the statement's own result, and returns the
// statement's error, or else its own.
func (tx *transaction) finish(results pgx.BatchResults, err error) error {
	if err == nil || errors.Is(err, pgx.ErrNoRows) {
		var xid int64
		if scanErr := results.QueryRow().Scan(&xid); scanErr == nil {
			tx.xid, tx.known = uint64(xid), true
		}
	}
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return err
}

// check says whether the transaction may be committed, after fn has returned
// without an error.
func (tx *transaction) check(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // nobody waits for it any more
	case !tx.begun:
		return nil
	case tx.conn.Conn().PgConn().TxStatus() != 'T' || !tx.known:
		return errSwallowed
	}
	return nil
}

func (tx *transaction) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	results, err := tx.send(ctx, sql, args)
	var tag pgconn.CommandTag
	if err == nil {
		tag, err = results.Exec()
	}
	return tag, mapError(ctx, tx.finish(results, err))
}

func (tx *transaction) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	results, err := tx.send(ctx, sql, args)
	if err == nil {
		var rows pgx.Rows
		if rows, err = results.Query(); err == nil {
			return &transactionRows{mappedRows: mappedRows{rows, ctx}, tx: tx, results: results}, nil
		}
	}
	return nil, mapError(ctx, tx.finish(results, err))
}

func (tx *transaction) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	results, err := tx.send(ctx, sql, args)
	return transactionRow{ctx: ctx, tx: tx, results: results, err: err}
}

type transactionRow struct {
	ctx     context.Context
	tx      *transaction
	results pgx.BatchResults
	err     error
}

func (r transactionRow) Scan(dest ...any) error {
	err := r.err
	if err == nil {
		err = r.results.QueryRow().Scan(dest...)
	}
	return mapError(r.ctx, r.tx.finish(r.results, err))
}

// transactionRows finishes its statement when it is closed, which generated code
// does before anything else is sent.
type transactionRows struct {
	mappedRows
	tx      *transaction
	results pgx.BatchResults // nil: finished
}

func (r *transactionRows) Close() {
	r.mappedRows.Close()
	if r.results != nil {
		// What goes wrong behind the rows leaves the id unknown; check sees that.
		_ = r.tx.finish(r.results, r.Rows.Err())
		r.results = nil
	}
}
