package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/freshet-dev/freshet"
)

// receive reads the stream as fast as it comes: decoding overlaps the gate's
// round trip, so that a batch is whatever came meanwhile. It has no
// deadline but checkAlive, which ends the session.
func (s *session) receive(context.Context) error {
	for {
		msg, err := s.repl.ReceiveMessage(context.Background())
		if err != nil {
			return s.streamError(fmt.Errorf("receive: %w", err))
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyData:
			if err := s.copyData(msg.Data); err != nil {
				return err
			}
		case *pgproto3.ErrorResponse:
			return s.streamError(fmt.Errorf("receive: %w", pgconn.ErrorResponseToPgError(msg)))
		case *pgproto3.NoticeResponse:
			// PostgreSQL 18 goes on without a publication that is missing. What
			// comes after this in the stream is pushed after this.
			if msg.Code == codeNotInPrerequisiteState {
				s.f.quarantine.distrust("the walsender went on without the publication: "+msg.Message, true)
				signal(s.watched)
			}
		case *pgproto3.ParameterStatus:
		default:
			return fmt.Errorf("receive: the walsender ended the stream with %T", msg)
		}
	}
}

func (s *session) copyData(data []byte) error {
	if len(data) == 0 {
		return errTruncated
	}
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		m, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return err
		}
		if m.ReplyRequested {
			signal(s.replyWanted)
		}
		// The last sent position: nothing before it is still to come.
		s.push(m.ServerWALEnd, func(g *gate) { g.advance(m.ServerWALEnd) })
	case pglogrepl.XLogDataByteID:
		m, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return err
		}
		tx, err := s.dec.decode(m.WALData)
		if err != nil {
			return err
		}
		if tx != nil {
			s.push(tx.end, func(g *gate) { g.push(tx) })
			s.report()
		}
	}
	return nil
}

func (s *session) push(end pglogrepl.LSN, add func(*gate)) {
	s.mu.Lock()
	add(&s.gate)
	s.f.stats.waiting.Store(int64(len(s.gate.queue)))
	s.mu.Unlock()
	s.f.received.Store(max(s.f.received.Load(), uint64(end)))
	signal(s.work)
}

// report moves the decoder's counts and findings to where they are read.
func (s *session) report() {
	s.f.stats.ignored.Add(s.dec.ignored)
	s.f.stats.oversize.Add(s.dec.oversize)
	s.dec.ignored, s.dec.oversize = 0, 0
}

// Back-off after a snapshot that released nothing.
const (
	gapMin = 500 * time.Microsecond
	gapMax = 5 * time.Millisecond
)

// release lets through the gate what is visible, and gives it to the sink, in
// order. It is the only goroutine that talks to the sink's ordered half.
func (s *session) release(ctx context.Context) error {
	var batch []waiting
	var waits left
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.work:
		case <-timer.C:
		}
		// What an earlier snapshot has shown needs no other: visibility is
		// monotone. So a replay costs next to no queries.
		batch, waits = s.through(s.recent(), batch[:0])
		asked := waits != nothing && len(batch) == 0 || s.visibleAt > 0 || s.relook.Load()
		if asked {
			snap, err := s.takeSnapshot(ctx)
			if err != nil {
				return err
			}
			batch, waits = s.through(snap, batch)
		}
		if slices.ContainsFunc(batch, func(w waiting) bool { return w.announced }) {
			if err := s.meetVersions(ctx, s.gateConn); err != nil {
				return err
			}
		}
		s.syncQuarantine(ctx) // before what follows in the WAL
		for i := range batch {
			s.apply(&batch[i])
		}
		s.syncQuarantine(ctx)
		if err := s.catchUp(ctx); err != nil {
			return err
		}
		missed := asked && waits == aCommit && len(batch) == 0
		s.held(ctx, missed)
		switch {
		case missed, s.visibleAt > 0:
			s.lastGap = min(max(2*s.lastGap, gapMin), gapMax)
			timer.Reset(s.lastGap)
		case waits != nothing:
			s.lastGap = 0
			timer.Reset(0)
		default:
			s.lastGap = 0
		}
	}
}

