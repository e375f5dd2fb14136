package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/freshet-dev/freshet"
)

// Rule is one of the guarantees.
type Rule struct {
	// ID as in the documentation: G1.
	ID string
	// Name says it in words.
	Name  string
	judge func(*index, *Verdict)
}

// Rules are all that are judged, in order.
var Rules = []Rule{
	{"G1", "visible before told", judgeG1},
	{"G2", "nothing lost", judgeG2},
	{"G3", "convergence", judgeG3},
	{"G4", "never backwards", judgeG4},
	{"G5", "read your writes", judgeG5},
	{"G6", "honest stamps", judgeG6},
}

// Verdict is what a rule found in a history.
type Verdict struct {
	Rule         string
	Name         string
	Observations int // chances to break it
	Violations   int
	// Shortest is one of the violations, with as little around it as shows it;
	// nil: there is none.
	Shortest *Violation
}

// Violation is one broken promise.
type Violation struct {
	What string // in words
	// Excerpt is a part of the history, which the same rule condemns.
	Excerpt *History
}

// Judge applies every rule. The service has topics of the kinds given; none: of
// every kind.
func Judge(h *History, of ...Kind) []Verdict {
	j := newJudge(setOf(of))
	j.take(h)
	return j.verdicts
}

// judge applies every rule to a history that comes in windows, so that a long
// run needs no more memory than a short one, but for its writes.
type judge struct {
	x        *index
	verdicts []Verdict
}

func newJudge(of kinds) *judge {
	j := &judge{x: newIndex(of)}
	for _, rule := range Rules {
		j.verdicts = append(j.verdicts, Verdict{Rule: rule.ID, Name: rule.Name})
	}
	return j
}

// take judges the next window; see index.take.
func (j *judge) take(h *History) {
	j.x.take(h)
	for i, rule := range Rules {
		rule.judge(j.x, &j.verdicts[i])
	}
}

func (j *judge) figures() (observations, violations int) {
	for _, v := range j.verdicts {
		observations, violations = observations+v.Observations, violations+v.Violations
	}
	return observations, violations
}

// accusef counts a violation and keeps the one that is told shortest.
func (v *Verdict) accusef(excerpt *History, format string, args ...any) {
	v.Violations++
	if v.Shortest == nil || excerpt.size() < v.Shortest.Excerpt.size() {
		v.Shortest = &Violation{What: fmt.Sprintf(format, args...), Excerpt: excerpt}
	}
}

func (h *History) size() int { return len(h.Writes) + len(h.Frames) + len(h.Reads) + len(h.Views) }

// excerpt is the part of the history that says why a read is wrong: the read,
// what it lacks, the writes that made what it shows of those rows instead, and
// what the client had been told.
func (x *index) excerpt(read *Read, lacks *lack, frames ...Frame) *History {
	h := &History{Reads: []Read{*read}, Frames: frames}
	if lacks == nil {
		return h
	}
	for _, w := range lacks.writes {
		if !slices.ContainsFunc(h.Writes, func(o Write) bool { return o.Writer == w.Writer && o.Sent == w.Sent }) {
			h.Writes = append(h.Writes, *w)
		}
	}
	r := &h.Reads[0]
	r.Cells = slices.DeleteFunc(slices.Clone(r.Cells), func(c Cell) bool { return !lacks.write.has(c.Row) })
	r.Counts = slices.DeleteFunc(slices.Clone(r.Counts), func(c Count) bool {
		return lacks.count != nil && c.Place != lacks.count.Place
	})
	return h
}

// has says that a write changes a row.
func (w *Write) has(row int) bool {
	return w != nil && slices.ContainsFunc(w.Changes, func(c Change) bool { return c.Row == row })
}

