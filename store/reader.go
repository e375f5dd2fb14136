package store

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNoTransaction is the answer to what needs a transaction, on what Read hands
// out.
var ErrNoTransaction = errors.New("Read has no transaction: read in ReadTx, write in InTx")

// reader is the pgx.Tx of Read and ReadTx: the connection itself. Errors are
// mapped where they arise, so that a function can ask for ErrNotFound, and so
// that its own errors pass through untouched.
type reader struct {
	conn       *pgxpool.Conn
	inTx       bool
	over       bool // the function has returned
	savepoints int
}

var _ pgx.Tx = (*reader)(nil)

// usable says whether statements may be sent.
func (r *reader) usable() error {
	if r.over {
		return pgx.ErrTxClosed
	}
	return nil
}

// transactional is usable for what makes sense in a transaction only.
func (r *reader) transactional() error {
	if !r.inTx {
		return ErrNoTransaction
	}
	return r.usable()
}

func (r *reader) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := r.usable(); err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := r.conn.Exec(ctx, sql, args...)
	return tag, mapError(ctx, err)
}

func (r *reader) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := r.usable(); err != nil {
		return failedRows(err)
	}
	rows, err := r.conn.Query(ctx, sql, args...)
	return mappedRows{rows, ctx}, mapError(ctx, err)
}

func (r *reader) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := r.usable(); err != nil {
		return failedRow{err}
	}
	return mappedRow{r.conn.QueryRow(ctx, sql, args...), ctx}
}

// SendBatch sends the batch. In Read each of its statements has a snapshot of its
// own.
func (r *reader) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := cmp.Or(r.usable(), notNested(b)); err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	queries, inner := ours(b)
	return &batchResults{ctx: ctx, inner: r.conn.SendBatch(ctx, inner), queries: queries}
}

func (r *reader) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := r.transactional(); err != nil {
		return 0, err
	}
	n, err := r.conn.CopyFrom(ctx, table, columns, rows)
	return n, mapError(ctx, err)
}

func (r *reader) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	return prepare(ctx, r.conn, name, sql)
}

// Begin sets a savepoint.
func (r *reader) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := r.transactional(); err != nil {
		return nil, err
	}
	return beginSavepoint(ctx, r, &r.savepoints)
}

func (r *reader) Commit(context.Context) error   { return ErrNotYours }
func (r *reader) Rollback(context.Context) error { return ErrNotYours }
func (r *reader) Conn() *pgx.Conn                { return nil }
func (r *reader) LargeObjects() pgx.LargeObjects { return noLargeObjects() }

// errPooledPrepare: the statement would be on another server connection than the
// next transaction, and nobody would know.
var errPooledPrepare = errors.New("prepare: the database URL leads through a pooler, behind which nothing stays prepared: send the statement itself")

func prepare(ctx context.Context, conn *pgxpool.Conn, name, sql string) (*pgconn.StatementDescription, error) {
	if tagOf(conn.Conn()).pooled {
		return nil, errPooledPrepare
	}
	description, err := conn.Conn().Prepare(ctx, name, sql)
	return description, mapError(ctx, err)
}
