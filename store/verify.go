package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-dev/freshet/gen/db"
)

// UnfitError says that the program and the database don't fit each other: Reason
// is a *NewerError, a *PendingError, a *QueryError, or a lack of privileges.
type UnfitError struct{ Reason error }

func (e *UnfitError) Unwrap() error { return e.Reason }

func (e *UnfitError) Error() string { return e.Reason.Error() }

// NewerError says that the database has a migration that this program doesn't
// know: its queries may not fit the tables.
type NewerError struct{ Database, Program int64 }

func (e *NewerError) Error() string {
	return fmt.Sprintf("the database has migration %d, and this program knows those up to %d: run the version that migrated it, or take the migration back with that version's `freshet migrate down`", e.Database, e.Program)
}

// PendingError says that the database lacks a migration that this program knows.
type PendingError struct {
	Version int64
	Name    string
}

func (e *PendingError) Error() string {
	return fmt.Sprintf("the database lacks migration %d (%s): run `freshet migrate up`", e.Version, e.Name)
}

// QueryError says that a query of the program doesn't fit the database, though
// the migrations are all there.
type QueryError struct {
	Query string // its name
	Err   error  // Postgres's
}

func (e *QueryError) Unwrap() error { return e.Err }

func (e *QueryError) Error() string {
	return fmt.Sprintf("the query %s doesn't fit the database: %v: has a table been changed by hand, another database been named, or search_path been set?", e.Query, e.Err)
}

// Verify proves that the program fits the database at url before it serves: the
// database has just the migrations that the program knows, and each of its
// queries names tables, columns and functions that are there, as the pool's
// connections find them. It changes nothing. If they don't fit, the error is an
// *UnfitError; any other means that nobody could look.
func Verify(ctx context.Context, url string) error {
	parsed, err := pgxpool.ParseConfig(url) // which knows the pool's parameters
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	config := parsed.ConnConfig
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler would keep what is prepared
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served
	err = checkMigrations(ctx, conn)
	if err == nil {
		err = checkQueries(ctx, conn)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == codeInsufficientPrivilege {
		return &UnfitError{migrateError("check migrations", err)}
	}
	return err
}

// checkMigrations reads goose's record without goose, which would make it.
func checkMigrations(ctx context.Context, conn *pgx.Conn) error {
	var exists bool
	err := conn.QueryRow(ctx, `
select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname || '.' || c.relname = $1)`, versionTable).Scan(&exists)
	if err != nil {
		return err
	}
	var applied []int64
	if exists {
		rows, err := conn.Query(ctx, "select version_id from "+versionTable+" where is_applied")
		if err != nil {
			return err
		}
		if applied, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
			return err
		}
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	var known int64
	for _, name := range names { // in order
		number, _, _ := strings.Cut(path.Base(name), "_")
		if known, err = strconv.ParseInt(number, 10, 64); err != nil {
			return err
		}
		if !slices.Contains(applied, known) {
			return &UnfitError{&PendingError{Version: known, Name: path.Base(name)}}
		}
	}
	if newest := slices.Max(applied); newest > known {
		return &UnfitError{&NewerError{Database: newest, Program: known}}
	}
	return nil
}

// checkQueries has the server parse and analyse every query that sqlc has
// generated, and execute none.
func checkQueries(ctx context.Context, conn *pgx.Conn) error {
	d := &describer{conn: conn.PgConn()}
	queries := reflect.ValueOf(db.New(d))
	for i := range queries.NumMethod() {
		method := queries.Method(i)
		if method.Type().NumIn() == 0 || method.Type().In(0) != reflect.TypeFor[context.Context]() {
			continue // WithTx
		}
		args := []reflect.Value{reflect.ValueOf(ctx)}
		for in := 1; in < method.Type().NumIn(); in++ {
			args = append(args, reflect.Zero(method.Type().In(in)))
		}
		d.err = errNotAsked
		method.Call(args)
		var pg *pgconn.PgError
		switch {
		case errors.As(d.err, &pg) || errors.Is(d.err, errNotAsked):
			return &UnfitError{&QueryError{Query: queries.Type().Method(i).Name, Err: d.err}}
		case d.err != nil:
			return d.err
		}
	}
	return nil
}

// describer stands for a connection to the generated code. It describes a
// statement in the place of executing it.
type describer struct {
	conn *pgconn.PgConn
	err  error // of the last statement; nil: it fits
}

var (
	errNotAsked = errors.New("it asked for nothing")
	// errDescribed is what the generated code gets in the place of rows.
	errDescribed = errors.New("described, not executed")
)

func (d *describer) describe(ctx context.Context, sql string) error {
	// The unnamed statement, which the next one replaces.
	_, d.err = d.conn.Prepare(ctx, "", sql, nil)
	return errDescribed
}

func (d *describer) Exec(ctx context.Context, sql string, _ ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, d.describe(ctx, sql)
}

func (d *describer) Query(ctx context.Context, sql string, _ ...any) (pgx.Rows, error) {
	return nil, d.describe(ctx, sql)
}

func (d *describer) QueryRow(ctx context.Context, sql string, _ ...any) pgx.Row {
	return noRow{d.describe(ctx, sql)}
}

type noRow struct{ err error }

func (r noRow) Scan(...any) error { return r.err }
