package reuse

import "github.com/freshet-dev/freshet"

// want is what a read asks of an answer that it shares. The zero value is a
// strong read's: no answer from before it arrived will do.
type want struct {
	asked    freshet.Revision // at least
	frontier freshet.Revision // of the node, when asked
	floor    freshet.Revision // the last change of its topics, read after frontier; zero: not known
}

// over is the want of an answer that depends on these topics: their last change is
// looked up now, which is after the frontier.
func (w want) over(node Node, topics []string) want {
	w.floor = freshet.Revision{}
	if w.strong() {
		return w
	}
	if floor := node.Floor(topics); floor.Epoch == w.frontier.Epoch {
		w.floor = floor // or a new history began between the two
	}
	return w
}

// of is the want of an answer that there is. One that says itself what it depends on
// is judged by that, whatever was known before.
func (w want) of(node Node, a snapshot) want {
	if a.topics == nil {
		return w
	}
	if node.Quarantined(a.topics) {
		w.floor = freshet.Revision{}
		return w
	}
	return w.over(node, a.topics)
}

// strong reports whether only a snapshot that is still to be taken will do.
func (w want) strong() bool { return w.asked.IsZero() }

// metBy reports whether an answer whose snapshot was taken at or after the
// frontier start will do: because it began where the caller asked for, or by
// the floor rule, because nothing that it depends on has changed since.
func (w want) metBy(start freshet.Revision) bool {
	return !w.strong() && (reaches(start, w.asked) || w.unchangedSince(start))
}

// need is the least start that meets the want.
func (w want) need() freshet.Revision {
	if !w.floor.IsZero() && reaches(w.asked, w.floor) {
		return w.floor
	}
	return w.asked
}

// stamp is the revision up to which the answer holds everything.
func (w want) stamp(start freshet.Revision) freshet.Revision {
	if w.unchangedSince(start) {
		return start.Max(w.frontier)
	}
	return start
}

// unchangedSince is the floor rule: nothing that the answer depends on has
// changed in (start, frontier].
func (w want) unchangedSince(start freshet.Revision) bool {
	return !w.floor.IsZero() && reaches(start, w.floor)
}

// reaches compares positions of one epoch.
func reaches(start, rev freshet.Revision) bool {
	return start.Epoch == rev.Epoch && rev.Position <= start.Position
}
