package store

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-dev/freshet/internal/primary"
	"github.com/freshet-dev/freshet/internal/turns"
)

// Config says how to reach the database. One of URL and Connect is required.
type Config struct {
	// URL is a connection string as pgx and libpq know it: a URL or key=value
	// pairs, completed by PG* variables. What it leaves to files (passwords,
	// certificates) is read again for each connection. Of several hosts, the primary is
	// found.
	//
	// It may lead through a pooler that hands server connections from client to
	// client: each call then proves in its own transaction which history it reads,
	// and prepares nothing.
	URL string

	// Connect says how to connect where no URL does: it is asked before each
	// connection, by several goroutines at once, and its answer becomes the pool's.
	Connect func(ctx context.Context) (*pgx.ConnConfig, error)

	// MaxConns bounds the pool. Zero: what the URL's pool_max_conns says, or the
	// greater of 4 and the number of CPUs. A quarter of it, at least one
	// connection if there are several, is for reads alone.
	MaxConns int32

	// MaxWrite bounds one InTx, from the first statement to the answer to COMMIT,
	// whatever its caller's deadline. Zero: 30 s.
	MaxWrite time.Duration

	// Sources are the tables, as `schema.table`, that the contract's topics come
	// from; Watch looks whether the pool finds and may read them. Nil: it
	// doesn't.
	Sources []string

	// Session says who a call's statements run as, by its context; it is asked once
	// per Read, ReadTx and InTx, by many at once. Nil, and a nil Session: as the
	// pool's role, with no claims. Its error ends the call.
	Session func(ctx context.Context) (*Session, error)

	// Replicas are connection strings, as URL is one, of streaming standbys of the
	// primary: one for each. A read whose Call has an AtLeast runs on one that has
	// replayed so much, if there is one; it may come back from there as a fallback, and
	// then runs on the primary. Each such read proves, before it and after it, that the
	// standby is of the epoch's history, for which the role of its URL has to be a
	// member of pg_read_all_stats. Watch looks after them: without it none is used.
	Replicas []string

	// ReplicaConns bounds the pool of each replica. Zero: what its URL's pool_max_conns
	// says, or the greater of 4 and the number of CPUs.
	ReplicaConns int32

	// ReplicaWait is how long a read waits for a replica to have a connection and to
	// have replayed enough, before it runs on the primary. Zero: 50 ms.
	ReplicaWait time.Duration

	// OnChange is called by Watch when Ready may answer otherwise than before. It
	// must not block. Nil: nobody is.
	OnChange func()

	// Logger gets what nobody else is told: retries, commits that had to be
	// resolved. Nil: nothing is logged.
	Logger *slog.Logger
}

// DB is a pool of connections to one database. It is safe for concurrent use.
type DB struct {
	pool    *pgxpool.Pool
	connect func(context.Context) (*pgx.ConnConfig, error) // how to, now
	logger  *slog.Logger

	// execModeGiven says that the URL chooses how statements are sent: then no
	// pooler changes it. pooled says that a connection was found to lead through
	// one.
	execModeGiven bool
	pooled        atomic.Bool

	history

	// writes are the connections that InTx may hold, of which callers have their turns.
	// What it leaves of the pool is for reads, so that writes that wait for each
	// other's locks don't stop them.
	writes  *turns.Turns
	waiting atomic.Int64   // who waits for a connection
	commits sync.WaitGroup // COMMITs, each on a goroutine: its caller may leave

	replicas *replicas // nil: there are none
	session  func(context.Context) (*Session, error)
	health   health
	onChange func()
	sources  []string

	// Bounds. Fields so that tests needn't wait.
	acquireTimeout time.Duration // how long a call waits for a connection
	writeTimeout   time.Duration // Config.MaxWrite
	commitTimeout  time.Duration // for the answer to COMMIT
	resolveTimeout time.Duration // and then to learn what became of it
}

const (
	// cancelTimeout is how long a statement whose context ended has to stop after
	// the cancel request, before its connection is closed: by so much an answer can
	// be later than its deadline.
	cancelTimeout = 500 * time.Millisecond

	// endTimeout bounds what runs after the caller is gone: a ROLLBACK.
	endTimeout = 2 * time.Second

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
	url := c.URL
	if url == "" && c.Connect != nil {
		url = "host=localhost" // Connect replaces it for each connection
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err) // pgx leaves the password out
	}
	if c.MaxConns > 0 {
		config.MaxConns = c.MaxConns
	}
	logger := c.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	d := &DB{
		connect:        c.Connect,
		logger:         logger,
		execModeGiven:  strings.Contains(c.URL, "default_query_exec_mode"),
		writes:         turns.New(int(config.MaxConns - max(1, config.MaxConns/4))),
		health:         health{err: errNotLooked, wake: make(chan struct{}, 1)},
		session:        c.Session,
		onChange:       c.OnChange,
		sources:        c.Sources,
		acquireTimeout: 5 * time.Second,
		writeTimeout:   cmp.Or(c.MaxWrite, 30*time.Second),
		commitTimeout:  10 * time.Second,
		resolveTimeout: 5 * time.Second,
	}
	if c.URL != "" {
		d.connect = func(context.Context) (*pgx.ConnConfig, error) {
			now, err := pgxpool.ParseConfig(c.URL)
			if err != nil {
				return nil, fmt.Errorf("database URL: %w", err)
			}
			return now.ConnConfig, nil
		}
	}
	d.finder = primary.NewFinder(logger)
	d.connect = d.finder.Of(d.connect)
	if d.replicas, err = openReplicas(ctx, c, logger, cmp.Or(c.ReplicaWait, 50*time.Millisecond)); err != nil {
		return nil, err
	}
	config.PingTimeout = pingTimeout
	config.BeforeConnect = d.beforeConnect
	config.AfterConnect = d.afterConnect
	config.PrepareConn = d.checkTag
	if d.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		d.replicas.close()
		return nil, fmt.Errorf("open pool: %w", err)
	}
	return d, nil
}

// configure makes a connection that is to be opened ours.
func configure(conn *pgx.ConnConfig) {
	if _, set := conn.RuntimeParams["application_name"]; !set {
		conn.RuntimeParams["application_name"] = "freshet"
	}
	// Neither the database's encoding nor what somebody has set for it or the
	// role may decide how our bytes are taken (F55).
	conn.RuntimeParams["client_encoding"] = "UTF8"
	// The context's end cancels the statement and spares the connection; pgx by
	// default closes it, so that a burst of impatient clients would empty the pool.
	conn.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelTimeout}
	}
	if conn.ConnectTimeout == 0 { // pgx itself has two minutes
		conn.ConnectTimeout = connectTimeout
	}
}

// Close closes the pool, after the functions that run in it have returned, and
// the COMMITs that their callers have left behind.
func (d *DB) Close() {
	d.commits.Wait()
	d.pool.Close()
	d.replicas.close()
}
