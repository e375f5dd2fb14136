package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-dev/freshet/internal/primary"
	"github.com/freshet-dev/freshet/store"
	"github.com/freshet-dev/freshet/store/setup"
)

// stopTimeout is what the parts that serve nobody have to stop, once nobody is
// served any more.
const stopTimeout = 10 * time.Second

// Run serves until ctx ends, and returns nil then; or until something fails
// that waiting doesn't mend, and says what. It returns when everything has
// been stopped; see the package's documentation for the order.
//
// A database that can't be reached, at the start or later, or that capture can't
// work with yet, is waited for, and Ready says why. Run can be called once.
func (n *Node) Run(ctx context.Context) (err error) {
	if n.ran.Swap(true) {
		return errors.New("server: a node can be run once: make another by New")
	}
	defer func() { err = errors.Join(err, n.stop(context.WithoutCancel(ctx))) }()
	for _, start := range []struct {
		phase string
		run   func(context.Context) error
		skip  bool
	}{
		{"waiting for the database", n.await, false},
		{"looking at the capture URL", n.requireDirect, false},
		{"migrating the database", n.migrate, n.cfg.SkipMigrate},
		{"checking the database", n.verify, false},
		{"starting capture", n.serve, false},
	} {
		if start.skip {
			continue
		}
		n.ready.enter(ReasonStarting, start.phase)
		n.cfg.Logger.InfoContext(ctx, start.phase)
		if err := store.Retry(ctx, n.cfg.Logger, start.run); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("%s: %w", start.phase, err)
		}
	}
	n.ready.open()
	n.parts.Go("readiness watch", n.watchReadiness)
	return n.parts.Wait(ctx)
}

// stop stops what Run has started, in the order of the package's documentation.
func (n *Node) stop(ctx context.Context) error {
	n.ready.refuse("the server is shutting down")
	draining, cancel := context.WithTimeout(ctx, max(n.cfg.Drain, 0))
	defer cancel()
	err := n.Drain(draining)
	stopping, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	err = errors.Join(err, n.parts.Stop(stopping))
	n.Close()
	return err
}

// Close releases what a node holds that is not run: the pool, if DB was asked for.
// Run does the same at its end. It may be repeated.
func (n *Node) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.db != nil && !n.pooling && !n.ended {
		n.db.Close()
	}
	n.ended = true
}

// address says how to connect; it is asked before each connection.
type address = func(ctx context.Context) (*pgx.ConnConfig, error)

// addresses returns where services and migrations connect, and where capture does.
func addresses(c Config) (database, capture address, err error) {
	at := func(url string) address {
		if url == "" {
			return c.Connect
		}
		if _, parseErr := pgxpool.ParseConfig(url); parseErr != nil {
			err = fmt.Errorf("database URL: %w", parseErr) // pgx leaves the password out
		}
		return func(context.Context) (*pgx.ConnConfig, error) {
			config, err := pgxpool.ParseConfig(url) // it may have parameters of the pool
			if err != nil {
				return nil, fmt.Errorf("database URL: %w", err)
			}
			return config.ConnConfig, nil
		}
	}
	database, capture = at(c.DatabaseURL), at(c.CaptureURL)
	if database != nil {
		database = primary.Of(database, c.Logger)
	}
	if capture == nil {
		return database, database, err
	}
	return database, primary.Of(capture, c.Logger), err
}

// with does something that connects by itself, at an address.
func with(ctx context.Context, at address, do func(context.Context, *pgx.ConnConfig) error) error {
	config, err := at(ctx)
	if err != nil {
		return err
	}
	return do(ctx, config)
}

// connect opens a connection where capture connects.
func (n *Node) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := n.source(ctx)
	if err != nil {
		return nil, err
	}
	return setup.ConnectConfig(ctx, config)
}

// twoAddresses reports whether capture connects elsewhere than services do.
func (n *Node) twoAddresses() bool {
	return n.cfg.CaptureURL != "" && n.cfg.CaptureURL != n.cfg.DatabaseURL ||
		n.cfg.DatabaseURL != "" && n.cfg.Connect != nil
}

// await waits for the database as capture reaches it, and as migrations do.
func (n *Node) await(ctx context.Context) error {
	err := store.Await(ctx, n.source, n.cfg.Logger)
	if err == nil {
		n.remarkOnStandby(ctx)
	}
	if err != nil || n.cfg.SkipMigrate || !n.twoAddresses() {
		return err
	}
	return store.Await(ctx, n.database, n.cfg.Logger)
}

