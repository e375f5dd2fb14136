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
//
// In Read there is no transaction that could have set the session. So what sets it
// travels before each statement in one pipeline, which is a transaction of its own
// (PostgreSQL manual, 55.2.3 and 55.2.4): the read takes one round trip as ever.
type reader struct {
	conn       *pgxpool.Conn
	session    *Session // to be set with each statement; nil: there is none, or it is set
	inTx       bool
	begun      bool // Read has had to open a transaction
	over       bool // the function has returned
	savepoints int
}

var _ pgx.Tx = (*reader)(nil)

// send sends statements behind what sets the session. The caller reads their
// results, then calls finish.
func (r *reader) send(ctx context.Context, queries ...*pgx.QueuedQuery) (pgx.BatchResults, error) {
	batch := new(pgx.Batch)
	r.session.queue(batch)
	batch.QueuedQueries = append(batch.QueuedQueries, queries...)
	results := r.conn.SendBatch(ctx, batch)
	return results, r.session.set(results)
}

// finish ends what send has begun. It is as transaction.finish.
func (*reader) finish(results pgx.BatchResults, _ bool, err error) error {
	return cmp.Or(err, results.Close())
}

// begin opens a transaction, with the session, for a statement that knows no
// company. It is read-only: it will be rolled back.
func (r *reader) begin(ctx context.Context) error {
	if r.session == nil {
		return nil
	}
	session := r.session
	r.session, r.begun = nil, true
	return session.begin(ctx, r.conn, beginSQL+" read only")
}

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
	if len(args) == 0 || hasOptions(args) { // it may be several
		if err := r.begin(ctx); err != nil {
			return pgconn.CommandTag{}, err
		}
	}
	if r.session == nil {
		tag, err := r.conn.Exec(ctx, sql, args...)
		return tag, mapError(ctx, err)
	}
	results, err := r.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: args})
	var tag pgconn.CommandTag
	if err == nil {
		tag, err = results.Exec()
	}
	return tag, mapError(ctx, r.finish(results, true, err))
}

func (r *reader) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := r.usable(); err != nil {
		return failedRows(err)
	}
	if hasOptions(args) {
		if err := r.begin(ctx); err != nil {
			return failedRows(err)
		}
	}
	if r.session == nil {
		rows, err := r.conn.Query(ctx, sql, args...)
		return mappedRows{rows, ctx}, mapError(ctx, err)
	}
	results, err := r.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: args})
	if err == nil {
		var rows pgx.Rows
		if rows, err = results.Query(); err == nil {
			return &companyRows{mappedRows: mappedRows{rows, ctx}, of: r, results: results}, nil
		}
	}
	return failedRows(mapError(ctx, r.finish(results, true, err)))
}

func (r *reader) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := r.usable(); err != nil {
		return failedRow{err}
	}
	if hasOptions(args) {
		if err := r.begin(ctx); err != nil {
			return failedRow{err}
		}
	}
	if r.session == nil {
		return mappedRow{r.conn.QueryRow(ctx, sql, args...), ctx}
	}
	results, err := r.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: args})
	return companyRow{ctx: ctx, of: r, results: results, err: err}
}

// SendBatch sends the batch. In Read each of its statements has a snapshot of its
// own.
func (r *reader) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := cmp.Or(r.usable(), notNested(b)); err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	queries, inner := ours(b)
	if r.session == nil || b.Len() == 0 {
		return &batchResults{ctx: ctx, inner: r.conn.SendBatch(ctx, inner), queries: queries}
	}
	results, err := r.send(ctx, inner.QueuedQueries...)
	return &batchResults{ctx: ctx, inner: results, queries: queries, err: mapError(ctx, err), of: r}
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
