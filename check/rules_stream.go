package check

import (
	"slices"
	"sort"

	"github.com/freshet-dev/freshet"
)

// judgeG2: whenever a stream shows an id, every commit up to it on its topics
// has been told, or a reset; and an answer whose topic takes a claim of the caller says
// which one: who follows another is told nothing.
func judgeG2(x *index, v *Verdict) {
	for _, r := range x.allReads() {
		if kindOf(r.Topic) != OfCaller {
			continue
		}
		v.Observations++
		if !slices.Contains(r.Names, r.Topic) {
			alone := *r
			alone.Content = Content{}
			v.accusef(&History{Reads: []Read{alone}}, "an answer of %s to %s says that it depends on %v: who follows that isn't told of what changes it", r.Topic, r.Client, r.Names)
		}
	}
	for _, name := range x.clients {
		l := x.listeners[name]
		if l == nil {
			l = &listening{}
			x.listeners[name] = l
		}
		l.x, l.v = x, v
		l.run(x.frames[name])
	}
}

// listening is what a client may count on while its frames come.
type listening struct {
	x *index
	v *Verdict

	subscribe Frame // the last one
	owed      map[string]*debt
}

// debt is what is owed of a topic.
type debt struct {
	base   freshet.Revision // nothing is owed up to here; zero: not known yet
	told   Frame            // the highest invalidation
	judged freshet.Revision // the id up to which its writes have been judged
}

func (l *listening) run(frames []Frame) {
	for _, f := range frames {
		switch f.Kind {
		case Subscribe:
			// What the client says it has been told: a promise of its own.
			l.subscribe, l.owed = f, map[string]*debt{}
			for _, topic := range f.Topics {
				l.owed[topic] = &debt{base: f.since(topic), judged: f.since(topic)}
			}
			continue
		case Connected, Disconnected:
			continue
		case Reset:
			l.begin(f.Revision)
		case Ready:
			for _, d := range l.owed {
				if d.base.IsZero() {
					d.base, d.judged = f.Revision, f.Revision
				}
			}
		case Invalidate, Part:
			for _, topic := range f.Topics {
				if d := l.owed[topic]; d != nil && d.told.Revision.Less(f.Revision) {
					d.told = f
				}
			}
		case Heartbeat:
		}
		if f.Kind != Part && !l.otherEpoch(f) {
			l.judge(f)
		}
	}
}

// begin is where a new history begins.
func (l *listening) begin(rev freshet.Revision) {
	for _, d := range l.owed {
		*d = debt{base: rev, judged: rev}
	}
}

// otherEpoch: no id of another epoch comes before a reset.
func (l *listening) otherEpoch(f Frame) bool {
	if f.Kind == Reset {
		l.v.Observations++
		return false
	}
	for _, topic := range l.subscribe.Topics {
		base := l.owed[topic].base
		if base.IsZero() || base.Epoch == f.Revision.Epoch {
			continue
		}
		l.v.Observations++
		subscribe := l.subscribe
		subscribe.Topics, subscribe.Since, subscribe.SinceBy = []string{topic}, base, nil
		l.v.accusef(&History{Frames: []Frame{subscribe, f}}, "%s had been told %v and was shown the id %v of another epoch, without a reset between",
			f.Client, base, f.Revision)
		l.begin(f.Revision)
		return true
	}
	return false
}

// judge takes a frame with an id: nothing at or below it is still to come.
func (l *listening) judge(f Frame) {
	for _, topic := range l.subscribe.Topics {
		d := l.owed[topic]
		if d.base.IsZero() || !d.judged.Less(f.Revision) {
			continue
		}
		done := d.judged
		d.judged = f.Revision
		writes := l.x.writesOn[topic]
		from := sort.Search(len(writes), func(i int) bool { return done.Less(writes[i].upper()) })
		for i := from; i < len(writes) && writes[i].notAbove(f.Revision); i++ {
			w := writes[i]
			if !w.above(d.base) {
				continue
			}
			l.v.Observations++
			if !w.above(d.told.Revision) {
				continue
			}
			l.v.accusef(l.excerpt(topic, w, f), "%s was shown the id %v, and had not been told of %s of %s in %s",
				f.Client, f.Revision, cellsOf(w.Changes), w.Writer, topic)
		}
	}
}

