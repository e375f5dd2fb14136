package reuse

import (
	"slices"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
)

// Heat counts, while somebody measures, what topics have read again; *heat.Meter
// implements it.
type Heat interface {
	// On reports whether somebody measures.
	On() bool
	// Queried counts a query that ran since these topics had changed, and whether it
	// found what was known before.
	Queried(topics []string, needless bool)
	// Read counts a read of its answer.
	Read(topics []string, needless bool)
}

// verdict is what an answer turned out to be beside the kept one in whose place it is.
// It is made while somebody measures, and not changed any more.
type verdict struct {
	since    freshet.Revision // of the other one: who asks for more than that has heard of a change
	topics   []string         // that have changed since then
	needless bool             // it says the same
}

// judge compares an answer with the one that is kept, if there is one: nil otherwise, and
// while nobody measures.
func (t *flights) judge(key readKey, f *flight, response connect.AnyResponse, answered []string) *verdict {
	if t.heat == nil || !t.heat.On() {
		return nil
	}
	old, ok := t.cache.get(key)
	if !ok {
		return nil
	}
	v := &verdict{since: old.start, needless: sameMessage(old.response, response)}
	for _, of := range [][]string{f.topics, old.topics, answered} {
		for _, topic := range of {
			last := t.node.Floor([]string{topic})
			if last.Epoch == old.start.Epoch && old.start.Less(last) && !slices.Contains(v.topics, topic) {
				v.topics = append(v.topics, topic)
			}
		}
	}
	t.heat.Queried(v.topics, v.needless)
	return v
}

// measured counts a read of an answer, if its caller asked for more than there was before.
func (t *flights) measured(w want, v *verdict) {
	if v != nil && reaches(w.asked, v.since) && w.asked != v.since {
		t.heat.Read(v.topics, v.needless)
	}
}
