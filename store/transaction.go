package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	beginSQL = "begin isolation level read committed"
	xidSQL   = "select coalesce(pg_current_xact_id_if_assigned()::text::bigint, 0)"
)

var (
	// ErrNotYours is the answer to Commit and Rollback on what Read, ReadTx and InTx
	// hand out. (What its Begin returns is the function's own to end.)
	ErrNotYours = errors.New("the transaction is not its function's to end: return nil to commit it, or an error to roll it back")

	// errSwallowed: fn returned nil after a statement that failed; COMMIT would roll
	// back and look like success.
	errSwallowed = errors.New("transaction is aborted, but its function returned no error")

	// errEnded: what fn did is committed, or not, without anybody having been told.
	errEnded = errors.New("transaction was ended by a statement of its function")

	// errAborted is for what follows a statement that failed before its BEGIN got
	// through. With BEGIN the server says so itself.
	errAborted = errors.New("current transaction is aborted: a statement of it has failed")

	errNestedBatch = errors.New("Batch.BeginTx has no place in a transaction: use Begin")
)

// transaction is the pgx.Tx of InTx. BEGIN travels with the first statement, and
// the question for the transaction's id behind each: so that a mutation of one
// statement takes two round trips, COMMIT included, and not four. (Through a
// pooler BEGIN has a round trip of its own, which proves the epoch.)
type transaction struct {
	conn    *pgxpool.Conn
	session *Session // set behind BEGIN

	begun  bool   // BEGIN has been sent
	failed bool   // the statement that BEGIN was to travel with, before it had left
	over   bool   // fn has returned
	xid    uint64 // after the last statement; zero: nothing was written
	known  bool   // xid is of now

	savepoints int
	prepared   map[string]bool // names of statements
}

var _ pgx.Tx = (*transaction)(nil)

// usable says whether statements may be sent.
func (tx *transaction) usable() error {
	switch {
	case tx.over:
		return pgx.ErrTxClosed
	case tx.failed:
		return errAborted
	default:
		return nil
	}
}

// begin sends BEGIN by itself, before what it can't travel with.
func (tx *transaction) begin(ctx context.Context) error {
	if err := tx.usable(); err != nil || tx.begun {
		return err
	}
	tx.begun, tx.known = true, true // nothing is written
	err := tx.session.begin(ctx, tx.conn, beginSQL)
	tx.noticeBegin(err)
	return err
}

// send sends statements with their company. The caller reads their results, then
// calls finish.
func (tx *transaction) send(ctx context.Context, queries ...*pgx.QueuedQuery) (pgx.BatchResults, error) {
	batch := new(pgx.Batch)
	first := !tx.begun
	if first {
		batch.Queue(beginSQL)
		tx.session.queue(batch)
	}
	batch.QueuedQueries = append(batch.QueuedQueries, queries...)
	batch.Queue(xidSQL)
	tx.begun, tx.known = true, false
	results := tx.conn.SendBatch(ctx, batch)
	if first {
		if _, err := results.Exec(); err != nil {
			return results, err
		}
		if err := tx.session.set(results); err != nil {
			return results, err
		}
	}
	return results, nil
}

// finish reads what follows the statements' own results, if these have all been
// read, and returns their error, or else its own.
func (tx *transaction) finish(results pgx.BatchResults, read bool, err error) error {
	if read {
		var xid int64
		if scanErr := results.QueryRow().Scan(&xid); scanErr == nil {
			tx.xid, tx.known = uint64(xid), true
		}
	}
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	tx.noticeBegin(err)
	return err
}

// noticeBegin finds out whether BEGIN has got through together with a statement
// that failed. It hasn't if that could not be prepared, which comes before: then
// the next statement would be committed by itself.
func (tx *transaction) noticeBegin(err error) {
	if err != nil && tx.conn.Conn().PgConn().TxStatus() == 'I' {
		tx.begun, tx.failed = false, true
	}
}

// check says whether the transaction may be committed, after fn has returned
// without an error; then its id is known.
func (tx *transaction) check(ctx context.Context) error {
	status := tx.conn.Conn().PgConn().TxStatus()
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // nobody waits for it any more
	case tx.failed:
		return errSwallowed
	case !tx.begun:
		return nil
	case status == 'I':
		return errEnded
	case status != 'T':
		return errSwallowed
	case tx.known:
		return nil
	}
	// After COPY, say, nobody has asked.
	results, err := exec(ctx, tx.conn, xidSQL)
	if err != nil {
		return err
	}
	return tx.learn(results)
}

// learn takes the id from the last result.
func (tx *transaction) learn(results []*pgconn.Result) error {
	xid, err := strconv.ParseUint(string(results[len(results)-1].Rows[0][0]), 10, 64)
	if err != nil {
		return fmt.Errorf("transaction id: %w", err)
	}
	tx.xid, tx.known = xid, true
	return nil
}