// judgeG1: a read that starts after somebody was told R, and asks at-least R or
// is strong, shows all commits up to R.
func judgeG1(x *index, v *Verdict) {
	told := tells(x)
	reads := slices.Clone(x.allReads())
	slices.SortStableFunc(reads, func(a, b *Read) int { return cmp.Compare(a.Start, b.Start) })
	next := 0
	for _, r := range reads {
		for ; next < len(told) && told[next].At < r.Start; next++ {
			x.know(told[next])
		}
		if !r.AtLeast.IsZero() && r.AtLeast.Epoch == r.Stamp.Epoch {
			v.Observations++
			if r.Stamp.Less(r.AtLeast) {
				v.accusef(x.excerpt(r, nil), "%s asked at-least %v and was answered with a stamp below it, %v", r.Client, r.AtLeast, r.Stamp)
				continue
			}
		}
		end := len(x.known)
		if !r.AtLeast.IsZero() {
			var exact bool
			if end, exact = slices.BinarySearchFunc(x.known, r.AtLeast, byRevision); exact {
				end++
			}
		}
		for end > 0 && x.known[end-1].At >= r.Start {
			end-- // the read began in the window before
		}
		if end == 0 {
			continue
		}
		v.Observations++
		bound := x.known[end-1]
		if l := x.missing(r, func(w *Write) bool { return w.notAbove(bound.Revision) }); l != nil {
			v.accusef(x.excerpt(r, l, subscribed(bound), bound), "%s was told %v; the later read of %s by %s doesn't show %s",
				bound.Client, bound.Revision, r.Topic, r.Client, l.what)
		}
	}
	for _, f := range told[next:] {
		x.know(f)
	}
	const enough = 100 // what later reads are at-least is among the last
	x.known = slices.Clone(x.known[max(0, len(x.known)-enough):])
}

// know keeps an invalidation, the first of its revision.
func (m *memory) know(f Frame) {
	at, found := slices.BinarySearchFunc(m.known, f.Revision, byRevision)
	if !found {
		m.known = slices.Insert(m.known, at, f)
	}
}

func byRevision(f Frame, rev freshet.Revision) int { return f.Revision.Compare(rev) }

// tells are all invalidations, by time.
func tells(x *index) []Frame {
	var told []Frame
	for _, f := range x.Frames {
		if f.Kind == Invalidate {
			told = append(told, f)
		}
	}
	slices.SortStableFunc(told, func(a, b Frame) int { return cmp.Compare(a.At, b.At) })
	return told
}

// subscribed stands for what came before a frame, in an excerpt.
func subscribed(f Frame) Frame {
	return Frame{Client: f.Client, Kind: Subscribe, At: f.At, Topics: f.Topics}
}

// allReads are those that were answered.
func (x *index) allReads() []*Read {
	var all []*Read
	for i := range x.Reads {
		if !x.Reads[i].Failed {
			all = append(all, &x.Reads[i])
		}
	}
	return all
}

// judgeG3: what a client shows is what Postgres holds.
func judgeG3(x *index, v *Verdict) {
	for _, view := range x.Views {
		if view.Shown.Partial || view.Truth.Partial {
			continue
		}
		v.Observations++
		if !view.Shown.equal(view.Truth) {
			h := &History{Views: []View{view.differences()}}
			if f, ok := last(x.frames[view.Client], view.At, view.Topic); ok {
				h.Frames = []Frame{subscribed(f), f}
			}
			v.accusef(h, "%s shows another %s than Postgres holds, after writes had stopped", view.Client, view.Topic)
		}
	}
}

// differences are what a client shows and Postgres doesn't hold, and the reverse.
func (v View) differences() View {
	shown, truth := v.Shown, v.Truth
	v.Shown = Content{Cells: without(shown.Cells, truth.Cells), Counts: without(shown.Counts, truth.Counts)}
	v.Truth = Content{Cells: without(truth.Cells, shown.Cells), Counts: without(truth.Counts, shown.Counts)}
	return v
}

func without[T comparable](list, others []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool { return slices.Contains(others, v) })
}

// last is the last invalidation of a topic up to a time.
func last(frames []Frame, at time.Duration, topic string) (Frame, bool) {
	for _, f := range slices.Backward(frames) {
		if f.Kind == Invalidate && f.At <= at && slices.Contains(f.Topics, topic) {
			return f, true
		}
	}
	return Frame{}, false
}

