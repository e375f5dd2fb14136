package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Conn is a connection, for callers that must not know pgx.
type Conn = pgx.Conn

// Connect opens the connection that Setup, Check and Teardown want. It
// must not go through a pooler. The caller
// closes it.
func Connect(ctx context.Context, url string) (*Conn, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err) // pgx leaves the password out
	}
	return conn, nil
}
