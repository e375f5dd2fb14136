package wal

import (
	"time"

	"github.com/jackc/pglogrepl"
)

// replayWindow decides which position the slot is told to have confirmed.
//
// It is kept behind what was applied by maxAge or by maxBytes of WAL,
// whichever is less, at shutdown too: after a restart the WAL itself rebuilds
// the topic table for that stretch, so that a client which reconnects within
// it is told exactly what changed.
//
// Invariant: the confirmed position never exceeds what was applied, and never
// goes back. It is behind by less than maxAge and maxBytes, plus what comes
// between two marks. Not safe for concurrent use.
type replayWindow struct {
	maxAge    time.Duration
	maxBytes  uint64
	confirmed pglogrepl.LSN
	marks     []mark // ascending in both; one per second, or where bytes ran out
}

type mark struct {
	at  time.Time
	lsn pglogrepl.LSN
}

// confirm notes that applied was reached at now, and returns the position to
// confirm. It is never zero once anything was confirmed: pglogrepl would turn
// a zero into the write position, and so confirm everything.
func (w *replayWindow) confirm(now time.Time, applied pglogrepl.LSN) pglogrepl.LSN {
	if n := len(w.marks); n == 0 || w.marks[n-1].lsn < applied && now.Sub(w.marks[n-1].at) >= time.Second {
		w.marks = append(w.marks, mark{at: now, lsn: applied})
	}
	n := 0
	for n < len(w.marks) {
		m := w.marks[n]
		if now.Sub(m.at) < w.maxAge && uint64(applied-m.lsn) < w.maxBytes {
			break
		}
		w.confirmed = max(w.confirmed, m.lsn)
		n++
	}
	w.marks = w.marks[n:]
	if len(w.marks) == 0 && w.confirmed < applied {
		// More than maxBytes since the last mark: what is left has none.
		w.marks = append(w.marks, mark{at: now, lsn: applied})
	}
	return w.confirmed
}

// oldest is when the oldest of what a restart would replay was applied, as
// exactly as there are marks; zero when all is confirmed.
func (w *replayWindow) oldest() time.Time {
	for _, m := range w.marks {
		if m.lsn > w.confirmed {
			return m.at
		}
	}
	return time.Time{}
}
