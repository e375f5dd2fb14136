package check

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// lack is what an answer should show and doesn't.
type lack struct {
	write  *Write   // whose effect it lacks
	row    int      // on which row; zero if it is about a number
	writes []*Write // with the others that show it
	count  *Count   // the number that is wrong; nil: it isn't about a number
	what   string   // in words
}

// missing returns what an answer lacks, which it should show because due says so;
// nil: nothing. If due holds for a version of a row, it holds for earlier ones
// too.
func (x *index) missing(r *Read, due func(*Write) bool) *lack {
	if r.Topic == Counted {
		return x.miscounted(r, due)
	}
	for _, cell := range r.Cells {
		if l := x.lacksOf(x.rows[cell.Row], r, due); l != nil {
			return l
		}
	}
	for _, row := range x.rowsOf[r.Topic] {
		if _, shown := find(r.Cells, row.number); shown {
			continue
		}
		if l := x.lacksOf(row, r, due); l != nil {
			return l
		}
	}
	return nil
}

func (x *index) lacksOf(row *row, r *Read, due func(*Write) bool) *lack {
	if row == nil {
		return nil // that it was never written is G6's
	}
	at := x.lastDue(row, r, due)
	if at < 0 || !row.lacks(r, at) {
		return nil
	}
	w := row.versions[at].by
	l := &lack{write: w, row: row.number, writes: []*Write{w}, what: w.name(r)}
	for _, c := range w.Changes {
		if shown, ok := find(r.Cells, c.Row); ok {
			versions := x.rows[c.Row].versions
			if i := slices.IndexFunc(versions, func(v version) bool { return v.Version == shown.Version }); i >= 0 {
				l.writes = append(l.writes, versions[i].by)
			}
		}
	}
	return l
}

// lastDue is the last version that is due, and that can't have been lost before the
// read; negative: none.
func (x *index) lastDue(row *row, r *Read, due func(*Write) bool) int {
	after := sort.Search(len(row.placed), func(i int) bool { return !due(row.versions[row.placed[i]].by) })
	for _, at := range slices.Backward(row.placed[:after]) {
		if x.outlives(row.versions[at].by, r) {
			return at
		}
	}
	return -1
}

// outlives says that a committed write can't have been lost before a read: what is lost
// is with its epoch. Of what the server commits, maybe asynchronously, a crash takes some
// back that isn't seen to be lost, since others write the same row again before Postgres
// is asked: none of it is held against another epoch. An answer without a stamp names no
// epoch: then there must have been none but the write's.
func (x *index) outlives(w *Write, r *Read) bool {
	if w.epoch() == r.Stamp.Epoch || r.Stamp.IsZero() && !r.Direct && w.epoch() == x.epoch {
		return true
	}
	return w.Lost == 0 && w.Stamp.IsZero()
}

// lacks says that an answer shows neither a version of the row nor a later one.
func (r *row) lacks(read *Read, at int) bool {
	if shown, ok := find(read.Cells, r.number); ok {
		return shown.Version < r.versions[at].Version
	}
	if read.Partial {
		return false
	}
	// Not shown: right if some version since then is elsewhere, and was sent
	// before the answer came.
	return !slices.ContainsFunc(r.versions[at:], func(v version) bool {
		return !v.within(read.Topic) && !v.by.never(read) && v.by.Sent < read.End
	})
}

// shows says that an answer shows a write, or what came after it.
func (x *index) shows(r *Read, w *Write) bool {
	for _, c := range w.Changes {
		row := x.rows[c.Row]
		at := slices.IndexFunc(row.versions, func(v version) bool { return v.by == w })
		if c.concerns(r.Topic) && row.lacks(r, at) {
			return false
		}
	}
	return true
}

func find(cells []Cell, row int) (Cell, bool) {
	i, ok := slices.BinarySearchFunc(cells, row, func(c Cell, row int) int { return cmp.Compare(c.Row, row) })
	if !ok {
		return Cell{}, false
	}
	return cells[i], true
}

// impossible returns a cell that the answer can't have: one that was rolled
// back, or that was never written there.
func (x *index) impossible(r *Read) (Cell, *Write, bool) {
	for i, cell := range r.Cells {
		row := x.rows[cell.Row]
		if row == nil || i > 0 && r.Cells[i-1].Row == cell.Row {
			return cell, nil, true
		}
		i, ok := slices.BinarySearchFunc(row.versions, cell.Version, func(v version, n int) int { return cmp.Compare(v.Version, n) })
		if !ok {
			return cell, nil, true
		}
		v := row.versions[i]
		if !v.within(r.Topic) || v.by.never(r) {
			return cell, v.by, true
		}
	}
	return Cell{}, nil, false
}

// miscounted is missing for numbers of rows. A number says less than the
// rows do: it is wrong if it is below the number of rows that are there whatever
// happened meanwhile, or above that of those that may be there.
func (x *index) miscounted(r *Read, due func(*Write) bool) *lack {
	names := x.places
	for _, shown := range r.Counts {
		if _, known := slices.BinarySearch(names, shown.Place); !known {
			names = append(slices.Clone(names), shown.Place) // nobody wrote there
		}
	}
	for _, place := range names {
		shown := Count{Place: place}
		i := slices.IndexFunc(r.Counts, func(c Count) bool { return c.Place == place })
		if i >= 0 {
			shown = r.Counts[i]
		} else if r.Partial {
			continue
		}
		if l := x.miscount(r, shown, due); l != nil {
			return l
		}
	}
	return nil
}

func (x *index) miscount(r *Read, shown Count, due func(*Write) bool) *lack {
	var sure, left []*Write // who put rows there that must be there; who took rows away
	possible := 0
	for _, row := range x.rowsOf[shown.Place] {
		at := x.lastDue(row, r, due)
		there, elsewhere := row.places(r, at, shown.Place)
		if there {
			possible++
		}
		switch {
		case there && !elsewhere:
			sure = append(sure, row.versions[at].by)
		case !there && at >= 0:
			left = append(left, row.versions[at].by)
		}
	}
	switch {
	case shown.N < len(sure):
		sure = sure[:shown.N+1]
		slices.SortFunc(sure, func(a, b *Write) int { return cmp.Compare(b.Done, a.Done) })
		return &lack{write: sure[0], writes: sure, count: &shown,
			what: fmt.Sprintf("all of the at least %d rows in %s", len(sure), shown.Place)}
	case shown.N > possible:
		l := &lack{count: &shown, what: fmt.Sprintf("that there are at most %d rows in %s", possible, shown.Place)}
		if len(left) > 0 {
			l.write = slices.MaxFunc(left, func(a, b *Write) int { return cmp.Compare(a.Done, b.Done) })
			alone := *l.write
			alone.Changes = slices.DeleteFunc(slices.Clone(alone.Changes), func(c Change) bool { return c.To == shown.Place })
			l.writes = []*Write{&alone}
		}
		return l
	}
	return nil
}

// places says whether an answer that shows a version or a later one may find the
// row in a place, and whether it may find it elsewhere or nowhere.
func (r *row) places(read *Read, at int, place string) (there, elsewhere bool) {
	if at < 0 {
		elsewhere = true // it wasn't there at first
	}
	for i := max(0, at); i < len(r.versions); i++ {
		v := r.versions[i]
		if i != at && (v.by.never(read) || v.by.Sent >= read.End) {
			continue
		}
		if v.To == place {
			there = true
		} else {
			elsewhere = true
		}
	}
	return there, elsewhere
}
