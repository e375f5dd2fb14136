package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Seat is one node's part in choosing, among those that are told by one of them what
// changes, the one that captures: whoever has an advisory lock, one for each slot and
// contract. As with the other locks, nothing that is told rests on it. It spares the
// primary all other nodes' captures, and that is all.
//
// Run one; the other methods are safe for concurrent use.
type Seat struct {
	f       *Feed
	purpose string
	change  func()
	wanted  atomic.Bool
	held    atomic.Bool
}

const (
	// seatSilence is after what the server, and this node, give a connection up, so
	// that a node that is paused lets go.
	seatSilence = 3 * time.Second
	// seatInterval is how often each node asks for the lock.
	seatInterval = 250 * time.Millisecond
)

// NewSeat returns the seat of f's slot and contract (and of the way in which nodes tell
// each other what changes: those of an older version, with another, have a seat of their
// own). change is called when Held may answer otherwise; it must not block.
func (f *Feed) NewSeat(change func()) *Seat {
	return &Seat{f: f, purpose: "/seat/2/" + f.cfg.Program.Hash(), change: change}
}

// Want says whether this node would capture for the others. One that doesn't lets go.
func (t *Seat) Want(yes bool) { t.wanted.Store(yes) }

// Held reports whether this node has the seat, as far as it knows: one that was paused
// finds out a moment later.
func (t *Seat) Held() bool { return t.held.Load() }

func (t *Seat) hold(yes bool) {
	if t.held.Swap(yes) != yes {
		t.change()
	}
}

// Run asks for the seat, and keeps it, until ctx ends. What goes wrong is logged, and
// tried again.
func (t *Seat) Run(ctx context.Context) {
	defer t.hold(false)
	ticker := time.NewTicker(seatInterval)
	defer ticker.Stop()
	told := ""
	for ctx.Err() == nil {
		err := t.sit(ctx, ticker.C)
		t.hold(false)
		if ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != told && !errors.Is(err, errOtherHistory) {
			told = text
			t.f.log.LogAttrs(ctx, slog.LevelWarn, "the node can't ask for the seat of the one that captures for others", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(seatInterval):
		}
	}
}

// sit is one connection's time. The error is never nil.
func (t *Seat) sit(ctx context.Context, tick <-chan time.Time) (err error) {
	s := &session{f: t.f, log: t.f.log, dial: newDialer()}
	defer s.dial.close()
	defer func() { err = s.dial.cause(err) }()
	opening, cancel := context.WithTimeout(ctx, seatSilence)
	defer cancel()
	conn, err := s.openThrough(opening, s.dial, map[string]string{"idle_session_timeout": fmt.Sprint(seatSilence.Milliseconds())})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer farewell(conn, s.dial)
	key := lockKey(t.f.cfg.Slot, t.purpose)
	for held := false; ; {
		here := t.f.history()
		ask, cancel := context.WithTimeout(ctx, seatSilence)
		var same bool
		// The name may have come to lead elsewhere, as it does in a failover: a lock
		// there counts for nothing.
		err := conn.QueryRow(ask, `
select `+sameHistory(5)+`,
  case when $1::bool and $2::bool then true when $1::bool then pg_try_advisory_lock($3::int, $4::int)
    when $2::bool then not pg_advisory_unlock($3::int, $4::int) else false end`,
			append([]any{t.wanted.Load() && here.epoch != 0, held, lockClass, key}, here.arguments()...)...).Scan(&same, &held)
		cancel()
		switch {
		case err != nil:
			return fmt.Errorf("ask for the lock: %w", err)
		case here.epoch != 0 && !same:
			return errOtherHistory
		}
		t.hold(held)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick:
		}
	}
}
