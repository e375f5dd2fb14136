package hub

import (
	"slices"

	"github.com/freshet-dev/freshet"
)

// Quarantine says of which topics the feed may miss changes from now on: those
// that one of the patterns matches. It replaces what was said before; none is
// the rule. The feed says it before it moves the frontier past anything that it
// may have missed, and says that it is over only after it has published a floor
// for each of the patterns.
//
// Nothing of these topics is to be kept or shared meanwhile (Quarantined), and
// subscriptions tell them again and again (I7).
func (h *Hub) Quarantine(patterns []freshet.Pattern) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(patterns) == 0 {
		h.quarantine.Store(nil)
	} else {
		patterns = slices.Clone(patterns)
		h.quarantine.Store(&patterns)
	}
	for _, s := range h.subscriptions {
		s.held, s.heldTold = 0, 0
	}
	for _, e := range h.table.subscribed {
		e.held = h.heldTopic(e.topic)
		if !e.held {
			continue
		}
		for _, m := range e.subs {
			m.sub.held++
		}
	}
}

// Quarantined reports whether changes of one of the topics may have been missed,
// at or below any frontier that was read before the call. An answer that depends
// on it is good for nobody but who asked.
func (h *Hub) Quarantined(topics []string) bool {
	return h.quarantine.Load() != nil && slices.ContainsFunc(topics, h.heldTopic)
}

func (h *Hub) heldTopic(topic string) bool {
	patterns := h.quarantine.Load()
	return patterns != nil && slices.ContainsFunc(*patterns, func(p freshet.Pattern) bool { return p.Match(topic) })
}

// TakeAll is Take, for a frame that says that everything has been told: before it
// takes what is dirty, it makes dirty what the subscription has in quarantine, at
// the frontier, or while there is none at the last one. So its notice is never
// Partial.
func (s *Subscription) TakeAll() Notice { return s.take(true) }

// markHeld makes the topics in quarantine dirty at the last frontier, unless that
// has been told already. The caller holds mu, and Hub.mu for reading.
func (s *Subscription) markHeld() {
	frontier := s.hub.last
	if s.held == 0 || s.reset || frontier.Epoch != s.epoch || frontier.Position <= s.heldTold {
		return
	}
	for i := range s.slots {
		at := &s.slots[i]
		if !at.entry.held {
			continue
		}
		if !at.dirty {
			at.dirty = true
			s.dirty = append(s.dirty, i)
		}
		at.position = frontier.Position
	}
}

// partial decides, of the notice that is being taken, whether it leaves out a
// topic in quarantine. The caller holds mu, and Hub.mu for reading.
func (s *Subscription) partial(position uint64) bool {
	if s.held == 0 || position <= s.heldTold {
		return false
	}
	n := 0
	for _, i := range s.dirty {
		if s.slots[i].entry.held {
			n++
		}
	}
	if n < s.held {
		return true
	}
	s.heldTold = position
	return false
}
