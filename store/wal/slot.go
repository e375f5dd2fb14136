package wal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/store/setup"
)

// The persistent slot is only the window: it says from where on WAL is kept for
// whoever starts. Nobody streams from it. Each session has a temporary copy of its
// own, which begins where the window does, and which is gone with its connection.
// So any number of nodes follow one database, none of them leads, and none leaves
// anything behind (decision 0019).
//
// Nothing that a client is told rests on the locks below, nor on who keeps the
// window: whether a slot's start is to be waited for is judged by its position alone
// (provenKey). The locks spare the nodes needless work.

// slotState is where a session begins.
type slotState struct {
	confirmed pglogrepl.LSN
	proven    pglogrepl.LSN // everything that ends at or below was visible once; 0: nothing is known
}

// allVisible reports whether everything below the slot's position is known to be
// visible. It is then never delivered, and nobody waits for it.
func (s slotState) allVisible() bool { return s.confirmed <= s.proven }

// windowSlot is the persistent slot as the server shows it. The zero value is none.
type windowSlot struct {
	exists    bool
	status    string // wal_status; "lost" also when it was invalidated for another reason
	active    bool   // somebody reads it, moves it, or makes it
	confirmed *pglogrepl.LSN
	restart   pglogrepl.LSN // where WAL is read from, to move the slot or to start on it
}

// beingMade reports whether somebody is at making it, which takes as long as the
// transactions that are open.
func (w *windowSlot) beingMade() bool { return w.exists && w.active && w.confirmed == nil }

// ofUse reports whether the window can be copied, by a node which has found that what
// begins at or below useless can't be decoded.
func (w *windowSlot) ofUse(useless pglogrepl.LSN) bool {
	return w.exists && w.status != "lost" && w.confirmed != nil && *w.confirmed > useless
}

// windowColumns are what scan reads, of pg_replication_slots s or of nothing.
const windowColumns = `s.slot_name is not null, coalesce(s.wal_status, ''), coalesce(s.active, false), s.confirmed_flush_lsn, coalesce(s.restart_lsn, '0/0')`

func (w *windowSlot) scan() []any {
	return []any{&w.exists, &w.status, &w.active, &w.confirmed, &w.restart}
}

func (s *session) lookAtWindow(ctx context.Context, conn *pgx.Conn) (w windowSlot, err error) {
	err = conn.QueryRow(ctx, `
select `+windowColumns+` from (select) one left join pg_replication_slots s on s.slot_name = $1`, s.f.cfg.Slot).Scan(w.scan()...)
	if err != nil {
		return w, fmt.Errorf("look up slot: %w", err)
	}
	return w, nil
}

// errNoWindow says that there is no slot that could be copied.
var errNoWindow = errors.New("there is no replication slot to copy")

// openSlot copies the window for this session, and makes one where there is none,
// or none that is of use: lost, never confirmed, older than its publication. That it
// is ours, checkSetup has seen.
func (s *session) openSlot(ctx context.Context) (slotState, error) {
	confirmed, err := s.copyWindow(ctx)
	if errors.Is(err, errNoWindow) {
		if err := s.makeWindow(ctx, true); err != nil {
			return slotState{}, err
		}
		confirmed, err = s.copyWindow(ctx)
	}
	if err != nil {
		return slotState{}, err
	}
	proven, err := s.lookUpProven(ctx)
	return slotState{confirmed: confirmed, proven: proven}, err
}

// copyName returns a name for a copy: the window's, and a random part of 9 bytes.
func copyName(window string) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return window + "_" + hex.EncodeToString(random[:])
}

