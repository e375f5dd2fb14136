package hub

import (
	"maps"
	"slices"

	"github.com/freshet-dev/freshet"
)

// Changes is what a hub knows to have changed above a position.
type Changes struct {
	// Frontier is the hub's. The zero value: it isn't serving, and the rest says
	// nothing.
	Frontier freshet.Revision
	// Since is the position above which this is all: the one that was asked about, or
	// a higher one.
	Since uint64
	// Commits in order, each with the topics whose last change it was, and the floors.
	Commits []freshet.Commit
}

// Changes returns what has changed since a position: the last change of each topic, so
// a topic that has changed twice is there once. It holds up to about limit bytes of
// topics, the newest ones; with more, Since rises. A floor is always there.
func (h *Hub) Changes(since uint64, limit int) Changes {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if !h.serving {
		return Changes{}
	}
	c := Changes{Frontier: freshet.Revision{Epoch: h.epoch, Position: h.top}, Since: max(since, h.table.horizon)}
	byPosition := map[uint64]*freshet.Commit{}
	at := func(position uint64) *freshet.Commit {
		commit := byPosition[position]
		if commit == nil {
			commit = &freshet.Commit{Revision: freshet.Revision{Epoch: h.epoch, Position: position}}
			byPosition[position] = commit
		}
		return commit
	}
	for e := h.table.newest; e != nil && e.position > c.Since; e = e.older {
		if limit -= len(e.topic) + changeBytes; limit < 0 {
			c.Since = e.position
			delete(byPosition, e.position) // some of its topics would be missing
			break
		}
		commit := at(e.position)
		commit.Topics = append(commit.Topics, e.topic)
	}
	for pattern, position := range h.table.floors {
		if position > c.Since {
			commit := at(position)
			commit.Floors = append(commit.Floors, pattern)
		}
	}
	for _, position := range slices.Sorted(maps.Keys(byPosition)) {
		c.Commits = append(c.Commits, *byPosition[position])
	}
	return c
}

// changeBytes is about what a topic takes besides its text.
const changeBytes = 16