// Exec is pgx's: without arguments it takes several statements.
func (tx *transaction) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := tx.usable(); err != nil {
		return pgconn.CommandTag{}, err
	}
	switch {
	case len(args) == 0 && !tx.prepared[sql]:
		return tx.execSimple(ctx, sql)
	case hasOptions(args):
		if err := tx.begin(ctx); err != nil {
			return pgconn.CommandTag{}, err
		}
		tx.known = false
		tag, err := tx.conn.Exec(ctx, sql, args...)
		return tag, mapError(ctx, err)
	}
	results, err := tx.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: args})
	var tag pgconn.CommandTag
	if err == nil {
		tag, err = results.Exec()
	}
	return tag, mapError(ctx, tx.finish(results, true, err))
}

// execSimple sends all of it in one message of the simple protocol, as pgx does.
func (tx *transaction) execSimple(ctx context.Context, sql string) (tag pgconn.CommandTag, err error) {
	text, company, first := sql+"\n;"+xidSQL, 1, !tx.begun // the line's end is for a comment
	if first {
		text, company = beginSQL+tx.session.sql()+";"+text, 2
		if tx.session != nil {
			company = 3
		}
	}
	tx.begun, tx.known = true, false
	results, err := exec(ctx, tx.conn, text)
	if err != nil {
		if first && len(results) == 2 && results[1].Err != nil {
			err = tx.session.refused(err)
		}
		tx.noticeBegin(err)
		return tag, err
	}
	if len(results) > company { // otherwise the text was empty
		tag = results[len(results)-2].CommandTag
	}
	return tag, tx.learn(results)
}

func (tx *transaction) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := tx.usable(); err != nil {
		return failedRows(err)
	}
	if hasOptions(args) {
		if err := tx.begin(ctx); err != nil {
			return failedRows(err)
		}
		tx.known = false
		rows, err := tx.conn.Query(ctx, sql, args...)
		return mappedRows{rows, ctx}, mapError(ctx, err)
	}
	results, err := tx.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: args})
	if err == nil {
		var rows pgx.Rows
		if rows, err = results.Query(); err == nil {
			return &companyRows{mappedRows: mappedRows{rows, ctx}, of: tx, results: results}, nil
		}
	}
	return failedRows(mapError(ctx, tx.finish(results, true, err)))
}

func (tx *transaction) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := tx.usable(); err != nil {
		return failedRow{err}
	}
	if hasOptions(args) {
		if err := tx.begin(ctx); err != nil {
			return failedRow{err}
		}
		tx.known = false
		return mappedRow{tx.conn.QueryRow(ctx, sql, args...), ctx}
	}
	results, err := tx.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: args})
	return companyRow{ctx: ctx, of: tx, results: results, err: err}
}

// SendBatch sends the batch with BEGIN before and the question behind it, which
// its results don't show.
func (tx *transaction) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := cmp.Or(tx.usable(), notNested(b)); err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	if b.Len() == 0 {
		return tx.conn.SendBatch(ctx, b)
	}
	queries, inner := ours(b)
	results, err := tx.send(ctx, inner.QueuedQueries...)
	return &batchResults{ctx: ctx, inner: results, queries: queries, err: mapError(ctx, err), of: tx}
}

func (tx *transaction) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := tx.begin(ctx); err != nil {
		return 0, err
	}
	tx.known = false
	n, err := tx.conn.CopyFrom(ctx, table, columns, rows)
	return n, mapError(ctx, err)
}

// Prepare prepares a statement on the connection, for this transaction.
func (tx *transaction) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := tx.begin(ctx); err != nil {
		return nil, err
	}
	description, err := prepare(ctx, tx.conn, name, sql)
	if err == nil {
		if tx.prepared == nil {
			tx.prepared = make(map[string]bool)
		}
		tx.prepared[name] = true
	}
	return description, err
}

// Begin sets a savepoint.
func (tx *transaction) Begin(ctx context.Context) (pgx.Tx, error) {
	return beginSavepoint(ctx, tx, &tx.savepoints)
}

func (tx *transaction) Commit(context.Context) error   { return ErrNotYours }
func (tx *transaction) Rollback(context.Context) error { return ErrNotYours }
func (tx *transaction) Conn() *pgx.Conn                { return nil }
func (tx *transaction) LargeObjects() pgx.LargeObjects { return noLargeObjects() }

// noLargeObjects panics, since pgx's type can only be made by pgx itself, and its
// zero value would panic without saying why.
func noLargeObjects() pgx.LargeObjects {
	panic("store: LargeObjects is not offered: call lo_create, lo_open, lo_put and their like in SQL")
}

// hasOptions reports whether the arguments begin with an option of pgx that a
// batch doesn't know, so that the statement has to go alone.
func hasOptions(args []any) bool {
	for _, arg := range args {
		switch arg.(type) {
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
			return true
		case pgx.QueryRewriter:
			// NamedArgs, say; an option may come after it.
		default:
			return false
		}
	}
	return false
}
