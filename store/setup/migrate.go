package setup

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"github.com/freshet-dev/freshet/gen/freshetdb"
	"github.com/freshet-dev/freshet/internal/primary"
)

//go:embed migrations/*.sql
var files embed.FS

// core is what Freshet itself needs of a database, all of it in the schema
// freshet. Its record is there as well: an application that uses goose for
// itself has its record to itself.
//
// Number 2 made the tables of the message service, which keeps a record of its
// own now. Where it ran it stays recorded.
var core = Migrations{
	Files:   files,
	Record:  "freshet.goose_db_version",
	Queries: func(db DBTX) any { return freshetdb.New(db) },
	Retired: []int64{2},
}

// Migrate brings Freshet's own tables in the database at url up to date; see
// Migrations.Up.
func Migrate(ctx context.Context, url string) error { return core.Up(ctx, url) }

// MigrateConfig is Migrate with a connection that isn't described by a URL; see
// Migrations.UpConfig.
func MigrateConfig(ctx context.Context, config *pgx.ConnConfig) error {
	return core.UpConfig(ctx, config)
}

// MigrateDown takes back the latest of Freshet's own migrations; see
// Migrations.Down. What is built on them goes first.
func MigrateDown(ctx context.Context, url string) error { return core.Down(ctx, url) }

// MigrateStatus lists Freshet's own migrations; see Migrations.Status.
func MigrateStatus(ctx context.Context, url string) ([]Migration, error) {
	return core.Status(ctx, url)
}

// Verify proves that this program fits Freshet's own tables in the database at
// url; see Migrations.Verify.
func Verify(ctx context.Context, url string) error { return core.Verify(ctx, url) }

// VerifyConfig is Verify with a connection that isn't described by a URL; see
// Migrations.VerifyConfig.
func VerifyConfig(ctx context.Context, config *pgx.ConnConfig) error {
	return core.VerifyConfig(ctx, config)
}

// migrateLock is the key of the advisory lock that lets one migration run at a
// time: "freshet" in ASCII.
const migrateLock int64 = 0x66726573686574

// migrateLockTimeout bounds how long a migration's statement waits for a table
// lock. Statements of the application queue behind a waiting ALTER TABLE, so
// giving up and saying so beats stopping every writer.
var migrateLockTimeout = 10 * time.Second

// Migrations are the steps that make a schema, the record of those that ran, and
// the queries that the result has to fit. Freshet has its own; a service that
// keeps its migrations in a program can use this for them, with a record of its
// own, or whatever else it likes. Methods are safe for concurrent use, from
// several processes as well: those that change something take turns.
type Migrations struct {
	// Files holds `migrations/NNNNN_name.sql`, in the format of goose. At least one.
	// A program of before a migration goes on beside it, and may start again, as long
	// as its queries fit: one that it can't live with though they do gets a number of
	// the next thousand.
	Files fs.FS

	// Record is the table that says which of them ran, as `schema.table`. Up makes it,
	// and its schema with it. No two sets share one.
	Record string

	// Queries returns the queries that Verify checks: what sqlc has generated, made
	// with its New. Nil: none.
	Queries func(db DBTX) any

	// Retired are versions in the record that aren't in Files any more. What they
	// made is somebody else's.
	Retired []int64

	// Former says where the first migration was recorded before this record was
	// made. Nil: nowhere.
	Former *Former
}

// Former is a place in the record of another set of migrations.
type Former struct {
	Record  string // as Migrations.Record
	Version int64
	Table   string // what the migration made, as `schema.table`: without it the record is wrong
}

// Migration is one step of a schema.
type Migration struct {
	Version int64
	Name    string
	Applied time.Time // zero: pending
}

// Up runs every pending migration on the database at url, each in a transaction
// of its own. It is idempotent, and concurrent callers take turns. A database
// that a newer program has migrated is left as it is, or is a *NewerError if this one
// can't live with that. A role needs no right to
// create where there is nothing to create.
func (m *Migrations) Up(ctx context.Context, url string) error {
	config, err := parse(url)
	if err != nil {
		return err
	}
	return m.UpConfig(ctx, config)
}