// excerpt is what shows that a write wasn't told.
func (l *listening) excerpt(topic string, w *Write, f Frame) *History {
	d, subscribe := l.owed[topic], l.subscribe
	subscribe.Topics, subscribe.Since, subscribe.SinceBy = []string{topic}, subscribe.since(topic), nil
	h := &History{Writes: []Write{*w}, Frames: []Frame{subscribe}}
	if subscribe.Since != d.base {
		// Where the excerpt begins to owe.
		h.Frames[0].Since = freshet.Revision{}
		h.Frames = append(h.Frames, Frame{Client: f.Client, At: subscribe.At, Kind: Ready, Revision: d.base})
	}
	if before := d.told; !before.Revision.IsZero() && subscribe.At < before.At {
		h.Frames = append(h.Frames, before)
	}
	h.Frames = append(h.Frames, f)
	return h
}

// judgeG4: nothing that a client keeps is older than what it had, nobody who
// asks for a new epoch gets an old one, and ids on a connection ascend.
func judgeG4(x *index, v *Verdict) {
	for _, name := range x.clients {
		x.before[name] = judgeIDs(x.before[name], x.frames[name], v)
		judgeKept(x, name, v)
	}
}

// judgeIDs goes on after a frame, and returns the last.
func judgeIDs(before Frame, frames []Frame, v *Verdict) Frame {
	for _, f := range frames {
		switch f.Kind {
		case Subscribe, Connected, Disconnected:
			before = Frame{}
			continue
		case Part: // without an id
			continue
		case Invalidate, Ready, Reset, Heartbeat:
		}
		if !before.Revision.IsZero() {
			v.Observations++
			if f.Revision.Less(before.Revision) {
				v.accusef(&History{Frames: []Frame{before, f}}, "on one connection %s was shown the id %v after %v", f.Client, f.Revision, before.Revision)
			}
		}
		before = f
	}
	return before
}

func judgeKept(x *index, name string, v *Verdict) {
	shown := x.shown[name]
	if shown == nil {
		shown = map[string]*Read{}
		x.shown[name] = shown
	}
	for _, r := range x.reads[name] {
		if r.Failed {
			continue
		}
		if !r.Stamp.IsZero() && r.Stamp.Epoch < r.AtLeast.Epoch {
			v.Observations++
			v.accusef(&History{Reads: []Read{*r}}, "%s asked at-least %v and was answered from an epoch before", r.Client, r.AtLeast)
			continue
		}
		if !r.Kept {
			continue
		}
		before := shown[r.Topic]
		keep := *r // not the window with it
		shown[r.Topic] = &keep
		if before == nil || r.Stamp.IsZero() || before.Stamp.IsZero() || leftBetween(x.resets[name], before, r) {
			continue
		}
		v.Observations++
		if r.First && r.Stamp.Epoch == before.Stamp.Epoch {
			continue // what it had shown is gone: it has not replaced it
		}
		if r.Stamp.Less(before.Stamp) && (!r.AtLeast.IsZero() || r.Start < before.End) {
			v.accusef(&History{Reads: []Read{*before, *r}}, "%s replaced its %s of %v by one of %v", r.Client, r.Topic, before.Stamp, r.Stamp)
			continue
		}
		l := x.missing(r, func(w *Write) bool { return w.notAbove(before.Stamp) })
		if l != nil && l.count == nil && x.shows(before, l.write) {
			h := x.excerpt(r, l)
			h.Reads = []Read{*before, h.Reads[0]}
			h.about(l.row)
			v.accusef(h, "%s showed %s and then an answer without it", r.Client, l.what)
		}
	}
}

// about leaves out what isn't about one row. What the same writes did to others may
// have been undone by writes that the excerpt doesn't have.
func (h *History) about(row int) {
	for i := range h.Writes {
		w := &h.Writes[i]
		w.Changes = slices.DeleteFunc(slices.Clone(w.Changes), func(c Change) bool { return c.Row != row })
	}
	h.Writes = slices.DeleteFunc(h.Writes, func(w Write) bool { return len(w.Changes) == 0 })
	for i := range h.Reads {
		r := &h.Reads[i]
		r.Cells = slices.DeleteFunc(slices.Clone(r.Cells), func(c Cell) bool { return c.Row != row })
	}
}

// leftBetween reports whether the history of an answer was left, by a reset, before
// another one came: then the two can't be compared. A reset to the history that the
// first one is of already, as a stream tells it that comes there later, changes nothing
// about that.
func leftBetween(resets []Frame, first, second *Read) bool {
	return slices.ContainsFunc(resets, func(f Frame) bool {
		return first.End < f.At && f.At <= second.End && f.Revision.Epoch != first.Stamp.Epoch
	})
}