// judgeG5: a read at-least a write's stamp shows it, and so does a strong read
// that starts after the write's response. The stamp is above all that had been
// told before the write was sent, and the topics beside it are all of the write's.
func judgeG5(x *index, v *Verdict) {
	for i := range x.Writes {
		judgeResponse(x, &x.Writes[i], v)
	}
	for _, r := range x.allReads() {
		if r.Direct {
			continue // that is Postgres' own promise
		}
		due := func(w *Write) bool { return !w.Stamp.IsZero() && !r.AtLeast.Less(w.Stamp) }
		if r.AtLeast.IsZero() {
			due = func(w *Write) bool { return w.Done < r.Start }
		}
		v.Observations++
		if l := x.missing(r, due); l != nil {
			v.accusef(x.excerpt(r, l), "a read of %s doesn't show %s, though %s", r.Topic, l.what, why(r, l.write))
		}
	}
}

// judgeResponse judges what the answer to a write says of it.
func judgeResponse(x *index, w *Write, v *Verdict) {
	if w.Outcome != Committed || w.Stamp.IsZero() {
		return
	}
	// A node that still writes to a primary that another one has taken over from can't
	// know it: what it writes there is lost with it.
	if !w.After.IsZero() && (!w.isLate() || w.Lost == 0) {
		v.Observations++
		if !w.After.Less(w.Stamp) {
			what := fmt.Sprintf("and %v had been told before it was sent", w.After)
			if w.After.Position == 0 {
				what = fmt.Sprintf("and the epochs before %d had ended when it was sent", w.After.Epoch)
			}
			v.accusef(&History{Writes: []Write{*w}}, "%s of %s was answered with the stamp %v, %s", cellsOf(w.Changes), w.Writer, w.Stamp, what)
		}
	}
	if w.Topics == nil {
		return
	}
	v.Observations++
	for _, topic := range topicsOf(w.Changes, x.kinds) {
		if !slices.Contains(w.Topics, topic) {
			v.accusef(&History{Writes: []Write{*w}}, "the answer to %s of %s doesn't name the topic %s, which it changed", cellsOf(w.Changes), w.Writer, topic)
			return
		}
	}
}

func why(r *Read, w *Write) string {
	switch {
	case w == nil:
		return "nobody put them there"
	case r.AtLeast.IsZero():
		return "it is strong and began after the write's answer"
	}
	return fmt.Sprintf("it asked at-least %v and the write was stamped %v", r.AtLeast, w.Stamp)
}

// judgeG6: an answer shows every commit up to its stamp, and nothing that never
// was.
func judgeG6(x *index, v *Verdict) {
	for _, r := range x.allReads() {
		if cell, w, ok := x.impossible(r); ok {
			h := x.excerpt(r, nil)
			h.Reads[0].Cells = []Cell{cell}
			if w != nil {
				h.Writes = []Write{*w}
			}
			v.Observations++
			v.accusef(h, "%s was shown %v in %s, which %s", r.Client, cell, r.Topic, impossibility(w))
			continue
		}
		if r.Direct {
			continue
		}
		if r.Stamp.IsZero() {
			if !r.AtLeast.IsZero() {
				v.Observations++
				v.accusef(x.excerpt(r, nil), "the answer to a request at-least %v has no stamp", r.AtLeast)
			}
			continue
		}
		v.Observations++
		if l := x.missing(r, func(w *Write) bool { return w.notAbove(r.Stamp) }); l != nil {
			v.accusef(x.excerpt(r, l), "an answer stamped %v doesn't show %s", r.Stamp, l.what)
		}
	}
}

// impossibility says why a write can't be shown.
func impossibility(w *Write) string {
	if w != nil && w.Lost != 0 {
		return "was lost before the epoch of the answer's stamp began"
	}
	return "was never committed there"
}

// name says which of a write's cells a read of a place lacks.
func (w *Write) name(r *Read) string {
	for _, c := range w.Changes {
		switch {
		case c.within(r.Topic):
			return fmt.Sprintf("%v of %s", c.Cell, w.Writer)
		case c.concerns(r.Topic):
			return fmt.Sprintf("that %v of %s took the row away", c.Cell, w.Writer)
		}
	}
	return fmt.Sprintf("a write of %s", w.Writer)
}
