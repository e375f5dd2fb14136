package wal

import (
	"time"

	"github.com/jackc/pglogrepl"
)

// replayWindow decides to which position the window's slot is moved.
//
// It is kept behind what was applied by maxAge or by maxBytes of WAL,
// whichever is less, also while no node lives: after a restart the WAL itself
// rebuilds the topic table for that stretch, so that a client which reconnects
// within it is told exactly what changed.
//
// Each node has one, whoever keeps the slot: a node that takes that over knows at
// once what is old enough.
//
// Invariant: the edge never exceeds what was applied, and is never below where the
// slot is. It is behind by less than maxAge and maxBytes, plus what comes between two
// marks. Not safe for concurrent use.
type replayWindow struct {
	maxAge   time.Duration
	maxBytes uint64
	slot     pglogrepl.LSN // where the slot was last seen
	marks    []mark        // above slot, ascending in both; one per second at most
}

type mark struct {
	at  time.Time
	lsn pglogrepl.LSN
}

// note remembers that applied was reached at now.
func (w *replayWindow) note(now time.Time, applied pglogrepl.LSN) {
	n := len(w.marks)
	if applied <= w.slot || n > 0 && (w.marks[n-1].lsn >= applied || now.Sub(w.marks[n-1].at) < time.Second) {
		return
	}
	if n >= maxMarks { // nobody moves the slot
		w.marks = thin(w.marks)
	}
	w.marks = append(w.marks, mark{at: now, lsn: applied})
}

// maxMarks are some more than a window has of the default age.
const maxMarks = 512

// thin leaves out every other of the older half, but not the first.
func thin(marks []mark) []mark {
	kept := marks[:0]
	for i, m := range marks {
		if i%2 == 0 || i > len(marks)/2 {
			kept = append(kept, m)
		}
	}
	return kept
}

// edge is where the window should begin: at a mark, since these are ends of entries.
// A slot that began within the record of a commit would leave that commit out.
func (w *replayWindow) edge(now time.Time, applied pglogrepl.LSN) pglogrepl.LSN {
	edge := w.slot
	for _, m := range w.marks {
		if now.Sub(m.at) < w.maxAge && uint64(applied-m.lsn) < w.maxBytes {
			break
		}
		edge = m.lsn
	}
	return edge
}

// moved notes where the slot is. It can have gone back: a crash takes it to where
// the last checkpoint saw it.
func (w *replayWindow) moved(slot pglogrepl.LSN) {
	w.slot = slot
	n := 0
	for n < len(w.marks) && w.marks[n].lsn <= slot {
		n++
	}
	w.marks = w.marks[n:]
}

// oldest is when the oldest of what a restart would replay was applied, as
// exactly as there are marks; zero when there is nothing.
func (w *replayWindow) oldest() time.Time {
	if len(w.marks) == 0 {
		return time.Time{}
	}
	return w.marks[0].at
}
