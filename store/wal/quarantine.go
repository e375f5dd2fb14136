package wal

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
)

// quarantine keeps, for each source, whether the stream can be trusted to bring
// its changes.
//
// Some rows are written that decoding never shows: while their table is out of
// the publication, by a transaction that wrote before it joined and commits long
// after, in a child that isn't published. A source where that may be so is held:
// the sink is told, keeps nothing of its topics, and tells them again and again.
// With "lost" for a commit that changed rows of the source and wasn't decoded
// as such, ending at position b, this is what the sink can rely on:
//
//	Q1  When the frontier reaches b, the source is held, and since before.
//	Q2  While it is held, all its topics are told at positions that rise with
//	    the frontier.
//	Q3  It is let go only after all its topics were told at a position above b
//	    that the frontier has reached.
//
// Q1. A change is lost only because of DDL whose commit stands before it in the
// WAL. The entry that carries the frontier to b or beyond passes the gate only
// after a look at the catalog that began when the entry had been received
// (session.takeSnapshot): it shows that DDL, or finds another catalog than the
// one that was trusted, and the source is held before the entry is applied.
// (One thing escapes: DDL that was flushed and still invisible when the look
// began: for a moment with every commit, for longer with synchronous replication.
// The source is then held by the next look. docs/guarantees.md names it as open.)
//
// Q3. Three steps, in this order, and all over again when the catalog changes:
//
//	wrong    until the catalog is as capture needs it, in one snapshot;
//	running  then a transaction id is taken. Whoever wrote before the catalog
//	         was right has a lower one, so it has ended once a snapshot's xmin is
//	         above. Until then;
//	telling  then "all topics" is committed as a message: it ends above every b
//	         there can be. Until the frontier has reached it.
//
// A node that finds that another one has stored the very same catalog, which it
// does in the message's transaction, has nothing to wait for but that message.
//
// It is pure but for the clock, and safe for concurrent use: the release loop
// looks, tells and lets go, the watch loop takes the steps, the receive loop
// distrusts.
type quarantine struct {
	mu       sync.Mutex // guards what follows
	suspects []suspect  // one per source, in the program's order
	changed  bool       // which are held, since takeChanged
	begun    uint64     // times that a source was not held, and is
	foreign  []foreign  // what other versions of the contract tell (versions.go)
}

// suspect is one source.
type suspect struct {
	source *contract.Source
	seen   sight // when the catalog was looked at last; zero: never
	held   bool
	since  time.Time
	turn   int // counts the beginnings: a step that was found out for an earlier one is void
	untold bool
	force  bool // a stored fingerprint proves nothing: something was lost under this very one

	truncated bool // it is held for a TRUNCATE, and for nothing else; for people

	step   step
	why    string        // what it waits for, for people
	logged bool          // that it is held, so that its end is logged too
	warned bool          // that it has been for long
	after  uint64        // running: until a snapshot's xmin is above
	until  pglogrepl.LSN // telling: until the frontier is there
}

type step uint8

const (
	wrong step = iota
	running
	telling
)

// What a source waits for, in words.
const (
	truncated            = "the catalog to be looked at closely, after a TRUNCATE"
	notExamined          = "the catalog to be looked at closely: its shape, its publication or its policies changed, or it is new"
	waitsForTransactions = "transactions to end that ran when its catalog became right"
)

func newQuarantine(sources []*contract.Source) *quarantine {
	q := &quarantine{suspects: make([]suspect, len(sources))}
	for i, s := range sources {
		q.suspects[i].source = s
	}
	return q
}

// begin holds a source, or starts its steps anew. The caller holds mu.
func (q *quarantine) begin(u *suspect, why string, force bool) {
	if !u.held {
		u.held, u.since, u.force, u.logged = true, time.Now(), false, false
		q.changed = true
		q.begun++
	}
	u.turn++
	u.truncated = why == truncated
	u.force = u.force || force
	u.step, u.why, u.warned, u.after, u.until = wrong, why, false, 0, 0
	u.untold = true
}

// look takes what the catalog says of all sources, of one moment, and holds those of
// which it says something else.
func (q *quarantine) look(sights []sight) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, now := range sights {
		u := &q.suspects[i]
		if u.seen.fingerprint == now.fingerprint {
			continue
		}
		first, why := u.seen.fingerprint == "", notExamined
		if !first && (!u.held || u.truncated) && now.truncatedSince(u.seen) {
			why = truncated
		}
		u.seen = now
		q.begin(u, why, false)
		// Before the first look nothing was served: what was lost until then is
		// below the horizon. A restart must not cost everybody a refetch.
		u.untold = !first
	}
}

// distrust holds every source, whatever the catalog says now. force: changes were
// lost under the catalog as it is.
func (q *quarantine) distrust(why string, force bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.suspects {
		q.begin(&q.suspects[i], why, force)
	}
}

// restart begins a session: ids and positions may be of a history that has ended.
func (q *quarantine) restart() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.suspects {
		if u := &q.suspects[i]; u.held {
			untold := u.untold
			q.begin(u, notExamined, false)
			u.untold = untold
		}
	}
	q.changed = true // the sink may be another one, or have begun anew
}

// count is how often a source was put into quarantine.
func (q *quarantine) count() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.begun
}

