package hub

import (
	"sync"

	"github.com/freshet-dev/freshet"
)

// Since says what a subscriber's data is stamped with. The zero value asks for
// no catch-up.
type Since struct {
	// All holds for each topic that ByTopic doesn't name. Zero: no catch-up.
	All freshet.Revision
	// ByTopic holds for single topics; a zero revision is no catch-up. Topics
	// that aren't subscribed to are ignored.
	ByTopic map[string]freshet.Revision
	// Reset says that what the subscriber holds can't be placed in this history
	// (malformed, from the future, foreign): it begins with a reset.
	Reset bool
}

func (s Since) of(topic string) freshet.Revision {
	if rev, ok := s.ByTopic[topic]; ok {
		return rev
	}
	return s.All
}

// Notice is all that a subscription has to tell at one moment.
type Notice struct {
	// Reset: another history; everything that the subscriber holds may be
	// wrong, as of Frontier. Then there are no Topics.
	Reset bool
	// Topics that changed since the last Take, distinct.
	Topics []string
	// Revision is the highest at which one of Topics changed.
	Revision freshet.Revision
	// Partial: changes up to Revision may have been missed, of topics that are
	// in quarantine and not among Topics. It says something of Topics only, not
	// that everything up to Revision has been told.
	Partial bool
	// Frontier at this moment: every change up to it is in this notice or in
	// an earlier one. Zero while the hub isn't serving. It is not to be told
	// beside a notice that comes of Take while topics are in quarantine: TakeAll.
	Frontier freshet.Revision
}

// Subscription is one reader's set of topics, and the set of those that
// changed since it last looked. Close it.
type Subscription struct {
	hub *Hub
	// wake, or in its place notify, tells the reader. Hub.mu guards them.
	wake   chan struct{}
	notify func()
	// place is the index in Hub.subscriptions, and slots are the topics, one
	// each. Hub.mu guards them; of a slot, dirty and position as below.
	place int
	slots []slot
	held  int // slots whose topic is in quarantine; guarded like them

	// mu guards what follows between readers. Whoever holds Hub.mu for writing
	// (marks) is alone anyway; readers hold Hub.mu for reading and mu.
	mu    sync.Mutex
	epoch freshet.Epoch // of the marked positions
	dirty []int         // slots, in the order in which they were marked
	// heldTold is the position at which all topics in quarantine were told last.
	heldTold uint64
	reset    bool
	closed   bool
}

// slot is one subscribed topic.
type slot struct {
	entry    *entry
	place    int    // among entry.subs
	position uint64 // highest change not taken yet, if dirty
	dirty    bool
}

// Subscribe registers topics and finds out, in the same step, which of them
// have changed since the given revisions, or may have: nothing falls between.
// Duplicates count once. The first Take returns the catch-up.
//
// The error is ErrNotServing.
func (h *Hub) Subscribe(topics []string, since Since) (*Subscription, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.serving {
		return nil, ErrNotServing
	}
	s := &Subscription{
		hub: h, wake: make(chan struct{}, 1), epoch: h.epoch, reset: since.Reset,
		place: len(h.subscriptions), slots: make([]slot, 0, len(topics)),
	}
	h.subscriptions = append(h.subscriptions, s)
	if s.reset {
		h.conservative.foreign(since, freshet.Revision{}, h.epoch)
	}
	for _, topic := range topics {
		e := h.table.get(topic)
		if n := len(e.subs); n > 0 && e.subs[n-1].sub == s {
			continue // a duplicate: we are the last who joined
		}
		if len(e.subs) == 0 {
			e.held = h.heldTopic(topic)
		}
		if e.held {
			s.held++
		}
		i := len(s.slots)
		s.slots = append(s.slots, slot{entry: e, place: h.table.join(e, member{sub: s, slot: i})})
		switch from := since.of(topic); {
		case from.IsZero():
		case from.Epoch != h.epoch:
			if !s.reset {
				h.conservative.foreign(since, from, h.epoch)
			}
			s.reset = true
		default:
			// A topic that isn't in the table counts as the horizon: a since
			// below it is answered "changed".
			if latest, why := h.table.latest(topic); latest > from.Position {
				h.conservative.told(why)
				s.mark(i, latest)
			}
		}
	}
	if s.reset {
		s.signal()
	}
	return s, nil
}

