package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/gen/db"
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
// A transaction that fell to a serialization failure or a deadlock, whose
// connection broke before COMMIT, or whose COMMIT is known to have been lost on
// the way, is tried again, three times in all: fn must have no effect but on q,
// and must set its results anew each time.
//
// COMMIT is not bound to ctx: once sent, its answer is waited for (10 s at
// most), since cancelling it decides nothing and, with synchronous replication,
// would release the commit before the standby has it.
func (d *DB) InTx(ctx context.Context, fn func(context.Context, *db.Queries) error) error {
	for attempt := 1; ; attempt++ {
		again, err := d.try(ctx, fn)
		if err == nil || !again || attempt == maxAttempts || ctx.Err() != nil {
			return err
		}
		d.logger.LogAttrs(ctx, slog.LevelDebug, "transaction tried again", slog.Int("attempt", attempt), slog.Any("error", err))
		// Two that fell to each other must not meet again.
		select {
		case <-time.After(rand.N(10 * time.Millisecond << attempt)):
		case <-ctx.Done():
			return err
		}
	}
}

// try runs fn in a transaction. again says that nothing was committed, and that
// another try may succeed.
func (d *DB) try(ctx context.Context, fn func(context.Context, *db.Queries) error) (again bool, err error) {
	call := callOf(ctx)
	conn, err := d.acquire(ctx, call.Epoch)
	if err != nil {
		return false, err
	}
	defer conn.Release() // which closes the connection if fn panics, since it is in a transaction

	tx := &transaction{conn: conn}
	err = fn(ctx, db.New(tx))
	if err == nil {
		err = tx.check(ctx)
	}
	switch {
	case err != nil && tx.begun && !conn.Conn().IsClosed():
		d.rollback(ctx, conn, call)
		return errors.Is(err, ErrConflict), err
	case err != nil: // without a connection it is rolled back; or nothing was asked
		return conn.Conn().IsClosed() || errors.Is(err, ErrConflict), err
	case !tx.begun: // nothing was asked, so nothing was seen
		return false, nil
	}
	xid := tx.xid
	if xid != 0 && call.BeforeCommit != nil {
		call.BeforeCommit(xid)
	}
	return d.commit(ctx, conn, call, xid)
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

// commit sends COMMIT and records its outcome. again is as in try.
func (d *DB) commit(ctx context.Context, conn *pgxpool.Conn, call *Call, xid uint64) (again bool, err error) {
	free := context.WithoutCancel(ctx)
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
		conn.Release() // settling needs one, and this may be the pool's only one
		return d.settle(free, call, lost)
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
