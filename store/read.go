package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxStale bounds how often a call is run again because a statement's plan was
// stale: each time finds one statement of its function.
const maxStale = 16

// Read runs fn, which reads with one statement: it has one snapshot, so its
// answer is of one moment. For several statements, see ReadTx.
//
// When its connection breaks, as pooled ones do that have died unseen, it is run
// again on another, three times in all; and when a migration has made a prepared
// statement useless. fn must have no effect but to set its results.
//
// Where there are replicas, and the context's Call allows it, it may run on one
// first, in a transaction as ReadTx does; whatever Postgres refuses there is run
// again on the primary.
func (d *DB) Read(ctx context.Context, fn func(context.Context, pgx.Tx) error) error {
	return d.reading(ctx, fn, callOf(ctx).Audit)
}

// ReadTx runs fn in one REPEATABLE READ READ ONLY transaction: all its
// statements have the snapshot of the first one, and savepoints work. Otherwise
// it is as Read.
func (d *DB) ReadTx(ctx context.Context, fn func(context.Context, pgx.Tx) error) error {
	return d.reading(ctx, fn, true)
}

// reading runs a read on a connection, and again if that turns out to be dead.
func (d *DB) reading(ctx context.Context, fn func(context.Context, pgx.Tx) error, inTx bool) error {
	call := callOf(ctx)
	session, err := d.sessionOf(ctx)
	if err != nil {
		return err
	}
	if served, err := d.replicas.read(ctx, call, session, fn); served {
		return d.over(session, err)
	}
	for attempt := 1; ; attempt++ {
		dead, err := d.readOnce(ctx, call, session, fn, inTx)
		if !dead || attempt == maxAttempts || ctx.Err() != nil {
			return d.over(session, err)
		}
	}
}

// over is the end of a call that has run as session. A right that the pool's own
// role lacks is looked into: it may be that no call can be served.
func (d *DB) over(session *Session, err error) error {
	err = session.judge(err)
	if isDenied(err) && !errors.Is(err, ErrDenied) {
		d.health.denied()
	}
	return err
}

func (d *DB) readOnce(ctx context.Context, call *Call, session *Session, fn func(context.Context, pgx.Tx) error, inTx bool) (dead bool, err error) {
	conn, err := d.acquire(ctx, call.Epoch)
	if err != nil {
		return false, err
	}
	defer conn.Release() // which closes the connection if fn panics in a transaction
	for range maxStale {
		if inTx || tagOf(conn.Conn()).pooled {
			err = cmp.Or(d.read(ctx, conn, call, session, fn), endRead(ctx, conn))
		} else {
			err = readAlone(ctx, &reader{conn: conn, session: session}, fn)
		}
		if !isStale(err) || conn.Conn().IsClosed() {
			break
		}
	}
	return err != nil && conn.Conn().IsClosed() && !isUnsendable(err), err
}

// readAlone runs fn without a transaction, unless one of its statements needs one to
// run as its session.
func readAlone(ctx context.Context, r *reader, fn func(context.Context, pgx.Tx) error) error {
	err := runReader(ctx, r, fn)
	if r.begun {
		err = cmp.Or(err, endRead(ctx, r.conn))
	}
	return err
}

// runReader runs fn, and takes back what it was handed.
func runReader(ctx context.Context, r *reader, fn func(context.Context, pgx.Tx) error) error {
	defer func() { r.over = true }()
	return meaning(fn(ctx, r))
}

// meaning gives the one error that pgx makes by itself, far from any statement, its
// meaning here: CollectOneRow says so of rows that are none.
func meaning(err error) error {
	if errors.Is(err, pgx.ErrNoRows) && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// beginReadSQL opens the transaction of ReadTx.
const beginReadSQL = "begin isolation level repeatable read read only"

func (d *DB) read(ctx context.Context, conn *pgxpool.Conn, call *Call, session *Session, fn func(context.Context, pgx.Tx) error) error {
	var err error
	if tagOf(conn.Conn()).pooled {
		err = d.beginProven(ctx, conn, beginReadSQL, session, call.Epoch)
	} else {
		err = session.begin(ctx, conn, beginReadSQL)
	}
	if err != nil {
		return err
	}
	if !call.Audit {
		return runReader(ctx, &reader{conn: conn, inTx: true}, fn)
	}
	return audited(ctx, conn, call, fn)
}

// audited runs fn and records what it looked into, also when it fails: that
// there is no such row is learned from a table too.
func audited(ctx context.Context, conn *pgxpool.Conn, call *Call, fn func(context.Context, pgx.Tx) error) error {
	before, err := tableUse(ctx, conn)
	switch {
	case errors.Is(err, errNoTrackCounts):
		call.blinded(err)
		return runReader(ctx, &reader{conn: conn, inTx: true}, fn)
	case err != nil:
		return err
	}
	result := runReader(ctx, &reader{conn: conn, inTx: true}, fn)
	if conn.Conn().PgConn().TxStatus() != 'T' {
		return result // a statement failed, and with it the transaction
	}
	after, err := tableUse(ctx, conn)
	if err != nil {
		return cmp.Or(result, err)
	}
	for table, uses := range after {
		if uses.all > before[table].all {
			call.audited(&call.scanned, table)
		}
	}
	return result
}

// endRead leaves the transaction, whatever became of the context.
func endRead(ctx context.Context, conn *pgxpool.Conn) error {
	if conn.Conn().IsClosed() {
		return nil // and so is the transaction
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_, err := exec(ctx, conn, "rollback")
	return err
}