// What is left in the gate.
type left uint8

const (
	nothing left = iota
	aKeepalive
	aCommit // that is first
)

// through takes from the gate what snap shows and the last look covers, and
// appends it to batch.
func (s *session) through(snap *snapshot, batch []waiting) (_ []waiting, waits left) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch = s.gate.release(snap, s.looked, batch)
	s.f.stats.waiting.Store(int64(len(s.gate.queue)))
	switch {
	case s.gate.holds():
		waits = aCommit
	case len(s.gate.queue) > 0:
		waits = aKeepalive
	}
	return batch, waits
}

// snapshotAge bounds for how long a snapshot is asked about other commits.
// Their ids are compared modulo 2³²: within a second nobody uses up half of
// that, however busy other databases of the server are.
const snapshotAge = time.Second

// recent is the last snapshot, or nil if it is too old.
func (s *session) recent() *snapshot {
	if s.snap != nil && time.Since(s.snapAt) > snapshotAge {
		s.snap = nil
	}
	return s.snap
}

// takeSnapshot asks the primary what is visible, and proves in the same
// statement that it is the primary, of the epoch that this session serves.
// (On a standby a snapshot says that a transaction still open on the primary
// is over.) The same statement glances at the catalog, for all that the WAL had
// reached before: what has been received, and what the last one read. A
// difference is looked at closely before anything passes.
func (s *session) takeSnapshot(ctx context.Context) (*snapshot, error) {
	var (
		text    string
		standby bool
		epoch   freshet.Epoch
		flushed pglogrepl.LSN
		glance  string
	)
	s.mu.Lock()
	reached := max(s.gate.last(), s.flushed)
	s.mu.Unlock()
	s.f.stats.gateQueries.Add(1)
	at := time.Now()
	err := s.gateConn.QueryRow(ctx, s.gateSQL).Scan(&text, &standby, &epoch, &flushed, &glance)
	switch {
	case err != nil:
		return nil, fmt.Errorf("gate: %w", err)
	case standby:
		return nil, errors.New("gate: the database is in recovery: it is not the primary")
	case epoch != s.f.epoch:
		return nil, fmt.Errorf("gate: the database is in epoch %d, this feed in %d", epoch, s.f.epoch)
	}
	if s.relook.Swap(false) || glance != s.glance {
		if err := s.lookUp(ctx); err != nil {
			return nil, err
		}
	}
	s.looked, s.flushed = reached, flushed
	s.snap, err = parseSnapshot(text)
	s.snapAt = at
	return s.snap, err
}

// gateSQL is the statement but for its last column, the glance.
const gateSQL = `
select pg_current_snapshot()::text, pg_is_in_recovery(), coalesce((select epoch from freshet.incarnation), 0),
  case when pg_is_in_recovery() then '0/0' else pg_current_wal_flush_lsn() end, `

// apply gives one released entry to the sink. What the sink has already (the
// stream repeats everything above the confirmed position) is told apart by its
// position.
func (s *session) apply(w *waiting) {
	f := s.f
	rev := f.revision(w.end)
	commit := freshet.Commit{Revision: rev, Topics: w.topics, Floors: w.floors}
	news := w.end > f.position()
	if news {
		// At a position that is news to whoever holds what was read before.
		unsure := f.quarantine.tell()
		commit.Changes = f.inEpoch(rev, w.changes, unsure)
		commit.Floors = union(commit.Floors, unsure)
	}
	if w.commits > 0 && f.serving {
		own := commit
		if w.commits > 1 || len(own.Floors) > 0 {
			own.Topics = nil // not known one by one, or not the writer's own
		}
		f.passes(w.xid, own)
	}
	if !news {
		return
	}
	f.stats.commits.Add(uint64(w.commits)) //nolint:gosec // not negative
	if w.commits == 0 && len(commit.Floors) == 0 {
		f.applied.Store(uint64(w.end))
		if f.serving {
			f.cfg.Sink.Advance(rev)
		}
		return
	}
	if f.cfg.BeforeTold != nil && w.commits == 1 {
		f.cfg.BeforeTold(w.xid, commit)
	}
	f.cfg.Sink.Publish(commit)
	f.applied.Store(uint64(w.end))
}

