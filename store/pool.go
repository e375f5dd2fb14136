package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/oneline"
	"github.com/freshet-dev/freshet/internal/primary"
	"github.com/freshet-dev/freshet/internal/turns"
)

// acquire takes a connection of the epoch out of the pool, for a read.
func (d *DB) acquire(ctx context.Context, epoch freshet.Epoch) (*pgxpool.Conn, error) {
	bounded, cancel := context.WithTimeout(ctx, d.acquireTimeout)
	defer cancel()
	return d.take(ctx, bounded, epoch)
}

// lease is a connection in the hands of a write, and the place that it takes.
type lease struct {
	conn   *pgxpool.Conn
	writes *turns.Turns // nil: released
}

// Release gives both back; the second time it does nothing. A connection in a
// transaction is closed.
func (l *lease) Release() {
	l.conn.Release()
	if l.writes != nil {
		l.writes.Release()
		l.writes = nil
	}
}

// acquireWrite takes a connection of the call's epoch out of the pool, for a write.
func (d *DB) acquireWrite(ctx context.Context, call *Call) (*lease, error) {
	bounded, cancel := context.WithTimeout(ctx, d.acquireTimeout)
	defer cancel()
	d.Meet(max(call.Epoch, call.Guarded)) // those who have the turns may wait for a server that is gone
	d.waiting.Add(1)
	err := d.writes.Acquire(bounded, call.Caller)
	d.waiting.Add(-1)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("%w: every connection that writes may have is in use", ErrBusy)
	}
	conn, err := d.take(ctx, bounded, call.Epoch)
	if err != nil {
		d.writes.Release()
		return nil, err
	}
	return &lease{conn: conn, writes: d.writes}, nil
}

// take waits for a connection until bounded, which is ctx with a bound, ends.
func (d *DB) take(ctx, bounded context.Context, epoch freshet.Epoch) (*pgxpool.Conn, error) {
	d.Meet(epoch)
	d.waiting.Add(1)
	defer d.waiting.Add(-1)
	bounded = context.WithValue(bounded, wantKey{}, want{epoch: epoch, since: time.Now()})
	conn, err := d.pool.Acquire(bounded)
	err = oneline.Error(err)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
	case errors.Is(err, ErrEpoch):
		return nil, err
	case bounded.Err() != nil:
		err = fmt.Errorf("%w: no connection within %v", ErrBusy, d.acquireTimeout)
	case !errors.Is(err, ErrUnavailable): // whatever the reason, the database is not to be asked now
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	d.health.suspect()
	return nil, err
}

// Meet tells the pool of an epoch that has begun; of one that it knows already, or of an
// earlier one, it is told nothing new. Calls tell it too, by Call.Epoch: whoever knows
// earlier saves those the wait that are on their way. The connections of the epochs
// before are of no use any more. Idle ones mustn't be asked whether they are alive: a
// server that is gone without a word, as one that is failed over from, doesn't answer,
// and each question takes all the time that there is. Those that are in use, or
// being opened, are cut, and what runs on them fails as if the server had gone
// (ErrUnavailable, ErrCommitUnknown).
// It doesn't block.
func (d *DB) Meet(epoch freshet.Epoch) { d.meet(epoch, d.pool) }

// history is what a pool knows of the history that its connections are to read.
type history struct {
	// latest is the highest epoch that a call has named, or that a connection of the
	// store's was found to read: all below have ended. 0: none yet.
	latest  atomic.Uint32
	sockets sockets
	finder  *primary.Finder
}

// meet is Meet of a pool.
func (h *history) meet(epoch freshet.Epoch, pool *pgxpool.Pool) {
	for {
		last := h.latest.Load()
		if uint32(epoch) <= last {
			return
		}
		if h.latest.CompareAndSwap(last, uint32(epoch)) {
			if last != 0 {
				h.finder.Forget()
				pool.Reset()
				h.sockets.cut(epoch)
			}
			return
		}
	}
}

// known is the latest epoch that there is, as far as is known.
func (d *DB) known() freshet.Epoch { return freshet.Epoch(d.latest.Load()) }

// Stats is a snapshot of the pool.
type Stats struct {
	Max, InUse, Idle    int           // connections
	Writing, MaxWriting int           // of those in use, by writes; of Max, open to writes
	Waiting             int           // calls that wait for a connection
	Acquires            uint64        // connections handed out so far
	AcquireTime         time.Duration // spent in waiting for them
}

// Stats returns what the pool is doing.
func (d *DB) Stats() Stats {
	s := d.pool.Stat()
	return Stats{
		Max: int(s.MaxConns()), InUse: int(s.AcquiredConns()), Idle: int(s.IdleConns()),
		Writing: d.writes.InUse(), MaxWriting: d.writes.Places(),
		Waiting:  int(d.waiting.Load()),
		Acquires: uint64(s.AcquireCount()), AcquireTime: s.AcquireDuration(),
	}
}
