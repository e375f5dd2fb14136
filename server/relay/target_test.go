package relay_test

import (
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store/wal"
)

// modelTarget is what wal.Feed is while it follows, without a database. (Follow's own
// tests hold the feed to the same.)
type modelTarget struct {
	w       *world
	hub     *hub.Hub
	epoch   freshet.Epoch
	begun   bool
	serving bool
	applied uint64
	held    []freshet.Pattern
	holder  uint64
	counted uint64
}

func (m *modelTarget) Place() (at freshet.Revision, incarnation uint64, begun bool) {
	return freshet.Revision{Epoch: m.epoch, Position: m.applied}, uint64(m.epoch), m.begun
}

func (m *modelTarget) Apply(t wal.Told) bool {
	if t.Epoch != m.epoch || !t.Begin && (!m.begun || t.Previous > m.applied) {
		return false
	}
	if t.Begin {
		require.False(m.w.t, m.w.unserved[[2]uint64{t.Holder, t.Sequence}], "whoever doesn't serve doesn't know what is visible")
		m.hub.Begin(freshet.Revision{Epoch: m.epoch, Position: t.Previous})
		m.begun, m.serving, m.applied = true, false, t.Previous
	}
	var untold []freshet.Pattern
	held := m.held
	switch moves := t.Position > m.applied; {
	case t.Holder == m.holder && t.Sequence <= m.counted:
	case t.Holder != m.holder && !t.Begin && len(m.held) > 0 && !moves:
		held = append(slices.Clone(held), t.Quarantine...)
	default:
		if t.Holder != m.holder && !t.Begin {
			untold = slices.DeleteFunc(slices.Clone(m.held), func(p freshet.Pattern) bool { return slices.Contains(t.Quarantine, p) })
		}
		held, m.holder, m.counted = t.Quarantine, t.Holder, t.Sequence
	}
	m.hub.Quarantine(append(slices.Clone(m.held), held...))
	m.w.check(m.w.t)
	for _, c := range t.Commits {
		if c.Revision.Position <= m.applied {
			continue
		}
		c.Floors, untold = append(slices.Clone(c.Floors), untold...), nil
		m.hub.Publish(c.Commit)
		m.applied = c.Revision.Position
		m.w.check(m.w.t)
	}
	if t.Position > m.applied {
		m.hub.Publish(freshet.Commit{Revision: freshet.Revision{Epoch: m.epoch, Position: t.Position}, Floors: untold})
		m.applied = t.Position
		m.w.check(m.w.t)
	}
	m.held = held
	m.hub.Quarantine(held)
	if !m.serving {
		m.serving = true
		m.hub.Serve(freshet.Revision{Epoch: m.epoch, Position: m.applied})
	}
	return true
}
