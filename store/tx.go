package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-dev/freshet"
)

// maxAttempts is how often InTx tries a transaction that lost to others.
const maxAttempts = 3

// The statements that end a mutation. They are sent by the simple protocol, in
// which one message may hold several: the position costs no round trip of its
// own. It is the *insert* position, read after the end: whatever the transaction
// wrote or saw committed is at or below. `- '0/0'` makes a number of it.
const (
	positionSQL = "select pg_current_wal_insert_lsn() - '0/0'"
	commitSQL   = "commit; " + positionSQL
	rollbackSQL = "rollback; " + positionSQL
)

// InTx runs fn in one READ COMMITTED transaction and commits, or rolls back when
// fn returns an error (which InTx then returns as it is) or panics. How it
// ended is added to the Call in ctx.
//
// What fn is handed is for whatever takes a pgx.Tx: sqlc's New, river's InsertTx,
// scany, batches, COPY, savepoints (its Begin, and pgx.BeginFunc). Errors keep
// those of pgx and of Postgres under the store's. Commit and Rollback are
// InTx's: on the handed transaction they change nothing and return ErrNotYours.
// Conn returns nil, and LargeObjects panics: their functions are there in SQL.
// Prepare is of no use behind a pooler, and says so. Once fn has returned,
// everything is pgx.ErrTxClosed.
//
// A transaction that fell to a serialization failure or a deadlock, whose
// connection broke before COMMIT, or whose COMMIT is known to have been lost on
// the way, is tried again, three times in all; one whose statement's plan a
// migration has made useless too. So fn must have no effect but on q, and must
// set its results anew each time.
//
// It ends in time: waits for a connection and for locks are bounded (ErrBusy),
// and the whole by Config.MaxWrite and ctx. COMMIT is not bound to them: once
// sent, cancelling it decides nothing and, with synchronous replication, would
// release the commit before the standby has it. When ctx ends meanwhile, InTx
// returns ErrCommitUnknown, and what becomes of the commit is awaited without
// the caller.
func (d *DB) InTx(ctx context.Context, fn func(context.Context, pgx.Tx) error) error {
	session, err := d.sessionOf(ctx)
	if err != nil {
		return err
	}
	callOf(ctx).onPrimary()
	bounded, cancel := context.WithTimeout(ctx, d.writeTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		again, err := d.try(bounded, session, fn)
		if err == nil || !again || attempt == maxAttempts || bounded.Err() != nil {
			return d.over(session, readOnly(err))
		}
		d.logger.LogAttrs(ctx, slog.LevelDebug, "transaction tried again", slog.Int("attempt", attempt), slog.Any("error", err))
		// Two that fell to each other must not meet again.
		select {
		case <-time.After(rand.N(10 * time.Millisecond << attempt)):
		case <-bounded.Done():
			return err
		}
	}
}

// try runs fn in a transaction. again says that nothing was committed, and that
// another try may succeed.
func (d *DB) try(ctx context.Context, session *Session, fn func(context.Context, pgx.Tx) error) (again bool, err error) {
	call := callOf(ctx)
	held, err := d.acquireWrite(ctx, call)
	if err != nil {
		return false, err
	}
	conn, committing := held.conn, false
	defer func() {
		if !committing {
			held.Release() // which closes the connection if fn panics, since it is in a transaction
		}
	}()

	var tx *transaction
	for range maxStale {
		tx, err = d.run(ctx, conn, call, session, fn)
		if !isStale(err) || conn.Conn().IsClosed() {
			break
		}
	}
	switch {
	case err != nil: // without a connection it is rolled back; or nothing was asked
		return conn.Conn().IsClosed() && !isUnsendable(err) || errors.Is(err, ErrConflict), err
	case !tx.begun: // nothing was asked, so nothing was seen
		return false, nil
	}
	if tx.xid != 0 && call.BeforeCommit != nil {
		call.BeforeCommit(tx.xid)
	}
	committing = true
	return d.commitAside(ctx, held, call, tx.xid)
}

