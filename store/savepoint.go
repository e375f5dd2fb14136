package store

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// beginSavepoint sets the next savepoint of a transaction.
func beginSavepoint(ctx context.Context, tx pgx.Tx, count *int) (pgx.Tx, error) {
	*count++
	name := "freshet_" + strconv.Itoa(*count)
	if _, err := tx.Exec(ctx, "savepoint "+name); err != nil {
		return nil, err
	}
	return &savepoint{tx: tx, name: name}, nil
}

// savepoint is the part of a transaction from a savepoint on: pgx's pseudo nested
// transaction, over ours. Its end is its function's.
type savepoint struct {
	tx   pgx.Tx // the transaction itself
	name string
	over bool
}

var _ pgx.Tx = (*savepoint)(nil)

// Commit keeps what was done since the savepoint, as far as the transaction does.
func (s *savepoint) Commit(ctx context.Context) error { return s.end(ctx, "release savepoint ") }

// Rollback takes back what was done since the savepoint, also after a statement
// that failed.
func (s *savepoint) Rollback(ctx context.Context) error { return s.end(ctx, "rollback to savepoint ") }

func (s *savepoint) end(ctx context.Context, how string) error {
	_, err := s.Exec(ctx, how+s.name)
	s.over = true
	return err
}

func (s *savepoint) Begin(ctx context.Context) (pgx.Tx, error) {
	if s.over {
		return nil, pgx.ErrTxClosed
	}
	return s.tx.Begin(ctx)
}

func (s *savepoint) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if s.over {
		return pgconn.CommandTag{}, pgx.ErrTxClosed
	}
	return s.tx.Exec(ctx, sql, args...)
}

func (s *savepoint) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if s.over {
		return failedRows(pgx.ErrTxClosed)
	}
	return s.tx.Query(ctx, sql, args...)
}

func (s *savepoint) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if s.over {
		return failedRow{pgx.ErrTxClosed}
	}
	return s.tx.QueryRow(ctx, sql, args...)
}

func (s *savepoint) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if s.over {
		return pgx.FailedBatchResults(b, pgx.ErrTxClosed)
	}
	return s.tx.SendBatch(ctx, b)
}

func (s *savepoint) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if s.over {
		return 0, pgx.ErrTxClosed
	}
	return s.tx.CopyFrom(ctx, table, columns, rows)
}

func (s *savepoint) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if s.over {
		return nil, pgx.ErrTxClosed
	}
	return s.tx.Prepare(ctx, name, sql)
}

func (s *savepoint) LargeObjects() pgx.LargeObjects { return noLargeObjects() }
func (s *savepoint) Conn() *pgx.Conn                { return nil }
