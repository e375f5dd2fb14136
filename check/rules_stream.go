package check

import (
	"slices"
	"sort"
	"time"

	"github.com/freshet-dev/freshet"
)

// judgeG2: whenever a stream shows an id, every commit up to it on its topics
// has been told.
func judgeG2(x *index, v *Verdict) {
	for _, name := range x.clients {
		l := x.listeners[name]
		if l == nil {
			l = &listening{told: map[string]Frame{}, judged: map[string]freshet.Revision{}}
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

	subscribe Frame                       // the last one
	base      freshet.Revision            // nothing is owed up to here
	based     bool                        // base is known
	told      map[string]Frame            // topic → its highest invalidation
	judged    map[string]freshet.Revision // topic → the id up to which its writes have been judged
}

func (l *listening) run(frames []Frame) {
	for _, f := range frames {
		switch f.Kind {
		case Subscribe:
			l.subscribe = f
			if !f.Since.IsZero() {
				// What the client says it has been told: a promise of its own.
				l.base, l.based = l.base.Max(f.Since), true
			}
			continue
		case Connected, Disconnected:
			continue
		case Reset:
			l.base, l.based = f.Revision, true
		case Ready:
			if !l.based {
				l.base, l.based = f.Revision, true
			}
		case Invalidate:
			for _, topic := range f.Topics {
				if l.told[topic].Revision.Less(f.Revision) {
					l.told[topic] = f
				}
			}
		case Heartbeat:
		}
		if l.based {
			l.judge(f)
		}
	}
}

// judge takes a frame with an id: nothing at or below it is still to come.
func (l *listening) judge(f Frame) {
	subscribe := l.subscribe
	for _, topic := range subscribe.Topics {
		done := l.judged[topic]
		if !done.Less(f.Revision) {
			continue
		}
		l.judged[topic] = f.Revision
		writes := l.x.writesOn[topic]
		from := sort.Search(len(writes), func(i int) bool { return done.Less(writes[i].upper()) })
		for i := from; i < len(writes) && writes[i].notAbove(f.Revision); i++ {
			w := writes[i]
			if !w.above(l.base) {
				continue
			}
			l.v.Observations++
			if !w.above(l.told[topic].Revision) {
				continue
			}
			h := &History{Writes: []Write{*w}, Frames: []Frame{subscribe}}
			if subscribe.Since.IsZero() {
				// Where the excerpt begins to owe.
				h.Frames = append(h.Frames, Frame{Client: f.Client, At: subscribe.At, Kind: Ready, Revision: l.base})
			}
			if before := l.told[topic]; before.Kind == Invalidate && subscribe.At < before.At {
				h.Frames = append(h.Frames, before)
			}
			h.Frames = append(h.Frames, f)
			l.v.accusef(h, "%s was shown the id %v, and had not been told of %s of %s in %s",
				f.Client, f.Revision, cellsOf(w.Changes), w.Writer, topic)
		}
	}
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
		before := shown[r.Conversation]
		keep := *r // not the window with it
		shown[r.Conversation] = &keep
		if before == nil || r.Stamp.IsZero() || before.Stamp.IsZero() || resetBetween(x.resets[name], before.End, r.End) {
			continue
		}
		v.Observations++
		if r.Stamp.Less(before.Stamp) && (!r.AtLeast.IsZero() || r.Start < before.End) {
			v.accusef(&History{Reads: []Read{*before, *r}}, "%s replaced its %s of %v by one of %v", r.Client, r.Conversation, before.Stamp, r.Stamp)
			continue
		}
		w := x.missing(r, func(w *Write) bool { return w.notAbove(before.Stamp) })
		if w != nil && x.shows(before, w) {
			h := x.excerpt(r, w)
			first := *before
			first.Cells = slices.DeleteFunc(slices.Clone(first.Cells), func(c Cell) bool {
				return !slices.ContainsFunc(w.Changes, func(o Change) bool { return o.Row == c.Row })
			})
			h.Reads = []Read{first, h.Reads[0]}
			v.accusef(h, "%s showed %s and then an answer without it", r.Client, w.name(r))
		}
	}
}

// resetBetween: after a reset a client compares nothing with what it had.
func resetBetween(resets []time.Duration, after, upto time.Duration) bool {
	return slices.ContainsFunc(resets, func(at time.Duration) bool { return after < at && at <= upto })
}
