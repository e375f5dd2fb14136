package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrNotFound says that a query for one row found none.
	ErrNotFound = errors.New("not found")

	// ErrUnavailable says that the database could not be asked, and that asking
	// again later may work. The errors below it are it too, for errors.Is.
	ErrUnavailable = errors.New("database unavailable")

	// ErrEpoch says that the database is in another epoch than the call.
	ErrEpoch = fmt.Errorf("%w: another epoch", ErrUnavailable)

	// ErrNoEpoch says that the database has no epoch: it is not migrated, or no
	// node has given it one since it started.
	ErrNoEpoch = fmt.Errorf("%w: no epoch", ErrUnavailable)

	// ErrStandby says that the server is a standby.
	ErrStandby = fmt.Errorf("%w: in recovery", ErrUnavailable)

	// ErrConflict says that a transaction lost to concurrent ones, each time
	// that it was tried. Nothing of it was committed.
	ErrConflict = fmt.Errorf("%w: transaction conflict", ErrUnavailable)

	// ErrBusy says that a call has waited too long for what others hold: a
	// connection of the pool, or a lock. Nothing of it was done.
	ErrBusy = fmt.Errorf("%w: busy", ErrUnavailable)

	// ErrReadOnly says that a transaction wanted to write and was a read-only one, as
	// default_transaction_read_only has it, or a standby. Nothing of it was done.
	ErrReadOnly = fmt.Errorf("%w: read-only", ErrUnavailable)

	// ErrCommitUnknown says that the answer to COMMIT was lost, and that the
	// transaction's fate could not be learned; or that the caller's time was over
	// before it was known, which errors.Is then finds as the context's error. It is
	// not ErrUnavailable: trying again may do the work twice.
	ErrCommitUnknown = errors.New("commit outcome unknown")
)

// ConstraintError says that a row breaks a constraint of its table, or that a
// value can't be stored at all.
type ConstraintError struct {
	Kind       ConstraintKind
	Table      string
	Column     string // not null only
	Constraint string // empty where there is none

	err error
}

// ConstraintKind is a kind of constraint.
type ConstraintKind int

// The kinds. The zero value is a value that Postgres can't store: a NUL in a
// text, a number out of range.
const (
	Value ConstraintKind = iota
	Check
	Unique
	ForeignKey
	NotNull
	Exclusion
)

func (e *ConstraintError) Error() string { return e.err.Error() }
func (e *ConstraintError) Unwrap() error { return e.err }

// SQLSTATE codes, PostgreSQL manual, appendix A.
const (
	codeFeatureNotSupported = "0A000"
	codeInvalidSchema       = "3F000"
	codeUndefinedTable      = "42P01"
	codeSerialization       = "40001"
	codeDeadlock            = "40P01"
	codeLockNotAvailable    = "55P03"
	codePrivilege           = "42501"
	codeInvalidParameter    = "22023"
	codeNoStatement         = "26000"
	codeDuplicateStatement  = "42P05"
	codeReadOnly            = "25006"
)

var constraintKinds = map[string]ConstraintKind{
	"22003": Value, // numeric value out of range
	"22021": Value, // character not in repertoire: a NUL
	"22P05": Value, // untranslatable character
	"23502": NotNull,
	"23503": ForeignKey,
	"23505": Unique,
	"23514": Check,
	"23P01": Exclusion,
}

// mapError gives an error of pgx its meaning here. It keeps the cause, and
// leaves alone what it doesn't know.
func mapError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	// The caller is gone or out of time: whatever it looks like, that is why.
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return mapServerError(pg, err)
	}
	if isConnectionError(err) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func mapServerError(pg *pgconn.PgError, err error) error {
	if kind, ok := constraintKinds[pg.Code]; ok {
		return &ConstraintError{Kind: kind, Table: pg.TableName, Column: pg.ColumnName, Constraint: pg.ConstraintName, err: err}
	}
	switch {
	case pg.Code == codePrivilege && pg.Routine == "ExecWithCheckOptions": // a policy's WITH CHECK
		return fmt.Errorf("%w: %w", ErrDenied, err)
	case pg.Code == codeSerialization, pg.Code == codeDeadlock:
		return fmt.Errorf("%w: %w", ErrConflict, err)
	case pg.Code == codeLockNotAvailable:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case strings.HasPrefix(pg.Code, "08"), // connection exceptions
		strings.HasPrefix(pg.Code, "53"), // insufficient resources
		strings.HasPrefix(pg.Code, "57"): // operator intervention: shutdown, starting up, statement_timeout
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// readOnly gives the refusal of a write its meaning, in a transaction that is to write:
// a read that writes is at fault itself.
func readOnly(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == codeReadOnly {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}

// isConnectionError reports whether the connection failed, not the statement.
func isConnectionError(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// isServerError reports whether the server said this of a statement and kept
// the session: then what it said is so. A FATAL ends the session.
func isServerError(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.SeverityUnlocalized != "FATAL" && pg.SeverityUnlocalized != "PANIC"
}

// isStale reports whether a statement was not run because what had been prepared
// for it is of no use any more: a migration has changed its result (the message
// is "cached plan must not change result type", in the server's language), or it
// is not there, or there already, on the session that a pooler has handed out.
// pgx has forgotten it by then, and prepares it anew.
func isStale(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	return pg.Code == codeNoStatement || pg.Code == codeDuplicateStatement ||
		pg.Code == codeFeatureNotSupported && pg.Routine == "RevalidateCachedQuery"
}

// isUnsendable reports whether pgx could not put an argument into a message,
// though the connection and the server did their part: a number that is too
// large, say. In a batch that costs the connection.
func isUnsendable(err error) bool {
	var batch pgx.ErrPreprocessingBatch
	var pg *pgconn.PgError
	return errors.As(err, &batch) && !errors.As(err, &pg) && !isConnectionError(err)
}

// isDenied reports whether the role lacks a privilege, or a policy refuses a row.
func isDenied(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == codePrivilege
}
