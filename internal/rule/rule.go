// Package rule is the client rule (docs/protocol.md) as a state machine without
// I/O: for one query it decides when to fetch, and which answer to keep. Package
// client drives it with a stream and Connect calls, package check with its own,
// so that both are one rule. It is internal because what an input means changes
// with every fault that is found; whoever writes a client of their own follows
// the document.
package rule

import (
	"time"

	"github.com/freshet-dev/freshet"
)

// Rule decides, for one query, when to fetch and which answer to keep: rules
// 1–4 and 6 of docs/protocol.md, "The client rule". It does no I/O, has no clock and draws no
// random numbers; whoever drives it gives it inputs and does what the step
// says. The zero value is a query that holds nothing and waits for its stream.
//
// It upholds, for every order of inputs: an answer is never replaced by an
// older one (G4); in phase Idle the answer is as fresh as anything heard, and
// from the other phases fetches follow until it is (G3). Not safe for
// concurrent use.
type Rule struct {
	phase   Phase
	epoch   freshet.Epoch
	need    freshet.Revision // the highest invalidation heard
	told    freshet.Revision // the highest that the stream told; need may be an own write's
	have    freshet.Revision // the stamp of the answer held; zero: unknown
	held    bool             // there is an answer
	blind   bool             // it can't be compared: its stamp is unknown, or of a history that was reset
	doubted bool             // a reset came since, to the history that it is of: no answer has confirmed it yet
	arrived uint64           // clock when it arrived
	sent    uint64           // clock when its request was sent

	left     freshet.Epoch // the highest epoch that a reset went back from
	replaced uint64        // clock at the last reset
	foreign  uint64        // clock when somebody else began to call
	followed bool          // the stream has been ready: a frontier speaks of the answer held

	clock   uint64 // counts inputs and requests, to order requests and answers
	flights []flight
	flown   int  // the last flight's id
	tries   int  // flights in a row that failed or held less than was asked
	patient bool // Pausing: only the timer ends it
	strong  bool // the next fetch is strong, whatever is needed
	calm    bool // the next fetch begins with jitter
}

// flight is a request under way.
type flight struct {
	id    int
	asked freshet.Revision
	sent  uint64
	main  bool // of Flying; not a Refresh
}

const (
	firstPause   = 250 * time.Millisecond
	longestPause = 30 * time.Second
	jitter       = time.Second // of refetches that every client makes at once
)

// Phase returns what the rule is doing.
func (r *Rule) Phase() Phase { return r.phase }

// Have is the revision up to which the answer held is known to be complete.
func (r *Rule) Have() freshet.Revision { return r.have }

// Need is the revision that the answer has to reach.
func (r *Rule) Need() freshet.Revision { return r.need }

// Fresh reports whether an answer is held that is as fresh as anything heard.
func (r *Rule) Fresh() bool { return r.held && !r.doubted && !r.have.Less(r.need) }

// Behind reports whether an input of the stream says that the stream is in an
// earlier history than an answer came from. One of the two is wrong, and a new
// stream that begins at Since is told which: the server proves its history
// before it sends a reset.
func (r *Rule) Behind(in Input) bool {
	fromStream := in.Kind == OnInvalidate && !in.Own || in.Kind == OnReady || in.Kind == OnFrontier
	return fromStream && in.Revision.Epoch < r.epoch
}

// Since is where a new stream has to begin; zero: nothing is known. Where the
// answer's age is unknown, or of an earlier history, it names the history only.
func (r *Rule) Since() freshet.Revision {
	if r.have.Epoch != r.epoch || r.doubted {
		return freshet.Revision{Epoch: r.epoch}
	}
	return r.have
}

// transition is one cell of the table.
type transition func(*Rule, Input) Step

// table says what every input does in every phase. A cell that ignores its
// input says so; a test holds that none is missing.
var table = [phases][kinds]transition{
	Idle: {
		OnInvalidate: (*Rule).invalidated,
		OnReady:      (*Rule).ready,
		OnFrontier:   (*Rule).heard,
		OnReset:      (*Rule).reset,
		OnAnswer:     (*Rule).answer, // of a Refresh
		OnFailure:    (*Rule).landed, // of a Refresh
		OnTimer:      (*Rule).ignore, // what it was to fetch has come otherwise
		OnRefresh:    (*Rule).refresh,
		OnAnother:    (*Rule).another,
	},
	Flying: {
		OnInvalidate: (*Rule).note, // the flight's end decides
		OnReady:      (*Rule).ready,
		OnFrontier:   (*Rule).heard,
		OnReset:      (*Rule).reset,
		OnAnswer:     (*Rule).answer,
		OnFailure:    (*Rule).failure,
		OnTimer:      (*Rule).ignore,
		OnRefresh:    (*Rule).refresh,
		OnAnother:    (*Rule).another,
	},
	Pausing: {
		OnInvalidate: (*Rule).note, // the timer decides
		OnReady:      (*Rule).ready,
		OnFrontier:   (*Rule).heard,
		OnReset:      (*Rule).reset,
		OnAnswer:     (*Rule).answer, // of a Refresh
		OnFailure:    (*Rule).landed, // of a Refresh
		OnTimer:      (*Rule).resume,
		OnRefresh:    (*Rule).refresh,
		OnAnother:    (*Rule).another,
	},
}