// mark makes a topic dirty, and reports whether it wasn't. The caller holds Hub.mu for
// writing.
func (s *Subscription) mark(i int, position uint64) bool {
	at := &s.slots[i]
	if at.dirty {
		at.position = max(at.position, position)
		return false
	}
	at.dirty, at.position = true, position
	s.dirty = append(s.dirty, i)
	if len(s.dirty) == 1 {
		s.signal()
	}
	return true
}

// resume tells the subscription that the hub serves again, after a gap before
// position or in another epoch. The caller holds Hub.mu for writing.
func (s *Subscription) resume(otherEpoch bool, position uint64, count *Conservative) {
	if otherEpoch {
		if !s.reset {
			count.Epoch++
		}
		s.reset, s.epoch = true, s.hub.epoch
		s.signal()
		return
	}
	// The first mark wakes the reader; where some were there already, it has been
	// woken and not taken them yet. Unless a reset came before them: a reader that has
	// looked meanwhile was told nothing, since that had no revision.
	if s.reset {
		s.signal()
	}
	count.Gap += uint64(len(s.slots))
	for i := range s.slots {
		s.mark(i, position)
	}
}

// clean forgets all marks. The caller holds mu.
func (s *Subscription) clean() {
	for _, i := range s.dirty {
		s.slots[i].dirty = false
	}
	s.dirty = s.dirty[:0]
}

// Wake is ready to receive when there may be something to take, or after
// WakeAll. After Notify it is nil. A reader that has received must Take before it trusts the
// next silence; it needn't do so at once.
func (s *Subscription) Wake() <-chan struct{} { return s.wake }

// Notify has f called instead of making Wake ready, for a reader that has no
// goroutine to wait with. What there was to take before isn't told again: Take
// once after Notify. f is called with the hub's lock held, also after Close has
// begun: it must neither block nor call the hub.
func (s *Subscription) Notify(f func()) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.wake, s.notify = nil, f
}

// signal wakes the reader. It never blocks. The caller holds Hub.mu.
func (s *Subscription) signal() {
	if s.notify != nil {
		s.notify()
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Signal wakes the reader, as WakeAll does all.
func (s *Subscription) Signal() {
	s.hub.mu.RLock()
	defer s.hub.mu.RUnlock()
	if !s.closed {
		s.signal()
	}
}

// Take returns all that there is to tell and forgets it: see I5. After Close it
// returns nothing.
func (s *Subscription) Take() Notice { return s.take(false) }

func (s *Subscription) take(all bool) Notice {
	s.hub.mu.RLock()
	defer s.hub.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Notice{}
	}
	n := Notice{Frontier: s.hub.Frontier()}
	if all {
		s.markHeld()
	}
	switch {
	case s.reset && n.Frontier.IsZero():
		// The reset has no revision yet, and nothing may be told before it.
	case s.reset:
		// The reset covers every topic up to the frontier.
		n.Reset, s.reset = true, false
		s.heldTold = n.Frontier.Position
		s.clean()
	case len(s.dirty) > 0:
		n.Topics = make([]string, len(s.dirty))
		position := uint64(0)
		for i, slot := range s.dirty {
			n.Topics[i] = s.slots[slot].entry.topic
			position = max(position, s.slots[slot].position)
		}
		n.Revision = freshet.Revision{Epoch: s.epoch, Position: position}
		n.Partial = s.partial(position)
		s.clean()
	}
	return n
}

// Topics is the number of distinct topics subscribed to.
func (s *Subscription) Topics() int { return len(s.slots) }

// List returns the topics subscribed to; none after Close.
func (s *Subscription) List() []string {
	s.hub.mu.RLock()
	defer s.hub.mu.RUnlock()
	if s.closed {
		return nil
	}
	topics := make([]string, len(s.slots))
	for i := range s.slots {
		topics[i] = s.slots[i].entry.topic
	}
	return topics
}

// Close ends the subscription. It may be called more than once. Wake is not
// closed.
func (s *Subscription) Close() {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	for i := range s.slots {
		h.table.leave(s.slots[i].entry, s.slots[i].place)
	}
	end := len(h.subscriptions) - 1
	h.subscriptions[s.place] = h.subscriptions[end]
	h.subscriptions[s.place].place = s.place
	h.subscriptions[end] = nil
	h.subscriptions = h.subscriptions[:end]
}

// WakeAll wakes every subscription's reader, so that each sees something that
// no topic shows: the lag has crossed its bound.
func (h *Hub) WakeAll() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, s := range h.subscriptions {
		s.signal()
	}
}
