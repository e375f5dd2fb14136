package store

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-dev/freshet/internal/oneline"
)

// Delays between attempts of Await.
const (
	awaitFirst   = 100 * time.Millisecond
	awaitLongest = 2 * time.Second
)

// Await returns once the database takes connections, as connect says to open them.
// A server that is started together with its database, or while that restarts,
// waits for it as it would later; each reason is logged once. The error is what
// waiting doesn't mend (a password that is wrong, a database that isn't there), or
// ctx's.
func Await(ctx context.Context, connect func(context.Context) (*pgx.ConnConfig, error), logger *slog.Logger) error {
	told := ""
	for delay := awaitFirst; ; delay = min(2*delay, awaitLongest) {
		err := attempt(ctx, connect)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		case !mayPass(err):
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

func attempt(ctx context.Context, connect func(context.Context) (*pgx.ConnConfig, error)) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	config, err := connect(ctx)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return oneline.Error(err)
	}
	return conn.Close(ctx)
}

// mayPass reports whether an error at connecting may be gone in a while: nobody
// answers, or a server that starts, stops, is full (classes 08, 53 and 57P0x of
// SQLSTATE), or isn't the primary yet.
func mayPass(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return true
	}
	return strings.HasPrefix(pg.Code, "57P0") || strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "08")
}
