package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-dev/freshet/gen/messagesdb"
)

// queries runs the generated queries on the connection. Errors are mapped where
// they arise, so that a function handed to Read or InTx can ask for ErrNotFound,
// and so that its own errors pass through untouched.
func queries(conn *pgxpool.Conn) *messagesdb.Queries { return messagesdb.New(mapped{conn}) }

type mapped struct{ conn *pgxpool.Conn }

func (m mapped) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := m.conn.Exec(ctx, sql, args...)
	return tag, mapError(ctx, err)
}

func (m mapped) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := m.conn.Query(ctx, sql, args...)
	return mappedRows{rows, ctx}, mapError(ctx, err)
}

func (m mapped) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return mappedRow{m.conn.QueryRow(ctx, sql, args...), ctx}
}

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
