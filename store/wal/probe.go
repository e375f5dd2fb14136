package wal

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/freshet-dev/freshet"
)

// nudgeGap is the least time between two nudges: each is a commit that waits
// for its flush.
const nudgeGap = 5 * time.Millisecond

// unflushedAgain is how soon the probe looks a second time at WAL that is written
// but not flushed. The walsender sends only what is flushed, so a commit in there
// is told to nobody yet. Mostly it is an ordinary commit in the middle of its own
// flush, which is over in a moment: nothing is to be done. But after a commit with
// synchronous_commit = off nobody flushes for up to 400 ms, unless others do. The
// two look the same, so the probe looks again after this short while, and nudges if
// nothing at all was flushed in between. (Where the flush position has moved since
// the look before, others flush anyway, and take it along: then the ordinary
// interval will do.)
const unflushedAgain = 2 * time.Millisecond

// sample is a position of the primary and when it was read.
type sample struct {
	at  time.Time
	lsn pglogrepl.LSN
}

// probe reads the primary's position: for everybody who asks for it, to know
// how far behind the feed is, to nudge when a wait needs it, and to notice
// within one interval that Postgres is going down.
func (s *session) probe(ctx context.Context) error {
	f := s.f
	var (
		nudged          time.Time
		unflushed       pglogrepl.LSN // flush position at which WAL was found unflushed
		flushed         pglogrepl.LSN // flush position of the last look; 0: a nudge has moved it since
		apply, received sample        // positions that the frontier and the decoder are to reach
		timer           = time.NewTimer(f.cfg.ProbeInterval)
	)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-f.wake:
		}
		f.mu.Lock()
		asked := f.probes
		f.probes = nil
		nudge := f.nudge
		f.mu.Unlock()

		at := time.Now()
		insert, flush, err := s.readPositions(ctx)
		if err != nil {
			return err
		}
		s.answered.Set(time.Now())
		for _, answer := range asked {
			answer <- f.revision(insert) // capacity 1
		}

		again := f.cfg.ProbeInterval
		switch {
		case insert <= flush:
			unflushed = 0
		case unflushed == flush:
			nudge = true
		default:
			unflushed = flush
			if flushed == 0 || flushed == flush {
				again = unflushedAgain
			}
		}
		flushed = flush
		if nudge {
			if wait := nudgeGap - time.Since(nudged); wait > 0 {
				again = wait
			} else {
				f.mu.Lock()
				f.nudge = false
				f.mu.Unlock()
				nudged, unflushed, flushed = time.Now(), 0, 0
				f.stats.nudges.Add(1)
				_, err := s.probeConn.Exec(ctx, `select pg_logical_emit_message(true, $1, '')`, messageNudge)
				if err != nil && !refused(err) { // a database that takes no writes needs none
					return fmt.Errorf("nudge: %w", err)
				}
			}
		}

		if f.position() >= apply.lsn {
			if !apply.at.IsZero() {
				f.cfg.Sink.Current(apply.at)
			}
			apply = sample{at: at, lsn: flush}
		}
		if pglogrepl.LSN(f.received.Load()) >= received.lsn {
			if !received.at.IsZero() {
				f.mu.Lock()
				f.decoded = received.at
				f.mu.Unlock()
			}
			received = sample{at: at, lsn: flush}
		}
		timer.Reset(again)
	}
}

// readPositions reads what the primary has written and flushed, and proves the
// epoch first in the same statement.
func (s *session) readPositions(ctx context.Context) (insert, flush pglogrepl.LSN, err error) {
	var epoch freshet.Epoch
	err = s.probeConn.QueryRow(ctx, `
select coalesce((select epoch from freshet.incarnation), 0),
  case when not pg_is_in_recovery() then pg_current_wal_insert_lsn() end,
  case when not pg_is_in_recovery() then pg_current_wal_flush_lsn() end`).Scan(&epoch, &insert, &flush)
	switch {
	case err != nil:
		return 0, 0, fmt.Errorf("probe: %w", err)
	case epoch != s.f.epoch:
		return 0, 0, fmt.Errorf("probe: %w", errOtherHistory)
	}
	return insert, flush, nil
}