// remarkOnStandby warns of a database that isn't a primary, before the node sets about
// what it can't do there. It may be one soon, so it is waited for.
func (n *Node) remarkOnStandby(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	conn, err := n.connect(ctx)
	if err != nil {
		return // whoever needs it next says so
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var standby bool
	if err := conn.QueryRow(ctx, "select pg_is_in_recovery()", pgx.QueryExecModeSimpleProtocol).Scan(&standby); err == nil && standby {
		n.cfg.Logger.WarnContext(ctx, "the database is a standby: connect to the primary, or promote it; the node isn't ready until then")
	}
}

// requireDirect refuses to capture through a pooler, which can't pass a
// replication stream on.
func (n *Node) requireDirect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	pooled, err := store.Pooled(ctx, n.source)
	if err == nil && pooled {
		return errors.New("the URL leads through a pooler: capture and migrations need a direct one (server.Config.CaptureURL, --capture-url)")
	}
	return err
}

// migrate makes the database fit: Freshet's own tables, the services', publication
// and replica identities.
func (n *Node) migrate(ctx context.Context) error {
	at := n.database
	// Migrations take turns by a lock of their session, which a pooler would leave
	// to others.
	pooled, err := store.Pooled(ctx, n.database)
	if err != nil {
		return err
	}
	if pooled {
		at = n.source
	}
	if err := with(ctx, at, setup.MigrateConfig); err != nil {
		return err
	}
	if n.cfg.Migrate != nil {
		if err := with(ctx, at, n.cfg.Migrate); err != nil {
			return err
		}
	}
	return n.setUp(ctx)
}

// setUp makes publication and replica identities fit the contract.
func (n *Node) setUp(ctx context.Context) error {
	conn, err := n.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	problems, err := setup.Apply(ctx, conn, n.program, n.cfg.Publication)
	if err != nil {
		return err
	}
	// Those that aren't warnings keep capture from starting, which says so, once, and
	// looks again until somebody has mended them.
	if warnings := slices.DeleteFunc(problems, func(p setup.Problem) bool { return !p.Warning }); len(warnings) > 0 {
		n.cfg.Logger.WarnContext(ctx, "database set-up", "problem", &setup.Error{Problems: warnings})
	}
	return nil
}

// verifyTimeout bounds the look at a database that doesn't answer.
const verifyTimeout = 10 * time.Second

// verify refuses a database that the program doesn't fit: it would be ready, and
// every call would fail. One that can't be reached now is waited for, as later.
func (n *Node) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	err := with(ctx, n.database, setup.VerifyConfig)
	if err == nil && n.cfg.Check != nil {
		err = with(ctx, n.database, n.cfg.Check)
	}
	if err == nil {
		err = with(ctx, n.database, n.verifyPolicies)
	}
	var unfit *setup.UnfitError
	if err == nil || errors.As(err, &unfit) || ctx.Err() == nil && store.MayPass(err) {
		return err
	}
	n.cfg.Logger.WarnContext(ctx, "the database could not be checked", "error", err)
	return nil
}

// verifyPolicies refuses `shared` reads of tables with row security, and tells of
// policies that bind nobody here, where somebody could count on them.
func (n *Node) verifyPolicies(ctx context.Context, database *pgx.ConnConfig) error {
	problems, err := setup.CheckPolicies(ctx, database, n.program)
	if err != nil {
		return err
	}
	if fatal := setup.Fatal(problems); len(fatal) > 0 {
		return &setup.UnfitError{Reason: &setup.Error{Problems: fatal}}
	}
	if n.cfg.Authenticate != nil {
		for _, p := range problems {
			n.cfg.Logger.WarnContext(ctx, "row security", "problem", p.Text)
		}
	}
	return nil
}

// serve starts what runs until the end: pool, capture, streams.
func (n *Node) serve(context.Context) error {
	n.mu.Lock()
	n.pooling = true
	if n.db != nil {
		n.keepPool()
	}
	n.mu.Unlock()
	n.parts.Go("capture", n.capture)
	n.parts.Go("streams", n.streams.Run)
	return nil
}

// Guard ties the connections of a pgx pool of the services' own to the node's
// epoch, so that a primary that was left behind by a failover can't answer: see
// store.Guard. It is to be called before the pool is made.
func (n *Node) Guard(config *pgxpool.Config) { store.Guard(config) }

// Verify proves that whatever the services use reads the database that the node
// captures from, not a replica nor another one. query runs one statement and
// returns its one text. The database is to have Freshet's own tables: call it once
// Ready returns nil. The errors are store.CheckWho's.
func (n *Node) Verify(ctx context.Context, query func(ctx context.Context, sql string) (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	conn, err := n.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var own string
	if err := conn.QueryRow(ctx, store.WhoSQL).Scan(&own); err != nil {
		return fmt.Errorf("ask the node's own connection which database it is: %w", err)
	}
	answer, err := query(ctx, store.WhoSQL)
	if err != nil {
		return fmt.Errorf("ask the services' connection which database it is: %w", err)
	}
	return store.CheckWho(own, answer)
}