// UpConfig is Up with a connection that isn't described by a URL. It changes
// config's parameters.
func (m *Migrations) UpConfig(ctx context.Context, config *pgx.ConnConfig) error {
	return m.withProvider(ctx, config, func(p *goose.Provider) error {
		newer, err := m.isNewer(ctx, p)
		if err == nil && !newer {
			_, err = p.Up(ctx)
		}
		return m.explain("migrate", err)
	})
}

// isNewer reports whether the database has a migration that isn't known here.
func (m *Migrations) isNewer(ctx context.Context, p *goose.Provider) (bool, error) {
	in, err := p.GetDBVersion(ctx)
	if err != nil {
		return false, err
	}
	sources := p.ListSources()
	known := sources[len(sources)-1].Version
	if breaks(in, known) {
		return true, &NewerError{Record: m.Record, Database: in, Program: known}
	}
	return in > known, nil
}

// Down takes back the latest migration, with the tables and the data that it
// brought; without one it does nothing. Whoever reads these tables fails.
func (m *Migrations) Down(ctx context.Context, url string) error {
	list, err := m.Status(ctx, url)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(step Migration) bool { return !step.Applied.IsZero() }) {
		return nil // goose would make the record to find that out
	}
	config, err := parse(url)
	if err != nil {
		return err
	}
	return m.withProvider(ctx, config, func(p *goose.Provider) error {
		_, err := p.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil
		}
		return m.explain("migrate down", err)
	})
}

// Status lists all migrations, applied and pending, by version. It changes nothing.
func (m *Migrations) Status(ctx context.Context, url string) ([]Migration, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler would keep what is prepared
	conn, err := ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served
	applied, err := m.applied(ctx, conn)
	if err != nil {
		return nil, m.explain("migration status", err)
	}
	list, err := m.steps()
	for i := range list {
		list[i].Applied = applied[list[i].Version]
	}
	return list, err
}

// steps are the migrations that are known here, by version.
func (m *Migrations) steps() (list []Migration, err error) {
	names, err := fs.Glob(m.Files, "migrations/*.sql")
	for _, name := range names { // in order
		number, _, _ := strings.Cut(path.Base(name), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the migration %s: %w", name, err)
		}
		list = append(list, Migration{Version: version, Name: path.Base(name)})
	}
	return list, err
}

func (m *Migrations) withProvider(ctx context.Context, config *pgx.ConnConfig, use func(*goose.Provider) error) (err error) {
	config, err = primary.NewFinder(nil).Narrow(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	ForServer(config)
	config.RuntimeParams["lock_timeout"] = strconv.FormatInt(migrateLockTimeout.Milliseconds(), 10)
	db := stdlib.OpenDB(*config)

	p, err := m.newProvider(db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return errors.Join(use(p), p.Close()) // closes db as well
}

func (m *Migrations) newProvider(db *sql.DB) (*goose.Provider, error) {
	inner, err := database.NewStore(database.DialectPostgres, m.Record)
	if err != nil {
		return nil, err
	}
	// Tried once a second, for as long as another node's migration may take.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrateLock), lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, err
	}
	steps, err := fs.Sub(m.Files, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectCustom, db, steps,
		goose.WithStore(&record{Store: inner, Migrations: m}),
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true))
}

// explain says what a role lacks, in words that name what to run.
func (m *Migrations) explain(what string, err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pg) && pg.Code == codeInsufficientPrivilege:
		schema, _, _ := strings.Cut(m.Record, ".")
		create := "create schema " + schema + " authorization ROLE"
		if schema == "public" {
			create = "grant create on schema public to ROLE"
		}
		return fmt.Errorf("%s: %w: %s", what, err, `let a role that owns the database run it once (DATABASE_URL=… freshet migrate up), and serve with server.Config.SkipMigrate (--no-migrate); `+
			`or give this role what it makes: `+create+`; `+
			`or, where all is made, what it reads: grant usage on schema `+schema+` to ROLE; grant select on `+m.Record+` to ROLE;`)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

func (m *Migrations) isRetired(version int64) bool { return slices.Contains(m.Retired, version) }
