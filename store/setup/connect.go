package setup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-dev/freshet/internal/oneline"
	"github.com/freshet-dev/freshet/internal/primary"
)

// Conn is a connection, for callers that must not know pgx.
type Conn = pgx.Conn

// Connect opens the connection that the functions of this package want. It must
// not go through a pooler. Of several hosts the primary is found. The caller closes it.
func Connect(ctx context.Context, url string) (*Conn, error) {
	config, err := ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return ConnectConfig(ctx, config)
}

// ConnectConfig is Connect with parameters of the caller's own, which it changes.
func ConnectConfig(ctx context.Context, config *pgx.ConnConfig) (*Conn, error) {
	config, err := primary.NewFinder(nil).Narrow(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	ForServer(config)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", oneline.Error(err)) // pgx leaves the password out
	}
	return conn, nil
}

// ParseConfig reads a URL as capture does: see ForServer.
func ParseConfig(url string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	ForServer(config)
	return config, nil
}

// parse is ParseConfig for callers whose URL is the services', which may be one for
// a pool.
func parse(url string) (*pgx.ConnConfig, error) {
	config, err := ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err) // pgx leaves the password out
	}
	return config, nil
}

// ForServer takes out of config's parameters what a URL says to a pool or to pgx:
// a server doesn't know it, and would refuse the connection. Text is UTF-8, and a date
// has one text, whatever the database, the role or the environment say of them.
func ForServer(config *pgx.ConnConfig) {
	maps.DeleteFunc(config.RuntimeParams, func(name, _ string) bool {
		return strings.HasPrefix(name, "pool_") || name == "default_query_exec_mode" ||
			name == "statement_cache_capacity" || name == "description_cache_capacity"
	})
	config.RuntimeParams["client_encoding"] = "UTF8"
	config.RuntimeParams["datestyle"] = "ISO"
}

// ApplicationName is the application_name of the connections that follow a
// database.
const ApplicationName = "freshet"

// SQLSTATEs that mean something to us (PostgreSQL manual, appendix A).
const (
	CodeUndefinedObject       = "42704"
	codeUndefinedTable        = "42P01"
	CodeObjectInUse           = "55006"
	CodeLockNotAvailable      = "55P03" // lock_timeout
	codeInsufficientPrivilege = "42501"
)

// SQLState returns the SQLSTATE of err, or "".
func SQLState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}
