package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-dev/freshet/internal/oneline"
	"github.com/freshet-dev/freshet/internal/primary"
)

// Delays between attempts of Retry.
const (
	awaitFirst   = 100 * time.Millisecond
	awaitLongest = 2 * time.Second
)

// Await returns once the database takes connections, as connect says to open them.
// A server that is started together with its database, or while that restarts,
// waits for it as it would later. The error is Retry's.
func Await(ctx context.Context, connect func(context.Context) (*pgx.ConnConfig, error), logger *slog.Logger) error {
	return Retry(ctx, logger, func(ctx context.Context) error { return reach(ctx, connect) })
}

// reach opens a connection, and closes it.
func reach(ctx context.Context, connect func(context.Context) (*pgx.ConnConfig, error)) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	config, err := connect(ctx)
	if err != nil {
		return &primary.UnknownError{Err: err}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return oneline.Error(err)
	}
	return conn.Close(ctx)
}

// Retry calls do until it returns nil: a database that can't be reached, or is lost
// while do is at work, is waited for, and each reason is logged once. The error is what
// waiting doesn't mend (a password that is wrong, a database that isn't there, a
// statement that fails), or ctx's. What do has done before the database was lost, it is
// to find done.
func Retry(ctx context.Context, logger *slog.Logger, do func(context.Context) error) error {
	told := ""
	for delay := awaitFirst; ; delay = min(2*delay, awaitLongest) {
		err := do(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		case !MayPass(err):
			return err
		}
		if text := err.Error(); text != told {
			told = text
			logger.LogAttrs(ctx, slog.LevelWarn, "the database can't be reached yet: waiting for it", slog.Any("error", err))
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// MayPass reports whether an error of a database may be gone in a while: nobody
// answers, nobody knows where the primary is, the connection was lost; or the server
// starts, stops, is full (classes 08, 53 and 57P0x of SQLSTATE), or takes no writes, as
// a standby that is to be promoted (25006).
func MayPass(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return strings.HasPrefix(pg.Code, "57P0") || strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "08") || pg.Code == codeReadOnly
	}
	var unknown *primary.UnknownError
	return errors.As(err, &unknown) || isConnectionError(err) ||
		errors.Is(err, driver.ErrBadConn) // database/sql's, of a connection that ended between two statements
}