// run runs fn in a transaction, and rolls back if that fails.
func (d *DB) run(ctx context.Context, conn *pgxpool.Conn, call *Call, session *Session, fn func(context.Context, pgx.Tx) error) (*transaction, error) {
	tx := &transaction{conn: conn, session: session}
	var err error
	if tagOf(conn.Conn()).pooled {
		// Begun, and nothing written.
		tx.begun, tx.known = true, true
		if err = d.beginProven(ctx, conn, beginSQL, session, call.Epoch); err != nil {
			return tx, err // and the connection, in a transaction, is closed
		}
	}
	err = meaning(fn(ctx, tx))
	tx.over = true
	if err == nil {
		err = tx.check(ctx)
	}
	if err == nil && tx.xid != 0 && call.Audit {
		err = auditWrites(ctx, conn, call)
	}
	if err != nil && (tx.begun || tx.failed) && !conn.Conn().IsClosed() {
		d.rollback(ctx, conn, call)
	}
	return tx, err
}

// rollback ends the transaction, whatever became of the context, and records
// where: what fn saw counts even when it changed nothing.
func (d *DB) rollback(ctx context.Context, conn *pgxpool.Conn, call *Call) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	results, err := exec(ctx, conn, rollbackSQL)
	if err != nil {
		return // Release closes the connection; the server rolls back
	}
	if position, err := parsePosition(results[1]); err == nil {
		call.ended(Outcome{Position: revisionOn(conn, position)})
	}
}

// commitAside commits on a goroutine, which owns the connection from now on, and
// waits for it until ctx ends. Close waits for those that were left.
func (d *DB) commitAside(ctx context.Context, held *lease, call *Call, xid uint64) (again bool, err error) {
	type ended struct {
		again bool
		err   error
	}
	done := make(chan ended, 1)
	d.commits.Go(func() {
		defer held.Release()
		again, err := d.commit(context.WithoutCancel(ctx), held, call, xid)
		done <- ended{again, err}
	})
	select {
	case e := <-done:
		return e.again, e.err
	case <-ctx.Done():
	}
	select {
	case e := <-done:
		return e.again, e.err
	default:
		return false, fmt.Errorf("%w: %w before COMMIT was answered", ErrCommitUnknown, ctx.Err())
	}
}

// commit sends COMMIT and records its outcome. again is as in try.
func (d *DB) commit(free context.Context, held *lease, call *Call, xid uint64) (again bool, err error) {
	conn := held.conn
	answered := guardCommit(conn.Conn())
	giveUp := time.AfterFunc(d.commitTimeout, func() {
		// Not by a context's end, which would send a cancel request.
		_ = conn.Conn().PgConn().Conn().Close()
	})
	results, err := exec(free, conn, commitSQL)
	if !giveUp.Stop() {
		_ = conn.Conn().Close(free) // the timer may have fired just after the answer
	}
	if !conn.Conn().IsClosed() {
		answered()
	}

	committed := len(results) > 0 && results[0].Err == nil && results[0].CommandTag.String() == "COMMIT"
	switch {
	case err == nil && committed:
		position, err := parsePosition(results[1])
		if err != nil {
			return false, err
		}
		call.ended(Outcome{Xid: xid, Position: revisionOn(conn, position), Committed: true})
		return false, nil
	case err == nil: // the server turned COMMIT into ROLLBACK
		d.rollback(free, conn, call)
		return false, errSwallowed
	case committed || !isServerError(err):
		// COMMIT went through and the position did not, or nobody knows.
		lost := lostCommit{xid: xid, epoch: tagOf(conn.Conn()).epoch, committed: committed, cause: err}
		held.Release() // to resolve it takes one, and this may be the pool's only one
		return d.resolve(free, call, lost)
	default:
		// A deferred constraint, a serialization failure: it was rolled back.
		d.rollback(free, conn, call)
		return errors.Is(err, ErrConflict), err
	}
}

// exec runs statements by the simple protocol and returns their results, all of
// them text. With an error, the results are those up to it.
func exec(ctx context.Context, conn *pgxpool.Conn, sql string) ([]*pgconn.Result, error) {
	results, err := conn.Conn().PgConn().Exec(ctx, sql).ReadAll()
	return results, mapError(ctx, err)
}

func parsePosition(r *pgconn.Result) (uint64, error) {
	position, err := strconv.ParseUint(string(r.Rows[0][0]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("wal position: %w", err)
	}
	return position, nil
}

func revisionOn(conn *pgxpool.Conn, position uint64) freshet.Revision {
	return freshet.Revision{Epoch: tagOf(conn.Conn()).epoch, Position: position}
}
