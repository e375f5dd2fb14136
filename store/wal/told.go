package wal

import (
	"slices"
	"time"

	"github.com/freshet-dev/freshet"
)

// Told is what another node that captures the same database (the holder) has told of
// it: a stretch of the WAL that has passed that node's gate (package server/relay).
// Being visible on the primary is a fact whoever has found it out, so it is as good as
// what this node would have captured itself.
type Told struct {
	Epoch       freshet.Epoch
	Incarnation uint64 // as History has it

	Holder   uint64 // who tells; not zero
	Sequence uint64 // rises with all that one holder tells
	Previous uint64 // the stretch is all that ends above, and
	Position uint64 // at or below
	Received uint64 // the holder has decoded all that ends at or below; 0: it doesn't say

	// Begin says that nothing at or below Previous is known, and that all of it is
	// visible: the sink begins anew. Only a holder that serves can know.
	Begin bool
	// Commits of the stretch, in order.
	Commits []ToldCommit
	// Quarantine is what was in quarantine while the stretch was told.
	Quarantine []freshet.Pattern
}

// ToldCommit is a commit, and the low 32 bits of its transaction's id, if it is one
// commit alone and they are known.
type ToldCommit struct {
	freshet.Commit
	XID   uint32
	Alone bool
}

// Following is what Follow knows, and does with what it is told: the part of it that has
// no connection, clock or lock. Make one with NewFollowing, and Start it. Not safe for
// concurrent use.
//
// Invariants:
//   - the sink is given a stretch only if the frontier has reached its beginning, in
//     the epoch and incarnation that a connection of this node's own has shown;
//   - what one holder holds in quarantine is let go when that holder says so, which
//     has told all of it then (quarantine's Q3). Of another one's, nobody has told this
//     node so: its topics are told anew first, at a position above the frontier.
type Following struct {
	sink    Sink
	publish func(ToldCommit) // the sink's Publish, and what goes with it

	incarnation uint64
	applied     freshet.Revision // everything up to here was given to the sink
	begun       bool             // the sink's table reaches without a gap to there
	serving     bool             // the sink serves,
	target      uint64           // or will once this is applied,
	targetTime  time.Time        // where the primary was then

	held    []freshet.Pattern // in quarantine
	holder  uint64            // who has said so; 0: this node itself
	counted uint64            // the holder's number of what said so
	said    bool              // the sink was told since Start
}

// NewFollowing returns one that gives sink what it is told.
func NewFollowing(sink Sink) *Following {
	return &Following{sink: sink, publish: func(c ToldCommit) { sink.Publish(c.Commit) }}
}

// Start is where a session of Follow begins.
type Start struct {
	// Applied is the epoch, and up to where the sink was given everything.
	Applied     freshet.Revision
	Incarnation uint64 // as History has it
	// Serving says that the sink serves in this epoch. Of a table that doesn't it isn't
	// known that all below is visible.
	Serving bool
	// Target is where the primary was at TargetTime: the sink serves from there on.
	Target     uint64
	TargetTime time.Time
}

// Start begins a session. What was in quarantine still is.
func (w *Following) Start(s Start) {
	w.applied, w.incarnation, w.serving, w.begun = s.Applied, s.Incarnation, s.Serving, s.Serving
	w.target, w.targetTime, w.said = s.Target, s.TargetTime, false
}

// Place is Feed's.
func (w *Following) Place() (at freshet.Revision, incarnation uint64, begun bool) {
	return w.applied, w.incarnation, w.begun
}

// Apply is Feed's.
func (w *Following) Apply(t Told) bool {
	if t.Epoch != w.applied.Epoch || t.Incarnation != w.incarnation {
		return false
	}
	if !t.Begin && (!w.begun || t.Previous > w.applied.Position) {
		return false
	}
	if t.Begin {
		w.serving, w.begun = false, true
		w.applied.Position = t.Previous
		w.sink.Begin(w.applied)
	}
	moves := t.Position > w.applied.Position
	held, untold := w.hold(&t, moves)
	w.quarantine(union(w.held, held))
	for _, c := range t.Commits {
		if c.Revision.Position <= w.applied.Position {
			continue
		}
		c.Changes = unsureOf(c.Revision, untold, c.Changes)
		c.Floors, untold = union(c.Floors, untold), nil
		w.publish(c)
		w.applied.Position = c.Revision.Position
	}
	if t.Position > w.applied.Position {
		w.applied.Position = t.Position
		switch {
		case len(untold) > 0:
			w.sink.Publish(freshet.Commit{Revision: w.applied, Floors: untold})
		case w.serving:
			w.sink.Advance(w.applied)
		}
	}
	w.quarantine(held)
	if !w.serving && w.applied.Position >= w.target {
		w.serving = true
		w.sink.Current(w.targetTime)
		w.sink.Serve(w.applied)
	}
	return true
}

// hold returns what is in quarantine once t is applied, and of what else everything has
// to be told first. moves says whether t moves the frontier.
func (w *Following) hold(t *Told, moves bool) (held, untold []freshet.Pattern) {
	switch {
	case t.Holder == w.holder && t.Sequence <= w.counted: // said before what is known
		return w.held, nil
	case t.Holder == w.holder, t.Begin, len(w.held) == 0:
	case moves:
		untold = slices.DeleteFunc(slices.Clone(w.held), func(p freshet.Pattern) bool { return slices.Contains(t.Quarantine, p) })
	default:
		return union(w.held, t.Quarantine), nil
	}
	w.holder, w.counted = t.Holder, t.Sequence
	return t.Quarantine, untold
}

// quarantine tells the sink what is in quarantine.
func (w *Following) quarantine(held []freshet.Pattern) {
	if w.said && slices.Equal(held, w.held) {
		return
	}
	w.said, w.held = true, held
	w.sink.Quarantine(held)
}

// union returns a and what else is in b.
func union(a, b []freshet.Pattern) []freshet.Pattern {
	all := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}
