package check

import (
	"slices"
	"time"

	"github.com/freshet-dev/freshet"
)

// judgeG2: whenever a stream shows an id, every commit up to it on its topics
// has been told.
func judgeG2(x *index, v *Verdict) {
	for _, name := range x.clients {
		(&listening{x: x, v: v}).run(x.frames[name])
	}
}

// listening is what a client may count on while its frames come.
type listening struct {
	x *index
	v *Verdict

	topics []string
	base   freshet.Revision // nothing is owed up to here
	based  bool             // base is known
	told   map[string]Frame // topic → its highest invalidation
	judged map[string]int   // topic → how many of its writes have been judged
}

func (l *listening) run(frames []Frame) {
	l.told, l.judged = map[string]Frame{}, map[string]int{}
	var subscribe Frame
	for _, f := range frames {
		switch f.Kind {
		case Subscribe:
			l.topics, subscribe = f.Topics, f
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
			l.judge(subscribe, f)
		}
	}
}

// judge takes a frame with an id: nothing at or below it is still to come.
func (l *listening) judge(subscribe, f Frame) {
	for _, topic := range l.topics {
		writes := l.x.writesOn[topic]
		i := l.judged[topic]
		for ; i < len(writes) && writes[i].notAbove(f.Revision); i++ {
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
		l.judged[topic] = i
	}
}

// judgeG4: nothing that a client keeps is older than what it had, nobody who
// asks for a new epoch gets an old one, and ids on a connection ascend.
func judgeG4(x *index, v *Verdict) {
	for _, name := range x.clients {
		judgeIDs(x.frames[name], v)
		judgeKept(x, x.reads[name], x.frames[name], v)
	}
}

func judgeIDs(frames []Frame, v *Verdict) {
	var before Frame
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
}

func judgeKept(x *index, reads []*Read, frames []Frame, v *Verdict) {
	shown := map[string]*Read{}
	for _, r := range reads {
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
		shown[r.Conversation] = r
		if before == nil || r.Stamp.IsZero() || before.Stamp.IsZero() || resetBetween(frames, before.End, r.End) {
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
func resetBetween(frames []Frame, after, upto time.Duration) bool {
	return slices.ContainsFunc(frames, func(f Frame) bool { return f.Kind == Reset && after < f.At && f.At <= upto })
}