// On takes one input.
func (r *Rule) On(in Input) Step {
	r.clock++
	return table[r.phase][in.Kind](r, in)
}

func (r *Rule) ignore(Input) Step { return Step{} }

// Rest forgets the flights and the pause of a driver that stopped: what is held
// stays, and the next driver begins as if it were new.
func (r *Rule) Rest() {
	r.phase, r.flights, r.tries, r.patient, r.strong, r.calm = Pausing, nil, 0, false, false, false
	r.followed = false
}

// isOver reports whether an answer's revision is of a history that is over: an
// earlier one, or one that a reset went back from. Only the stream can say that
// such a history has come back (F77).
func (r *Rule) isOver(rev freshet.Revision) bool {
	return rev.Epoch < r.epoch || rev.Epoch > r.epoch && rev.Epoch <= r.left
}

// mark raises need; a lower epoch's revision is dropped whole, a higher one's
// begins a new history, in which all clients refetch at once: with jitter.
func (r *Rule) mark(rev freshet.Revision) {
	if rev.Epoch < r.epoch {
		return
	}
	if r.epoch != 0 && rev.Epoch > r.epoch {
		r.calm = true
	}
	r.epoch = rev.Epoch
	r.need = r.need.Max(rev)
}

func (r *Rule) note(in Input) Step {
	if in.Own && r.isOver(in.Revision) {
		return Step{}
	}
	r.mark(in.Revision)
	if !in.Own {
		r.told = r.told.Max(in.Revision)
	}
	return Step{}
}

func (r *Rule) invalidated(in Input) Step {
	r.note(in)
	switch {
	case r.Fresh():
		return Step{}
	case in.Spread > 0 && !r.calm:
		return r.pause(true, Pause{Spread: in.Spread})
	default:
		return r.fetch()
	}
}

func (r *Rule) ready(in Input) Step {
	if !in.Resumed {
		r.note(in)
	}
	r.followed = true
	return r.heard(in)
}

// heard takes a revision up to which everything has been told. What is fresh
// now is complete up to there, if the stream has caught up on it (F88); and it
// is the moment to try again at once.
func (r *Rule) heard(in Input) Step {
	if in.Revision.Epoch > r.epoch {
		r.mark(in.Revision)
	}
	if r.followed && in.Revision.Epoch == r.epoch && r.Fresh() && !r.have.IsZero() {
		r.have = r.have.Max(in.Revision)
	}
	if r.Fresh() || r.phase == Flying || r.phase == Pausing && r.patient {
		return Step{}
	}
	return r.fetch()
}

func (r *Rule) reset(in Input) Step {
	if in.Revision.Epoch < r.epoch {
		r.left = max(r.left, r.epoch)
	}
	r.epoch, r.need, r.told = in.Revision.Epoch, in.Revision, in.Revision
	r.calm, r.replaced = true, r.clock
	if r.held && !r.blind && r.have.Epoch == in.Revision.Epoch {
		// An answer has led here before the stream did, and its node may be further than
		// the stream's (G4). Or the server doesn't know what we have, and will say so.
		r.need, r.doubted = r.need.Max(r.have), true
	} else {
		// The answer stays on show, but nothing is known of its age: it may be of
		// a history that never was.
		r.have, r.blind = freshet.Revision{}, true
	}
	if r.phase == Flying {
		return Step{}
	}
	return r.fetch()
}

func (r *Rule) resume(Input) Step {
	if r.Fresh() {
		r.phase = Idle
		return Step{}
	}
	return r.fetch()
}

// another has the next answer kept, as the first one would be, if it isn't older than
// what was held; and none that was asked for before.
func (r *Rule) another(Input) Step {
	r.foreign = r.clock
	if !r.held {
		return Step{} // and nothing was: what is under way is asked for again at its end
	}
	r.need = r.need.Max(r.have)
	r.have, r.held, r.blind = freshet.Revision{}, false, false
	if r.phase == Flying || r.phase == Pausing && r.patient {
		return Step{}
	}
	return r.fetch()
}

// refresh adds a strong flight beside whatever goes on.
func (r *Rule) refresh(Input) Step {
	return r.send(freshet.Revision{}, false)
}

// land takes a flight off the list.
func (r *Rule) land(id int) (flight, bool) {
	for i, f := range r.flights {
		if f.id == id {
			r.flights = append(r.flights[:i], r.flights[i+1:]...)
			return f, true
		}
	}
	return flight{}, false
}

func (r *Rule) landed(in Input) Step {
	r.land(in.Flight)
	return Step{}
}

