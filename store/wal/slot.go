package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// slotState is where a session begins.
type slotState struct {
	confirmed pglogrepl.LSN
	proven    pglogrepl.LSN // everything that ends at or below was visible once; 0: nothing is known
}

// allVisible reports whether everything below the slot's position is known to be
// visible. It is then never delivered, and nobody waits for it.
func (s slotState) allVisible() bool { return s.confirmed <= s.proven }

// provenKey is the key, beside the fingerprints, of the position up to which
// everything was proven visible (decision 0008). A slot that begins above it is
// one that was just made, by us or by somebody else, or that somebody has moved:
// a commit below its position may still be invisible. A slot of ours is confirmed
// a replay window behind what was proven, so it begins below.
const provenKey = "proven visible"

// home names the database of a position: the row can travel with a dump.
func (i incarnation) home() string { return fmt.Sprintf("%s/%d", i.systemIdentifier, i.database) }

// recordProven stores that everything up to lsn was proven visible. Where the
// database refuses (it is read-only, the table is locked) nothing is lost: the
// next start waits as for a new slot.
func (s *session) recordProven(ctx context.Context, conn *pgx.Conn, lsn pglogrepl.LSN) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local lock_timeout = '100ms'`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
insert into freshet.fingerprint (source, value) values ($1, $2)
on conflict (source) do update set value = excluded.value`, provenKey, s.home.home()+" "+lsn.String())
		return err
	})
	switch {
	case err == nil:
		s.proven.Store(uint64(lsn))
	case !refused(err):
		return fmt.Errorf("record what was proven visible: %w", err)
	}
	return nil
}

// lookUpProven reads what recordProven stored for this database.
func (s *session) lookUpProven(ctx context.Context) (pglogrepl.LSN, error) {
	var text string
	err := s.watchConn.QueryRow(ctx, `select value from freshet.fingerprint where source = $1`, provenKey).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look up what was proven visible: %w", err)
	}
	position, ours := strings.CutPrefix(text, s.home.home()+" ")
	if !ours {
		return 0, nil
	}
	lsn, err := pglogrepl.ParseLSN(position)
	if err != nil {
		return 0, nil //nolint:nilerr // written by another version: nothing is known
	}
	return lsn, nil
}

// openSlot returns the state of our slot, and makes one where there is none,
// or none that is of use: lost, never confirmed, older than its publication.
// That it is ours, checkSetup has seen.
func (s *session) openSlot(ctx context.Context) (slotState, error) {
	f := s.f
	var (
		status    string
		active    bool
		confirmed *pglogrepl.LSN
	)
	err := s.watchConn.QueryRow(ctx, `
select coalesce(wal_status, ''), active, confirmed_flush_lsn from pg_replication_slots where slot_name = $1`, f.cfg.Slot).
		Scan(&status, &active, &confirmed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s.createSlot(ctx)
	case err != nil:
		return slotState{}, fmt.Errorf("look up slot: %w", err)
	case active:
		return slotState{}, ErrSlotInUse
	case status == "lost", confirmed == nil, f.recreate:
		s.log.LogAttrs(ctx, slog.LevelWarn, "the replication slot is of no use any more; making a new one, all clients refetch",
			slog.String("slot", f.cfg.Slot), slog.String("wal_status", status))
		if _, err := s.watchConn.Exec(ctx, `select pg_drop_replication_slot($1)`, f.cfg.Slot); err != nil {
			return slotState{}, fmt.Errorf("drop slot: %w", err)
		}
		f.stats.slots.Add(1)
		return s.createSlot(ctx)
	}
	proven, err := s.lookUpProven(ctx)
	return slotState{confirmed: *confirmed, proven: proven}, err
}

// createSlot makes the slot, and says who holds it up: the consistent point
// waits for every transaction that has an xid.
func (s *session) createSlot(ctx context.Context) (slotState, error) {
	f := s.f
	s.log.LogAttrs(ctx, slog.LevelInfo, "creating the replication slot", slog.String("slot", f.cfg.Slot))
	// It may take as long as somebody's transaction, and nothing comes
	// meanwhile; logBlockers sees to it that somebody is still at it.
	socketOf(s.repl.Conn()).allow(0)
	made, lost := make(chan struct{}), make(chan error, 1)
	go func() { lost <- s.logBlockers(ctx, made) }()
	created, err := pglogrepl.CreateReplicationSlot(ctx, s.repl, f.cfg.Slot, "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	close(made)
	if gone := <-lost; gone != nil {
		err = gone
	}
	socketOf(s.repl.Conn()).allow(answerSilence)
	if err != nil {
		return slotState{}, fmt.Errorf("create slot %q: %w", f.cfg.Slot, err)
	}
	f.recreate = false
	confirmed, err := pglogrepl.ParseLSN(created.ConsistentPoint)
	if err != nil {
		return slotState{}, fmt.Errorf("create slot: %w", err)
	}
	return slotState{confirmed: confirmed}, nil
}

// logBlockers names, every few seconds, what the slot's creation waits for, and
// ends the replication connection, and so the wait, when nobody is at it any
// more, or when the database doesn't answer. It has the probe connection to
// itself until the session streams. It returns why it ended the wait, or nil
// when made was closed.
func (s *session) logBlockers(ctx context.Context, made <-chan struct{}) error {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	idle := 0
	for {
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
		err := s.probeConn.QueryRow(ctx, `
select `+walsenderBusy+`, array(
  select 'pid ' || pid || ' (' || coalesce(application_name, '') || ', ' || coalesce(state, '') || ', since ' || coalesce(xact_start::text, '?') || ')'
  from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
  union all
  select 'prepared transaction ' || quote_literal(gid) || ', since ' || prepared from pg_prepared_xacts)`, s.replPID).Scan(&busy, &blockers)
		idle++
		if busy {
			idle = 0
		}
		switch {
		case err == nil && idle > 1: // twice: the first time the answer may be on its way
			err = errSilent
			fallthrough
		case err != nil:
			s.cutReplication()
			return err
		}
		if len(blockers) > 0 {
			s.log.LogAttrs(ctx, slog.LevelWarn, "creating the replication slot waits for open transactions",
				slog.Any("blockers", blockers))
		}
	}
}
