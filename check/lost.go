package check

import (
	"slices"
	"time"

	"github.com/freshet-dev/freshet"
)

// Holding is what Postgres held when writers rested, which tells which commits a
// failover has lost.
type Holding struct {
	At    time.Duration
	Epoch freshet.Epoch // of the history that it held them in
	Cells []Cell        // of all places
}

// lose finds out which commits are lost: acknowledged in an earlier epoch than that of
// what Postgres holds now, and not in it. That is between Postgres and whoever chose how
// it replicates, and breaks no rule. From Write.Lost on nobody is owed them, and nobody
// may be shown them.
//
// Postgres loses the end of a log, never something from its midst. So what is below a
// commit of the same epoch that is still there isn't lost, and rules hold on to it.
func (x *index) lose(held *Holding) {
	if held == nil {
		return
	}
	shown := map[int]int{}
	for _, c := range held.Cells {
		shown[c.Row] = c.Version
	}
	survived := map[freshet.Epoch]freshet.Revision{}
	var missing []*Write
	var touched []*row
	for _, r := range x.rows {
		at, known := r.stoppedAt(shown[r.number])
		if !known {
			continue // that it was never written is G6's
		}
		if shown[r.number] > 0 {
			w := r.versions[at].by
			survived[w.epoch()] = survived[w.epoch()].Max(w.lower())
			if w.Lost != 0 {
				// The history that had lost it is over, and the one before goes on.
				w.Lost, w.Outcome = 0, Unknown
				touched = append(touched, r)
			}
		}
		for _, v := range r.versions[at+1:] {
			if w := v.by; w.Outcome == Committed && w.epoch() != 0 && w.epoch() < held.Epoch && w.Lost == 0 {
				missing = append(missing, w)
				touched = append(touched, r)
			}
		}
	}
	from := map[freshet.Epoch]freshet.Revision{} // the lowest that is lost
	for _, w := range missing {
		if w.Lost != 0 || w.notAbove(survived[w.epoch()]) {
			continue
		}
		x.isLost(w, held.Epoch)
		if w.isNowhere() {
			continue
		}
		if low, some := from[w.epoch()]; !some || w.upper().Less(low) {
			from[w.epoch()] = w.upper()
		}
	}
	touched = append(touched, x.behind(from, survived, held.Epoch)...)
	for _, r := range touched {
		r.place()
		for _, topic := range topicsOf(r.changes(), x.kinds) {
			x.enter(r, topic) // which it seemed to have left
		}
	}
}

func (x *index) isLost(w *Write, since freshet.Epoch) {
	w.Lost = since
	x.lost++
}

// behind finds what is lost too and doesn't show, since its row was written again before
// Postgres was asked: all behind the first that is lost. Of what lies between that and
// the last that is there nobody can say.
func (x *index) behind(from, survived map[freshet.Epoch]freshet.Revision, since freshet.Epoch) (touched []*row) {
	if len(from) == 0 {
		return nil
	}
	for _, r := range x.rows {
		for _, v := range r.versions {
			w := v.by
			low, some := from[w.epoch()]
			if !some || w.Outcome != Committed || w.Lost != 0 {
				continue
			}
			if w.above(low) {
				x.isLost(w, since)
			} else if !w.notAbove(survived[w.epoch()]) {
				w.Outcome = Unknown
				touched = append(touched, r)
			}
		}
	}
	return touched
}

// stoppedAt is the last version that explains what is held of a row: its version, or
// zero for none; negative: it explains that before its first there was nothing.
func (r *row) stoppedAt(version int) (at int, known bool) {
	for i, v := range slices.Backward(r.versions) {
		if v.Version == version || version == 0 && v.To == "" && v.by.Outcome != RolledBack {
			return i, true
		}
	}
	return -1, version == 0
}

// epoch is that of the history in which it was committed, as it was told; zero: not
// known.
func (w *Write) epoch() freshet.Epoch { return max(w.At.Epoch, w.Upto.Epoch) }

// never says that an answer can't be shown a write: it was rolled back, or lost before
// the answer's history began.
func (w *Write) never(r *Read) bool {
	return w.Outcome == RolledBack || w.Lost != 0 && r.Stamp.Epoch >= w.Lost
}

// cells are all of them, ascending.
func (h *Held) cells() []Cell {
	var all []Cell
	for _, cells := range h.Places {
		all = append(all, cells...)
	}
	slices.SortFunc(all, compareCells)
	return all
}

// forfeit gives up the rows that Postgres holds otherwise than the writer left them.
func (w *writer) forfeit(held *Held) {
	is := map[int]Change{}
	for place, cells := range held.Places {
		for _, c := range cells {
			is[c.Row] = Change{Cell: c, To: place}
		}
	}
	for i := range w.slots {
		s := &w.slots[i]
		there := is[s.row]
		if s.in == there.To && (s.in == "" || s.shown == there.Version) {
			continue
		}
		w.lost = append(w.lost, Change{Cell: Cell{s.row, s.version}, From: s.in, To: there.To})
		w.retire(s)
	}
}
