package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/freshet-dev/freshet/store/setup"
)

// keeper is one node's part in keeping the window. All nodes look once a second; the
// one that has the lock moves the slot on, and makes it anew, out of a living node's,
// where it was lost or dropped. That the others don't is to save work: where the
// lock's holder does nothing for long, they do it all the same.
//
// Nothing that goes wrong here ends capture.
type keeper struct {
	s     *session
	held  bool          // the lock for keeping, on keepConn
	tried time.Time     // when it last moved the slot, or tried to
	cost  time.Duration // what that took of the server
	since time.Time     // since when the slot is below the window's edge, or missing, and doesn't move; zero: it isn't
	told  string        // the last thing that went wrong
}

// restAfterMove says how many times as long as the last move's cost the keeper rests
// at least: an advance rereads the WAL from the slot's restart position, which an open
// transaction pins, and holds back the xmin horizon meanwhile.
const restAfterMove = 50

// rereadRate is how slowly a server rereads WAL at worst, in bytes per second, as far
// as the keeper goes by it.
const rereadRate = 50 << 20

// moveCost is the cost of a move that took so long and reread so many bytes. A move
// also waits: for a standby that synchronized_standby_slots names, for its turn on a
// busy machine. To rest for that would only let the window grow.
func moveCost(took time.Duration, bytes pglogrepl.LSN) time.Duration {
	return time.Duration(min(float64(took), float64(bytes)/rereadRate*float64(time.Second)))
}

// overdue is for how many intervals nothing has happened when a node does the
// keeper's work without the lock.
const overdue = 6

