package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable is where goose keeps its record: beside our own tables, so that
// an application that uses goose for itself has its record to itself.
const versionTable = "freshet.goose_db_version"

// migrateLock is the key of the advisory lock that lets one migration run at a
// time: "freshet" in ASCII.
const migrateLock int64 = 0x66726573686574

// migrateLockTimeout bounds how long a migration's statement waits for a table
// lock. Statements of the application queue behind a waiting ALTER TABLE, so
// giving up and saying so beats stopping every writer.
var migrateLockTimeout = 10 * time.Second

// Migration is one step of the schema.
type Migration struct {
	Version int64
	Name    string
	Applied time.Time // zero: pending
}

// Migrate runs every pending migration on the database at url, each in a
// transaction of its own. It is idempotent, and concurrent callers take turns.
// A database that a newer program has migrated is a *NewerError. A role needs
// no right to create where there is nothing to create.
func Migrate(ctx context.Context, url string) error {
	return withProvider(url, func(p *goose.Provider) error {
		if err := checkNewer(ctx, p); err != nil {
			return migrateError("migrate", err)
		}
		_, err := p.Up(ctx)
		return migrateError("migrate", err)
	})
}

func checkNewer(ctx context.Context, p *goose.Provider) error {
	in, err := p.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	sources := p.ListSources()
	if known := sources[len(sources)-1].Version; in > known {
		return &NewerError{Database: in, Program: known}
	}
	return nil
}

func migration(s *goose.MigrationStatus) Migration {
	return Migration{Version: s.Source.Version, Name: path.Base(s.Source.Path), Applied: s.AppliedAt}
}

// MigrateDown takes back the latest migration, with the tables and the data that
// it brought; without one it does nothing. Whoever reads these tables fails.
func MigrateDown(ctx context.Context, url string) error {
	return withProvider(url, func(p *goose.Provider) error {
		_, err := p.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil
		}
		return migrateError("migrate down", err)
	})
}

// MigrateStatus lists all migrations, applied and pending, by version.
func MigrateStatus(ctx context.Context, url string) ([]Migration, error) {
	var list []Migration
	err := withProvider(url, func(p *goose.Provider) error {
		status, err := p.Status(ctx)
		if err != nil {
			return migrateError("migration status", err)
		}
		for _, s := range status {
			list = append(list, migration(s))
		}
		return nil
	})
	return list, err
}

func withProvider(url string, use func(*goose.Provider) error) (err error) {
	parsed, err := pgxpool.ParseConfig(url) // which knows the pool's parameters
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	config := parsed.ConnConfig
	config.RuntimeParams["client_encoding"] = "UTF8"
	config.RuntimeParams["lock_timeout"] = strconv.FormatInt(migrateLockTimeout.Milliseconds(), 10)
	db := stdlib.OpenDB(*config)

	p, err := newProvider(db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return errors.Join(use(p), p.Close()) // closes db as well
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	inner, err := database.NewStore(database.DialectPostgres, versionTable)
	if err != nil {
		return nil, err
	}
	// Tried once a second, for as long as another node's migration may take.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrateLock), lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, err
	}
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectCustom, db, steps,
		goose.WithStore(&versionStore{Store: inner}),
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true))
}

// versionStore makes the schema before the version table in it. Goose calls it
// with the advisory lock held; without it, two CREATE SCHEMA at once can fail.
type versionStore struct{ database.Store }

func (s *versionStore) CreateVersionTable(ctx context.Context, db database.DBTxConn) error {
	// CREATE SCHEMA IF NOT EXISTS wants the right to create even if it exists.
	var exists bool
	if err := db.QueryRowContext(ctx, "select exists (select from pg_namespace where nspname = 'freshet')").Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := db.ExecContext(ctx, "create schema freshet"); err != nil {
			return err
		}
	}
	if err := s.Store.CreateVersionTable(ctx, db); err != nil {
		return err
	}
	// Every node looks whether the database is one that it knows.
	_, err := db.ExecContext(ctx, "grant select on "+versionTable+" to public")
	return err
}

// TableExists spares a first migration goose's own way to find out, which is a
// query that fails and leaves an ERROR in the database's log. (to_regclass fails
// for a role that may not use the schema.)
func (s *versionStore) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	err = db.QueryRowContext(ctx, `
select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname || '.' || c.relname = $1)`, versionTable).Scan(&exists)
	return exists, err
}

// migrateError says what a role lacks, in words that name what to run.
func migrateError(what string, err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pg) && pg.Code == codeInsufficientPrivilege:
		return fmt.Errorf("%s: %w: %s", what, err, `let a role that owns the database run it once (DATABASE_URL=… freshet migrate up), and serve with --no-migrate; `+
			`or give this role what it makes: create schema freshet authorization ROLE; grant create on schema public to ROLE; `+
			`or, where all is made, what it reads: grant usage on schema freshet to ROLE; grant select on `+versionTable+` to ROLE;`)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// codeInsufficientPrivilege is SQLSTATE 42501.
const codeInsufficientPrivilege = "42501"
