package store

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

type mappedRow struct {
	pgx.Row
	ctx context.Context
}

func (r mappedRow) Scan(dest ...any) error { return mapError(r.ctx, r.Row.Scan(dest...)) }

type mappedRows struct {
	pgx.Rows
	ctx context.Context
}

func (r mappedRows) Err() error             { return mapError(r.ctx, r.Rows.Err()) }
func (r mappedRows) Scan(dest ...any) error { return mapError(r.ctx, r.Rows.Scan(dest...)) }

// failedRow and failedRows are what was never sent, or failed at once. Like pgx's
// they can be read, so that who looks at errors last needn't look twice.
type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

func failedRows(err error) (pgx.Rows, error) {
	return pgx.FailedBatchResults(new(pgx.Batch), err).Query()
}

// company is what a statement travels with. finish reads what follows the
// statement's own results, if these have all been read, and closes them; it returns
// their error, or else its own.
type company interface {
	finish(results pgx.BatchResults, read bool, err error) error
}

// companyRow and companyRows are the results of a statement that has company, and
// finish it.
type companyRow struct {
	ctx     context.Context
	of      company
	results pgx.BatchResults
	err     error
}

func (r companyRow) Scan(dest ...any) error {
	err := r.err
	if err == nil {
		err = r.results.QueryRow().Scan(dest...)
	}
	return mapError(r.ctx, r.of.finish(r.results, true, err))
}

type companyRows struct {
	mappedRows
	of      company
	results pgx.BatchResults // nil: finished
}

// Next closes the rows after the last one, as pgx's does.
func (r *companyRows) Next() bool {
	if r.mappedRows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *companyRows) Close() {
	r.mappedRows.Close()
	if r.results != nil {
		// What goes wrong behind the rows leaves the id unknown; check sees that.
		_ = r.of.finish(r.results, true, r.Rows.Err())
		r.results = nil
	}
}

// batchResults are the results of a caller's batch, as pgx.BatchResults says,
// without those of the statements that travelled with it.
type batchResults struct {
	ctx     context.Context
	inner   pgx.BatchResults
	queries []*pgx.QueuedQuery // the caller's, whose functions are called here
	at      int                // the next one
	err     error              // the first
	closed  bool
	of      company // finishes it; nil: there is nothing to finish
}

var (
	errBatchClosed = errors.New("batch already closed")
	errBatchEnd    = errors.New("no more results in batch")
)

// next says whether there is a result left to be read.
func (r *batchResults) next() error {
	switch {
	case r.err != nil:
		return r.err
	case r.closed:
		return errBatchClosed
	case r.at == len(r.queries):
		return errBatchEnd
	}
	r.at++
	return nil
}

func (r *batchResults) Exec() (pgconn.CommandTag, error) {
	if err := r.next(); err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := r.inner.Exec()
	r.err = mapError(r.ctx, err)
	return tag, r.err
}

func (r *batchResults) Query() (pgx.Rows, error) {
	if err := r.next(); err != nil {
		return failedRows(err)
	}
	rows, err := r.inner.Query()
	r.err = mapError(r.ctx, err)
	return mappedRows{rows, r.ctx}, r.err
}

func (r *batchResults) QueryRow() pgx.Row {
	if err := r.next(); err != nil {
		return failedRow{err}
	}
	return mappedRow{r.inner.QueryRow(), r.ctx}
}

func (r *batchResults) Close() error {
	if r.closed {
		return r.err
	}
	for r.err == nil && r.at < len(r.queries) {
		if fn := r.queries[r.at].Fn; fn != nil {
			r.err = fn(r)
		} else {
			_, _ = r.Exec() // which keeps its error
		}
	}
	r.closed = true
	if r.of == nil {
		r.err = cmp.Or(r.err, mapError(r.ctx, r.inner.Close()))
		return r.err
	}
	// With results left unread, the next one isn't that of the question behind.
	err := r.of.finish(r.inner, r.at == len(r.queries), r.err)
	if r.err == nil {
		r.err = mapError(r.ctx, err)
	}
	return r.err
}

// Tx is nil: the batch is in a transaction already.
func (r *batchResults) Tx() pgx.Tx { return nil }

// notNested refuses a batch that opens a transaction of its own.
func notNested(b *pgx.Batch) error {
	if pgx.FailedBatchResults(b, errNestedBatch).Tx() != nil { // BeginTx leaves no other trace
		return errNestedBatch
	}
	return nil
}

// ours returns the queries of a batch, and a batch with copies of them: pgx would
// call their functions with results that count what isn't the caller's.
func ours(b *pgx.Batch) (queries []*pgx.QueuedQuery, copies *pgx.Batch) {
	copies = new(pgx.Batch)
	for _, q := range b.QueuedQueries {
		copies.Queue(q.SQL, q.Arguments...)
	}
	return b.QueuedQueries, copies
}