// catchUp decides when a session that started over may serve.
//
// A new slot's consistent point can lie above a commit that is written but
// not yet visible: it is never delivered. So nothing is served until a
// snapshot's xmin has reached an id that was given after the slot was made; the
// horizon is a position read after that. Then, as after every restart,
// the sink serves once it has applied all that the primary had written when
// the stream began.
func (s *session) catchUp(ctx context.Context) error {
	f := s.f
	if f.serving {
		return nil
	}
	if s.visibleAt > 0 {
		if s.snap == nil || s.snap.xmin < s.visibleAt {
			return nil
		}
		here, err := s.insertPosition(ctx)
		if err != nil {
			return err
		}
		if err := s.recordProven(ctx, s.gateConn, f.position()); err != nil {
			return err
		}
		s.visibleAt, s.target = 0, here
		s.settled.Store(true)
		f.cfg.Sink.Begin(f.revision(here.lsn))
	}
	if s.target.lsn == 0 {
		here, err := s.insertPosition(ctx)
		if err != nil {
			return err
		}
		s.target = here
	}
	if f.position() < s.target.lsn {
		f.Nudge()
		return nil
	}
	f.serving, f.served = true, true
	f.cfg.Sink.Current(s.target.at) // nobody is served by a node that doesn't know its lag
	f.cfg.Sink.Serve(f.revision(f.position()))
	f.setNotReady(nil)
	s.log.LogAttrs(ctx, slog.LevelInfo, "capture is live", slog.String("revision", f.revision(f.position()).String()))
	return nil
}

func (s *session) insertPosition(ctx context.Context) (sample, error) {
	here := sample{at: time.Now()}
	if err := s.gateConn.QueryRow(ctx, `select pg_current_wal_insert_lsn()`).Scan(&here.lsn); err != nil {
		return sample{}, fmt.Errorf("read the insert position: %w", err)
	}
	return here, nil
}

// held keeps the metric of a commit that stays invisible, and warns once.
func (s *session) held(ctx context.Context, missed bool) {
	stats := &s.f.stats
	if !missed {
		stats.heldSince.Clear()
		s.warned = false
		return
	}
	stats.gateMisses.Add(1)
	stats.heldSince.Begin()
	if held := stats.heldSince.Ago(); held > time.Second && !s.warned {
		s.warned = true
		s.mu.Lock()
		xid := s.gate.queue[0].xid
		s.mu.Unlock()
		s.log.LogAttrs(ctx, slog.LevelWarn, "a commit is flushed but stays invisible; nothing after it is told until it shows (is a synchronous standby missing?)",
			slog.Uint64("xid", uint64(xid)), slog.Duration("held", held))
	}
}

// pace answers the walsender: once a second, and when asked. The answer
// confirms what was applied (the replay window is for the slot that stays, see
// keep), and asks for a keepalive, which moves the frontier of an idle database.
func (s *session) pace(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		confirmed := s.f.position() // not zero, which would stand for the write position
		err := pglogrepl.SendStandbyStatusUpdate(ctx, s.repl, pglogrepl.StandbyStatusUpdate{
			WALWritePosition: pglogrepl.LSN(s.f.received.Load()),
			WALFlushPosition: confirmed,
			WALApplyPosition: confirmed,
			ReplyRequested:   true,
		})
		if err != nil {
			return fmt.Errorf("answer the walsender: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-s.replyWanted:
		}
	}
}