func (r *Rule) answer(in Input) Step {
	f, ok := r.land(in.Flight)
	if !ok {
		return Step{}
	}
	stamp := in.Revision
	keep := r.keeps(f, stamp)
	if keep {
		if stamp.Epoch > r.epoch {
			// As a reset, but for this query, which has its answer.
			r.epoch, r.need = stamp.Epoch, stamp
		}
		r.held, r.blind, r.sent, r.arrived = true, stamp.IsZero(), f.sent, r.clock
		r.have = r.have.Max(stamp)
		r.doubted = r.doubted && stamp != r.have
		if in.Told.Epoch == r.epoch { // rule 8
			r.need, r.told = r.need.Max(in.Told), r.told.Max(in.Told)
		}
		r.followed = r.followed && !in.Unfollowed
	}
	if !f.main {
		return Step{Keep: keep} // a pause that has become needless ends with its timer
	}
	step := r.next(!stamp.Less(f.asked) && !stamp.IsZero() && stamp.Epoch == r.epoch)
	step.Keep = keep
	return step
}

// keeps says whether an answer may take the place of what is held: the first half of
// rule 2. Two answers can be compared if both have stamps of one history: then the
// higher wins (G4), and of two with the same stamp the one that was asked for later.
// Without a stamp on either side (F35) nothing says which of two overlapping requests
// saw more; only one that was sent after the held answer had come can't have seen
// less; and while what is held is in doubt nothing that was sent before it came takes its
// place. The same goes for a strong read whose stamp is lower, as another node may
// give it: it was sent to find out how things are now, and has. An answer of a
// history that is over is never kept (F34), nor one to another caller, nor one without a
// stamp that may be of the history before the last reset.
func (r *Rule) keeps(f flight, stamp freshet.Revision) bool {
	switch {
	case f.sent <= r.foreign:
		return false // somebody else's
	case !stamp.IsZero() && r.isOver(stamp):
		return false // F34: another history
	case stamp.IsZero() && r.replaced > 0 && f.sent <= r.replaced:
		return false // maybe of the history before the reset
	case !r.held:
		return true
	case stamp.IsZero() || r.blind || r.doubted && f.sent <= r.arrived:
		return f.sent > r.arrived
	case r.have.Less(stamp):
		return true
	case stamp == r.have:
		return f.sent > r.sent
	default:
		return f.asked.IsZero() && f.sent > r.arrived
	}
}

// next is the second half of rule 2, after the main flight's end. kept says
// that the server kept its word: the answer is as fresh as it was asked to be,
// so that what is needed now was heard since.
func (r *Rule) next(kept bool) Step {
	if r.Fresh() {
		r.phase, r.tries, r.calm = Idle, 0, false
		return Step{}
	}
	if kept {
		r.tries = 0
		return r.fetch()
	}
	if r.tries++; r.tries == 1 {
		return r.fetch()
	}
	return r.backOff()
}

func (r *Rule) failure(in Input) Step {
	f, ok := r.land(in.Flight)
	if !ok || !f.main {
		return Step{}
	}
	if in.EpochChanged {
		r.strong = true
		if in.Revision.Epoch > r.epoch && !r.isOver(in.Revision) {
			r.mark(in.Revision)
		}
	}
	if in.Unknown && !f.asked.Less(r.need) {
		// To ask for it again would bring the same. What there is to be had a
		// strong read says; nothing is known of the answer held.
		r.strong, r.blind, r.doubted = true, true, false
		r.need, r.have = freshet.Revision{Epoch: r.epoch}, freshet.Revision{}
		if r.told.Less(f.asked) {
			r.need = r.need.Max(r.told)
		}
	}
	if r.Fresh() {
		return r.next(false)
	}
	r.tries++
	if in.Wait > 0 {
		return r.pause(true, Pause{Least: in.Wait, Spread: in.Wait / 2})
	}
	return r.backOff()
}

func (r *Rule) backOff() Step {
	d := firstPause
	for range min(r.tries-1, 16) {
		d = min(2*d, longestPause)
	}
	return r.pause(false, Pause{Least: d, Spread: d / 2})
}

func (r *Rule) pause(patient bool, p Pause) Step {
	r.phase, r.patient = Pausing, patient
	return Step{Pause: &p}
}

// fetch sends the main flight, or pauses first if all clients are about to.
func (r *Rule) fetch() Step {
	if r.calm {
		r.calm = false
		return r.pause(true, Pause{Spread: jitter})
	}
	r.phase = Flying
	asked := r.need
	if r.strong {
		asked, r.strong = freshet.Revision{}, false
	}
	return r.send(asked, true)
}

func (r *Rule) send(asked freshet.Revision, main bool) Step {
	r.clock++ // later than an answer that came with the same input
	r.flown++
	r.flights = append(r.flights, flight{id: r.flown, asked: asked, sent: r.clock, main: main})
	return Step{Fetch: &Request{Flight: r.flown, AtLeast: asked}}
}