// examined returns copies of all sources, to find out about.
func (q *quarantine) examined() []suspect {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]suspect(nil), q.suspects...)
}

// wrong says that the catalog isn't as capture needs it. It holds the source if
// it wasn't; that it is held for another reason now is reported.
func (q *quarantine) wrong(i int, of suspect, why string) (news bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := &q.suspects[i]
	switch {
	case u.turn != of.turn:
		return false
	case !u.held || u.step != wrong:
		q.begin(u, why, false)
		news = true
	default:
		news = u.why != why
		u.why = why
	}
	u.logged = true
	return news
}

// running says that the catalog is right; after is a transaction id that was
// given when it was.
func (q *quarantine) running(i int, of suspect, after uint64) {
	q.step(i, of, func(u *suspect) {
		u.step, u.after, u.why, u.logged = running, after, waitsForTransactions, true
	})
}

// telling says that all its topics were emitted, ending at or below until.
func (q *quarantine) telling(i int, of suspect, until pglogrepl.LSN) {
	q.step(i, of, func(u *suspect) {
		u.step, u.until, u.why = telling, until, "the frontier, to reach the notice of all its topics"
	})
}

func (q *quarantine) step(i int, of suspect, take func(*suspect)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if u := &q.suspects[i]; u.held && u.turn == of.turn {
		take(u)
	}
}

// waits replaces what people are told a source waits for, and says whether that
// is to be logged.
func (q *quarantine) waits(i int, of suspect, why string) (news bool) {
	q.step(i, of, func(u *suspect) {
		news = !u.warned || u.why != why
		u.why, u.warned = why, true
	})
	return news
}

// again has all topics of what is held told once more.
func (q *quarantine) again() (held bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.suspects {
		if u := &q.suspects[i]; u.held {
			u.untold, held = true, true
		}
	}
	return held
}

// tell returns the floors that the next entry to move the frontier has to carry,
// and forgets them.
func (q *quarantine) tell() (floors []freshet.Pattern) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.suspects {
		if u := &q.suspects[i]; u.untold {
			u.untold = false
			floors = append(floors, u.source.Floors()...)
		}
	}
	return append(floors, q.tellForeign()...)
}

// reached lets go what waited for the frontier alone, and returns it.
func (q *quarantine) reached(frontier pglogrepl.LSN) (ended []suspect) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.suspects {
		u := &q.suspects[i]
		if u.held && u.step == telling && u.until <= frontier && !u.untold {
			u.held, q.changed = false, true
			ended = append(ended, *u)
		}
	}
	q.leaveForeign()
	return ended
}

// takeChanged returns the floors of what is held, if that has changed.
func (q *quarantine) takeChanged() (floors []freshet.Pattern, changed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.changed {
		return nil, false
	}
	q.changed = false
	return q.floors(), true
}

// floors returns the floors of what is held. The caller holds mu.
func (q *quarantine) floors() (floors []freshet.Pattern) {
	for i := range q.suspects {
		if q.suspects[i].held {
			floors = append(floors, q.suspects[i].source.Floors()...)
		}
	}
	return append(floors, q.foreignFloors()...)
}

// heldFloors returns the floors of what is held.
func (q *quarantine) heldFloors() []freshet.Pattern {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.floors()
}

// inherit holds what another node has held, which has told this one until now: why, it
// isn't known, so whatever the catalog says proves nothing.
func (q *quarantine) inherit(held []freshet.Pattern) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ours []freshet.Pattern
	for i := range q.suspects {
		u := &q.suspects[i]
		ours = append(ours, u.source.Floors()...)
		if slices.ContainsFunc(u.source.Floors(), func(p freshet.Pattern) bool { return slices.Contains(held, p) }) {
			q.begin(u, "another node has held it until now", true)
		}
	}
	for _, p := range held {
		if !slices.Contains(ours, p) && !slices.ContainsFunc(q.foreign, func(o foreign) bool { return o.floor == p }) {
			q.foreign = append(q.foreign, foreign{floor: p, until: time.Now(), untold: true}) // it is told once, at least
			q.changed = true
		}
	}
}

// syncQuarantine tells the sink what is held, and lets go what waited for the
// frontier alone. Release only.
func (s *session) syncQuarantine(ctx context.Context) {
	f := s.f
	for _, u := range f.quarantine.reached(f.position()) {
		if u.logged {
			s.log.LogAttrs(ctx, slog.LevelInfo, "a source is out of quarantine",
				slog.String("source", u.source.String()), slog.Duration("after", time.Since(u.since)))
		}
	}
	if floors, changed := f.quarantine.takeChanged(); changed {
		f.cfg.Sink.Quarantine(floors)
	}
}

// Quarantined is a source that capture can't be trusted with right now.
type Quarantined struct {
	Source string        // as contract.Source.String has it
	Waits  string        // for what, in words for an operator
	For    time.Duration // how long it has been so
}

// Quarantined returns the sources in quarantine; none is the rule.
func (f *Feed) Quarantined() (held []Quarantined) {
	for _, u := range f.quarantine.examined() {
		if u.held {
			held = append(held, Quarantined{Source: u.source.String(), Waits: u.why, For: time.Since(u.since)})
		}
	}
	return held
}
