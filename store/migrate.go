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

	"github.com/jackc/pgx/v5"
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
func Migrate(ctx context.Context, url string) error {
	return withProvider(url, func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return migrateError("migrate", err)
	})
}

// MigrateDown takes back the latest migration; without one it does nothing.
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
			list = append(list, Migration{Version: s.Source.Version, Name: path.Base(s.Source.Path), Applied: s.AppliedAt})
		}
		return nil
	})
	return list, err
}

func withProvider(url string, use func(*goose.Provider) error) (err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
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
// with the advisory lock held; without it, two CREATE SCHEMA IF NOT EXISTS at
// once can fail.
type versionStore struct{ database.Store }

func (s *versionStore) CreateVersionTable(ctx context.Context, db database.DBTxConn) error {
	if _, err := db.ExecContext(ctx, "create schema if not exists freshet"); err != nil {
		return err
	}
	return s.Store.CreateVersionTable(ctx, db)
}

// TableExists spares a first migration goose's own way to find out, which is a
// query that fails and leaves an ERROR in the database's log.
func (s *versionStore) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	err = db.QueryRowContext(ctx, "select to_regclass($1) is not null", versionTable).Scan(&exists)
	return exists, err
}

func migrateError(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
