// Package causes remembers what made topics change, for people who ask why a client
// has read something again. It is for looking on: nothing depends on it.
//
// It upholds G7: memory is O(limit), whatever is written; what was remembered first
// goes first. Reading looks at a bounded number of changes per topic.
//
// # What it does not promise
//
// That it knows: a node that has just begun, that another one tells without saying why, or
// that has forgotten says so.
package causes

import (
	"slices"
	"sync"

	"github.com/freshet-dev/freshet"
)

// maxLook is how many changes of one topic are looked at: whoever asks names a
// revision, and it may be an old one.
const maxLook = 100

// Log is the newest changes of one node. Use New. All methods are safe for concurrent
// use; those that record are to be called in the order of history.
type Log struct {
	limit int

	mu     sync.RWMutex // guards what follows
	ring   []record     // number n, from 1 on, is at n-1 modulo limit
	next   uint64       // number of the next one
	newest map[string]uint64
	// wide are those of whole sets of topics. They are one per template that has had
	// something wide, and each question walks them all.
	wide map[freshet.Pattern]uint64
}

// record is a change in the ring.
type record struct {
	change freshet.Change
	older  uint64 // number of the one before of the same topic or pattern; 0: none
}

// New returns a log that remembers limit changes, at least one.
func New(limit int) *Log {
	l := &Log{limit: max(limit, 1)}
	l.forget()
	return l
}

// forget empties the log. The caller holds mu, or has made it.
func (l *Log) forget() {
	l.ring, l.next = nil, 1
	l.newest, l.wide = make(map[string]uint64), make(map[freshet.Pattern]uint64)
}

// Record takes what a commit has told. One that doesn't say why is remembered as
// freshet.Unknown.
func (l *Log) Record(c freshet.Commit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range c.Changes {
		l.put(c.Changes[i])
	}
	if c.Changes != nil {
		return
	}
	for _, topic := range c.Topics {
		l.put(freshet.Change{Topic: topic, What: freshet.Unknown, Revision: c.Revision})
	}
	for _, pattern := range c.Floors {
		l.put(freshet.Change{Pattern: pattern, What: freshet.Unknown, Revision: c.Revision})
	}
}

// Begin forgets everything: another history begins, or there is a gap.
func (l *Log) Begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
}

// Serve says that the node serves from rev on, after Begin: each topic may have
// changed before.
func (l *Log) Serve(rev freshet.Revision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(freshet.Change{Pattern: "**", What: freshet.Began, Revision: rev})
}

// put adds a change. The caller holds mu.
func (l *Log) put(c freshet.Change) {
	r := record{change: c}
	if c.Topic != "" {
		r.older, l.newest[c.Topic] = l.newest[c.Topic], l.next
	} else {
		r.older, l.wide[c.Pattern] = l.wide[c.Pattern], l.next
	}
	if len(l.ring) < l.limit {
		l.ring = append(l.ring, r)
	} else {
		at := l.slot(l.next)
		l.drop(at.change, l.next-uint64(l.limit)) //nolint:gosec // positive
		*at = r
	}
	l.next++
}

// slot is where the record of a number is, or was. The caller holds mu.
func (l *Log) slot(n uint64) *record { return &l.ring[(n-1)%uint64(l.limit)] } //nolint:gosec // positive

// drop forgets the record n, of which the change was, if it is the newest of its topic.
// Those that are newer find by its number that it has gone. The caller holds mu.
func (l *Log) drop(c freshet.Change, n uint64) {
	if c.Topic != "" && l.newest[c.Topic] == n {
		delete(l.newest, c.Topic)
	}
	if c.Topic == "" && l.wide[c.Pattern] == n {
		delete(l.wide, c.Pattern)
	}
}

// last returns the newest change at or below upTo, of those that begin with number n.
// The caller holds mu.
func (l *Log) last(n uint64, upTo freshet.Revision) (freshet.Change, bool) {
	for range maxLook {
		if n == 0 || l.next-n > uint64(len(l.ring)) { // it has gone
			break
		}
		r := l.slot(n)
		if at := r.change.Revision; at.Epoch == upTo.Epoch && at.Compare(upTo) <= 0 {
			return r.change, true
		}
		n = r.older
	}
	return freshet.Change{}, false
}

// Of returns the newest change of one of the topics at or below a revision, in its
// epoch; of several the one whose topic comes first. ok is false where none is known.
func (l *Log) Of(topics []string, upTo freshet.Revision) (change freshet.Change, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	take := func(c freshet.Change, known bool) {
		if known && (!ok || change.Revision.Less(c.Revision)) {
			change, ok = c, true
		}
	}
	for _, topic := range topics {
		take(l.last(l.newest[topic], upTo))
	}
	for pattern, n := range l.wide {
		if slices.ContainsFunc(topics, pattern.Match) {
			take(l.last(n, upTo))
		}
	}
	return change, ok
}

// Len is how many changes are remembered.
func (l *Log) Len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.ring)
}