// keep is the loop of a session that keeps the window.
func (s *session) keep(ctx context.Context) error {
	k := &keeper{s: s}
	ticker := time.NewTicker(min(pingInterval, s.f.cfg.KeepInterval))
	defer ticker.Stop()
	defer s.f.stats.keeper.Store(false)
	for {
		if err := k.turn(ctx); err != nil && ctx.Err() == nil {
			if text := err.Error(); text != k.told {
				k.told = text
				s.log.LogAttrs(ctx, slog.LevelWarn, "the replication slot could not be kept", slog.Any("error", err))
			}
			if errors.Is(err, errOtherHistory) {
				s.closeKeep()
			}
		}
		if s.keepConn == nil || s.keepConn.IsClosed() {
			k.held = false // the server has let the lock go, or will in a moment
		}
		s.f.stats.keeper.Store(k.held)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// turn looks at the window, and does what is to be done about it.
func (k *keeper) turn(ctx context.Context) error {
	s, f := k.s, k.s.f
	if s.keepConn == nil || s.keepConn.IsClosed() {
		k.held = false
		if err := s.openKeep(ctx, history{f.epoch, s.home}); err != nil {
			return err
		}
	}
	w, may, err := k.look(ctx)
	if err != nil {
		return err
	}
	now, applied := time.Now(), f.position()
	missing := !w.exists || w.status == "lost" || w.confirmed == nil && !w.active
	if !missing && w.confirmed != nil {
		if *w.confirmed != f.window.slot {
			k.since = time.Time{}
		}
		f.window.moved(*w.confirmed)
	}
	f.window.note(now, applied)
	f.stats.window(&f.window)
	edge := f.window.edge(now, applied)
	behind := missing || edge > f.window.slot
	switch {
	case !behind:
		k.since = time.Time{}
	case k.since.IsZero():
		k.since = now
	}
	late := !k.since.IsZero() && now.Sub(k.since) > overdue*f.cfg.KeepInterval
	switch {
	case !k.held && !late, !s.settled.Load(): // the latter moves nothing, since what is below its slot may be invisible
		return nil
	case missing:
		if !may {
			return nil // the database isn't set up any more: teardown
		}
		return s.makeWindow(ctx, false)
	case w.active: // somebody moves it, or streams from it, as an earlier version did
		return nil
	case !k.due(now, behind):
		return nil
	}
	return k.move(ctx, w, edge)
}

// due reports whether it is time to move the slot, which is behind, or to take it in
// hand.
func (k *keeper) due(now time.Time, behind bool) bool {
	rest := max(k.s.f.cfg.KeepInterval, restAfterMove*k.cost)
	if !behind {
		rest = max(rest, refreshAfter)
	}
	return now.Sub(k.tried) >= rest
}

// refreshAfter is how often the keeper has the slot in its hands where nothing is to
// be moved: from PostgreSQL 18 on idle_replication_slot_timeout, whose least value but
// for 0 is a minute in practice, invalidates a slot that nobody has used.
const refreshAfter = 30 * time.Second

// look asks for the lock, if this node hasn't got it and could do the work, and looks
// at the window; and whether the publication is there, without which there is to be no
// window.
func (k *keeper) look(ctx context.Context) (w windowSlot, published bool, err error) {
	s, f := k.s, k.s.f
	var same, held bool
	err = s.keepConn.QueryRow(ctx, `
select `+sameHistory(7)+`,
  case when $2::bool then true when $3::bool then pg_try_advisory_lock($4::int, $5::int) else false end,
  exists (select from pg_publication where pubname = $6), `+windowColumns+`
from (select) one left join pg_replication_slots s on s.slot_name = $1`,
		append([]any{f.cfg.Slot, k.held, s.settled.Load(), lockClass, lockKey(f.cfg.Slot, lockKeeping), f.cfg.Publication},
			history{f.epoch, s.home}.arguments()...)...).
		Scan(append([]any{&same, &held, &published}, w.scan()...)...)
	switch {
	case err != nil:
		return w, false, fmt.Errorf("look at the window: %w", err)
	case !same:
		return w, false, errOtherHistory
	}
	k.held = held
	return w, published, nil
}

// move moves the slot, which was found as w, to edge. What is confirmed must be known to be visible by
// whoever starts on it; one record reaches for as long as the replay window.
func (k *keeper) move(ctx context.Context, w windowSlot, edge pglogrepl.LSN) error {
	s, f := k.s, k.s.f
	if uint64(edge) > s.proven.Load() {
		if err := s.recordProven(ctx, s.keepConn, f.position()); err != nil {
			return err
		}
	}
	if !k.held {
		s.log.LogAttrs(ctx, slog.LevelWarn, "the replication slot was not moved on by whoever holds the advisory lock for that; doing it without",
			slog.String("slot", f.cfg.Slot), slog.Any("pids", s.holders(ctx, lockKey(f.cfg.Slot, lockKeeping))))
	}
	k.tried = time.Now()
	_, err := s.keepConn.Exec(ctx, `select pg_replication_slot_advance($1, $2::text::pg_lsn)`, f.cfg.Slot, edge.String())
	k.cost = moveCost(time.Since(k.tried), edge-min(edge, w.restart))
	switch code := setup.SQLState(err); {
	case err == nil:
		f.stats.moves.Add(1)
		k.since, k.told = time.Time{}, ""
		return nil
	case code == setup.CodeObjectInUse, code == setup.CodeUndefinedObject:
		return nil // between the look and now somebody has taken it, or dropped it: the next look tells
	}
	return fmt.Errorf("move slot %q to %s: %w", f.cfg.Slot, edge, err)
}

// openKeep opens the connection for locks, and for keeping the window, to where of is
// the history: what is moved, locked and recorded is that database's. It has a dialer of
// its own: that it breaks is no news to the session.
func (s *session) openKeep(ctx context.Context, of history) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	s.closeKeep()
	s.keepDial = newDialer()
	conn, err := s.openThrough(ctx, s.keepDial, map[string]string{"idle_session_timeout": keepSilence})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s.keepConn = conn
	defer func() {
		if err != nil {
			s.closeKeep() // the next one may lead elsewhere
		}
	}()
	// The name may have come to lead elsewhere, as it does in a failover.
	var same bool
	if err := conn.QueryRow(ctx, `select `+sameHistory(1), of.arguments()...).Scan(&same); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if !same {
		return errOtherHistory
	}
	return nil
}

// closeKeep closes that connection.
func (s *session) closeKeep() {
	if s.keepConn != nil {
		farewell(s.keepConn, s.keepDial)
		s.keepConn = nil
	}
	if s.keepDial != nil {
		s.keepDial.close()
	}
}
