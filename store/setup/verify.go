package setup

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// UnfitError says that the program and the database don't fit each other: Reason
// is a *NewerError, a *PendingError, a *QueryError, a lack of privileges, or an *Error
// about row security.
type UnfitError struct{ Reason error }

func (e *UnfitError) Unwrap() error { return e.Reason }

func (e *UnfitError) Error() string { return e.Reason.Error() }

// NewerError says that the database has a migration that this program doesn't
// know, and couldn't live with: its number is of another thousand (Migrations.Files).
type NewerError struct {
	Record            string // where it says so
	Database, Program int64
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("the database has migration %d, and this program knows those up to %d (%s): run the version that migrated it, or take the migration back with that version's `freshet migrate down`", e.Database, e.Program, e.Record)
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

// DBTX is what the queries that sqlc generates run on.
type DBTX interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Verify proves that the program fits the database at url before it serves: the
// database has the migrations that the program knows and none that breaks it, and each of its
// queries names tables, columns and functions that are there, as the pool's
// connections find them. It changes nothing. If they don't fit, the error is an
// *UnfitError; any other means that nobody could look.
func (m *Migrations) Verify(ctx context.Context, url string) error {
	config, err := parse(url)
	if err != nil {
		return err
	}
	return m.VerifyConfig(ctx, config)
}

// VerifyConfig is Verify with a connection that isn't described by a URL. It
// changes config's parameters.
func (m *Migrations) VerifyConfig(ctx context.Context, config *pgx.ConnConfig) error {
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler would keep what is prepared
	conn, err := ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served
	err = m.checkRecord(ctx, conn)
	if err == nil && m.Queries != nil {
		err = checkQueries(ctx, conn, m.Queries)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == codeInsufficientPrivilege {
		return &UnfitError{m.explain("check migrations", err)}
	}
	return err
}

// checkRecord compares the record with the migrations that are known here.
func (m *Migrations) checkRecord(ctx context.Context, conn *pgx.Conn) error {
	applied, err := m.applied(ctx, conn)
	if err != nil {
		return err
	}
	steps, err := m.steps()
	if err != nil {
		return err
	}
	var known int64
	for _, step := range steps {
		if known = step.Version; applied[known].IsZero() {
			return &UnfitError{&PendingError{Version: known, Name: step.Name}}
		}
	}
	var newest int64
	for version := range applied {
		if !m.isRetired(version) {
			newest = max(newest, version)
		}
	}
	if breaks(newest, known) {
		return &UnfitError{&NewerError{Record: m.Record, Database: newest, Program: known}}
	}
	return nil
}

// applied says which versions ran, and when, from goose's record but without goose,
// which would make it. A migration that a former record has counts: that database
// would be taken over by the next Up, and fits as it is.
func (m *Migrations) applied(ctx context.Context, conn *pgx.Conn) (map[int64]time.Time, error) {
	applied, exists, err := recorded(ctx, conn, m.Record)
	if err != nil || exists || m.Former == nil {
		return applied, err
	}
	// As record.Insert does it.
	var made bool
	if err := conn.QueryRow(ctx, tableExistsSQL, m.Former.Table).Scan(&made); err != nil || !made {
		return nil, err
	}
	former, _, err := recorded(ctx, conn, m.Former.Record)
	if at, ran := former[m.Former.Version]; ran {
		applied = map[int64]time.Time{1: at}
	}
	return applied, err
}

// breaks reports whether a program that knows the migrations up to known can't live
// with the migration newest. One that it doesn't know and can live with is of a
// version that is being rolled out, or was taken back.
func breaks(newest, known int64) bool { return newest > known && newest/1000 != known/1000 }

// recorded returns the versions that a record has as applied, and when.
func recorded(ctx context.Context, conn *pgx.Conn, table string) (applied map[int64]time.Time, exists bool, err error) {
	if err := conn.QueryRow(ctx, tableExistsSQL, table).Scan(&exists); err != nil || !exists {
		return nil, false, err
	}
	rows, err := conn.Query(ctx, "select version_id, max(tstamp) from "+table+" where is_applied group by 1")
	if err != nil {
		return nil, true, err
	}
	applied = make(map[int64]time.Time)
	var (
		version int64
		at      time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&version, &at}, func() error {
		applied[version] = at
		return nil
	})
	return applied, true, err
}

// checkQueries has the server parse and analyse every query that sqlc has
// generated, and execute none.
func checkQueries(ctx context.Context, conn *pgx.Conn, made func(DBTX) any) error {
	d := &describer{conn: conn.PgConn()}
	queries := reflect.ValueOf(made(d))
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