// copyWindow makes the session's temporary slot, on the connection for replication,
// with which it goes. It works while others copy the window, move it or, in an
// earlier version, stream from it; and beside open transactions.
func (s *session) copyWindow(ctx context.Context) (confirmed pglogrepl.LSN, err error) {
	unlock, err := s.lock(ctx, shared)
	if err != nil {
		return 0, err
	}
	defer unlock()
	w, err := s.lookAtWindow(ctx, s.keepConn)
	switch {
	case err != nil:
		return 0, err
	case !w.ofUse(pglogrepl.LSN(s.f.useless.Load())):
		return 0, errNoWindow
	}
	s.copy = copyName(s.f.cfg.Slot)
	// Both names are of letters, digits and underscores. A connection for
	// replication takes no parameters.
	results, err := s.repl.Exec(ctx, fmt.Sprintf(`select lsn from pg_copy_logical_replication_slot('%s', '%s', true)`, s.f.cfg.Slot, s.copy)).ReadAll()
	if err != nil {
		return 0, fmt.Errorf("copy slot %q: %w", s.f.cfg.Slot, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return 0, fmt.Errorf("copy slot %q: the server answered with no position", s.f.cfg.Slot)
	}
	s.copied, err = pglogrepl.ParseLSN(string(results[0].Rows[0][0]))
	if err != nil {
		return 0, fmt.Errorf("copy slot %q: %w", s.f.cfg.Slot, err)
	}
	return s.copied, nil
}

// makeWindow makes the window where there is none, or none of use, which is dropped
// first. While a node streams, that node's slot is copied: to make one anew waits for
// open transactions, and that is done only if anew allows it.
//
// All that it decides on is read and done on the connection that holds the lock: a
// node that was paused in between has lost both, and drops nothing of the others'.
func (s *session) makeWindow(ctx context.Context, anew bool) error {
	f := s.f
	unlock, err := s.lock(ctx, exclusive)
	if err != nil {
		return err
	}
	defer unlock()
	w, err := s.lookAtWindow(ctx, s.keepConn)
	switch {
	case err != nil:
		return err
	case w.ofUse(pglogrepl.LSN(f.useless.Load())):
		return nil // another node was here first
	case w.beingMade():
		return fmt.Errorf("another node is making the replication slot %q, which waits for open transactions", f.cfg.Slot)
	}
	if w.exists {
		s.log.LogAttrs(ctx, slog.LevelWarn, "the replication slot is of no use any more; making a new one",
			slog.String("slot", f.cfg.Slot), slog.String("wal_status", w.status))
		if _, err := s.keepConn.Exec(ctx, `select pg_drop_replication_slot($1)`, f.cfg.Slot); err != nil {
			return fmt.Errorf("drop slot: %w", err)
		}
		f.stats.slots.Add(1)
	}
	copied, err := s.copyLiving(ctx)
	if copied || err != nil || !anew {
		return err
	}
	return s.createSlot(ctx)
}

// copyLiving makes the window from the slot of a node that streams. It begins at what
// that node has applied, so whoever starts in the next minute finds a short window.
func (s *session) copyLiving(ctx context.Context) (copied bool, err error) {
	f := s.f
	var living string
	err = s.keepConn.QueryRow(ctx, `
select slot_name from pg_replication_slots
where slot_name ~ $1 and temporary and active and plugin = 'pgoutput' and database = current_database()
  and coalesce(wal_status, '') <> 'lost' and confirmed_flush_lsn > $2
order by confirmed_flush_lsn limit 1`, setup.CopiesOf(f.cfg.Slot), pglogrepl.LSN(f.useless.Load())).Scan(&living)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for a slot to copy: %w", err)
	}
	_, err = s.keepConn.Exec(ctx, `select pg_copy_logical_replication_slot($1, $2, false)`, living, f.cfg.Slot)
	if setup.SQLState(err) == setup.CodeUndefinedObject {
		return false, nil // its node has just gone
	}
	if err != nil {
		return false, fmt.Errorf("copy slot %q: %w", living, err)
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "the replication slot was made from that of a node", slog.String("slot", f.cfg.Slot), slog.String("from", living))
	return true, nil
}

// createSlot makes the slot, and says who holds it up: the consistent point
// waits for every transaction that has an xid.
func (s *session) createSlot(ctx context.Context) error {
	f := s.f
	s.log.LogAttrs(ctx, slog.LevelInfo, "creating the replication slot", slog.String("slot", f.cfg.Slot))
	// It may take as long as somebody's transaction, and nothing comes
	// meanwhile; logBlockers sees to it that somebody is still at it.
	socketOf(s.repl.Conn()).allow(0)
	made, lost := make(chan struct{}), make(chan error, 1)
	go func() { lost <- s.logBlockers(ctx, made) }()
	_, err := pglogrepl.CreateReplicationSlot(ctx, s.repl, f.cfg.Slot, "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	close(made)
	if gone := <-lost; gone != nil {
		err = gone
	}
	socketOf(s.repl.Conn()).allow(answerSilence)
	if err != nil {
		return fmt.Errorf("create slot %q: %w", f.cfg.Slot, err)
	}
	return nil
}

// logBlockers names, every few seconds, what the slot's creation waits for, and
// ends the replication connection, and so the wait, when nobody is at it any
// more, or when the database doesn't answer. It asks on the connection that holds
// the lock, which a server ends that doesn't hear from it. It returns why it ended
// the wait, or nil when made was closed.
func (s *session) logBlockers(ctx context.Context, made <-chan struct{}) error {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	idle := 0
	for n := 1; ; n++ {
		select {
		case <-made:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		var (
			busy     bool
			blockers []string
		)
		err := s.keepConn.QueryRow(ctx, `
select `+walsenderBusy+`, array(select what from `+openTransactions+` o)`, s.replPID).Scan(&busy, &blockers)
		idle++
		if busy {
			idle = 0
		}
		switch {
		case err == nil && idle > 2: // the first time the answer may be on its way
			err = errSilent
			fallthrough
		case err != nil:
			s.cutReplication()
			return err
		}
		if len(blockers) > 0 && n%2 == 0 {
			s.log.LogAttrs(ctx, slog.LevelWarn, slotWaits, slog.Any("blockers", blockers))
			s.f.setNotReady(slotWaitError(blockers)) // it serves nothing before it has a slot
		}
	}
}

// openTransactions are the others that have an id (xid), each in words (what). Who may not
// see what they do sees their pid.
const openTransactions = `(
  select backend_xid as xid, ` + activityInWords + ` as what
  from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
  union all
  select transaction, 'prepared transaction ' || quote_literal(gid) || ', since ' || prepared from pg_prepared_xacts)`

// activityInWords is who a row of pg_stat_activity is.
const activityInWords = `'pid ' || pid || ' (' || concat_ws(', ', nullif(application_name, ''), 'since ' || xact_start) || ')'`

// slotWaits says why the slot isn't there yet.
const slotWaits = "creating the replication slot waits for open transactions"

// slotWaitError names the transactions that the slot's creation waits for.
type slotWaitError []string

func (e slotWaitError) Error() string { return slotWaits + ": " + strings.Join(e, "; ") }

// Kind is the same for each.
func (slotWaitError) Kind() string { return slotWaits }
