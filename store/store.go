package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-dev/freshet"
)

// Config says how to reach the database. URL is required.
type Config struct {
	// URL is a connection string as pgx and libpq know it: a URL or key=value
	// pairs, completed by PG* variables. Not through a pooler that shares
	// connections between transactions.
	URL string

	// MaxConns bounds the pool. Zero: what the URL's pool_max_conns says, or the
	// greater of 4 and the number of CPUs.
	MaxConns int32

	// Logger gets what nobody else is told: retries, commits that had to be
	// settled. Nil: nothing is logged.
	Logger *slog.Logger

	// AuditReads makes every read record which tables it looked into, for
	// Call.Scanned. It costs a transaction and two statements per read.
	AuditReads bool
}

// DB is a pool of connections to one database. It is safe for concurrent use.
type DB struct {
	pool   *pgxpool.Pool
	logger *slog.Logger
	audit  bool

	// How long to wait for the answer to COMMIT, and then to learn what became
	// of it. Fields so that tests needn't wait.
	commitTimeout time.Duration
	settleTimeout time.Duration
}

const (
	// cancelTimeout is how long a statement whose context ended has to stop after
	// the cancel request, before its connection is closed.
	cancelTimeout = 2 * time.Second

	// endTimeout bounds what runs after the caller is gone: a ROLLBACK.
	endTimeout = 5 * time.Second

	// connectTimeout is for opening a connection, unless the URL has a
	// connect_timeout; pingTimeout for finding out that an idle one is dead, and for
	// tagging a new one.
	connectTimeout = 10 * time.Second
	pingTimeout    = 5 * time.Second
)

// Open prepares a pool. It opens no connection: the database may be down, or
// still without an epoch, and be there later. The caller closes it. It fails on
// a URL that can't be parsed only.
func Open(ctx context.Context, c Config) (*DB, error) {
	config, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err) // pgx leaves the password out
	}
	if c.MaxConns > 0 {
		config.MaxConns = c.MaxConns
	}
	if _, set := config.ConnConfig.RuntimeParams["application_name"]; !set {
		config.ConnConfig.RuntimeParams["application_name"] = "freshet"
	}
	// The context's end cancels the statement and spares the connection; pgx by
	// default closes it, so that a burst of impatient clients would empty the pool.
	config.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelTimeout}
	}
	config.BeforeConnect = guardCancel
	config.PingTimeout = pingTimeout
	if config.ConnConfig.ConnectTimeout == 0 { // pgx itself has two minutes
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	config.AfterConnect = tagConn
	config.PrepareConn = checkTag

	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	logger := c.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &DB{
		pool:          pool,
		logger:        logger,
		audit:         c.AuditReads,
		commitTimeout: 10 * time.Second,
		settleTimeout: 5 * time.Second,
	}, nil
}

// Close closes the pool, after the functions that run in it have returned.
func (d *DB) Close() { d.pool.Close() }

// acquire takes a connection of the epoch out of the pool.
func (d *DB) acquire(ctx context.Context, epoch freshet.Epoch) (*pgxpool.Conn, error) {
	ctx = context.WithValue(ctx, wantKey{}, want{epoch: epoch, since: time.Now()})
	conn, err := d.pool.Acquire(ctx)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
	case errors.Is(err, ErrUnavailable):
		return nil, err
	default: // no connection for whatever reason: the database is not to be asked now
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}
