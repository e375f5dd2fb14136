package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/gen/freshetdb"
)

// errLost says that a transaction is known not to have been committed, because
// its COMMIT never arrived or fell with its session.
var errLost = fmt.Errorf("%w: connection lost before commit", ErrUnavailable)

// resolve finds out, on another connection of the same epoch, what became of a
// transaction whose COMMIT was not answered. again is as in try.
func (d *DB) resolve(ctx context.Context, call *Call, lost lostCommit) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.resolveTimeout)
	defer cancel()

	status, position := d.awaitStatus(ctx, lost)
	d.logger.LogAttrs(ctx, slog.LevelWarn, "answer to commit lost", slog.Uint64("xid", lost.xid),
		slog.String("status", status), slog.Any("cause", lost.cause))
	switch status {
	case statusCommitted:
		position.Epoch = lost.epoch // also where nothing more is known
		call.ended(Outcome{Xid: lost.xid, Position: position, Committed: true})
		return false, nil
	case statusAborted:
		return true, fmt.Errorf("%w: %w", errLost, lost.cause)
	default:
		// The cause must not make it an ErrUnavailable, which may be tried again.
		return false, fmt.Errorf("%w: %s", ErrCommitUnknown, lost.cause.Error())
	}
}

// lostCommit is a COMMIT without an answer.
type lostCommit struct {
	xid       uint64 // zero: nothing was written
	epoch     freshet.Epoch
	committed bool // COMMIT was answered, what followed was not
	cause     error
}

// What pg_xact_status says.
const (
	statusInProgress = "in progress"
	statusCommitted  = "committed"
	statusAborted    = "aborted"
)

// awaitStatus asks until the transaction is over: its session may still be
// waiting for a standby, or may not have noticed yet that its client is gone.
// Once ctx is done it returns the last status. A committed one comes without a
// position if none could be had.
//
// pg_xact_status says "in progress" for as long as others can't see the
// transaction, so committed means visible. In another epoch there is no
// telling: after a crash or a promotion the id may have been given again.
func (d *DB) awaitStatus(ctx context.Context, lost lostCommit) (status string, position freshet.Revision) {
	if lost.committed || lost.xid == 0 { // without an id there is nothing to lose
		status = statusCommitted
	}
	const longest = 100 * time.Millisecond
	for pause := time.Millisecond; ; pause = min(2*pause, longest) {
		err := d.askStatus(ctx, lost, &status, &position)
		if err == nil && status != statusInProgress || errors.Is(err, ErrEpoch) {
			return status, position
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return status, position
		}
	}
}

// askStatus asks once, on a connection that isn't kept between two questions.
// The position is read after the status, so that it is above the commit.
func (d *DB) askStatus(ctx context.Context, lost lostCommit, status *string, position *freshet.Revision) error {
	conn, err := d.acquire(ctx, lost.epoch)
	if err != nil {
		return err
	}
	defer conn.Release() // which closes the connection if it is left in a transaction
	if tagOf(conn.Conn()).pooled {
		if err := d.beginProven(ctx, conn, beginReadSQL, nil, lost.epoch); err != nil {
			return err
		}
		defer func() { _ = endRead(ctx, conn) }()
	}

	if *status != statusCommitted {
		*status, err = freshetdb.New(&reader{conn: conn}).TransactionStatus(ctx, strconv.FormatUint(lost.xid, 10))
		if err != nil {
			*status = ""
			return err
		}
	}
	if *status != statusCommitted {
		return nil
	}
	results, err := exec(ctx, conn, positionSQL)
	if err != nil {
		return err
	}
	p, err := parsePosition(results[0])
	if err != nil {
		return err
	}
	*position = revisionOn(conn, p)
	return nil
}
