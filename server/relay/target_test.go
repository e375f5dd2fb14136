package relay_test

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store/wal"
)

// modelTarget is the part of a feed that follows which needs no database, with a hub that
// is checked after all that it is given.
type modelTarget struct {
	*wal.Following

	w      *world
	hub    *hub.Hub
	insert uint64 // where the WAL ended when the session began
}

func newModelTarget(w *world) *modelTarget {
	m := &modelTarget{w: w, hub: hub.New(hub.Config{})}
	m.Following = wal.NewFollowing(&checkedSink{m.hub, w})
	return m
}

// session begins one, in the world's epoch, while the database's WAL reaches to insert.
func (m *modelTarget) session(insert uint64) {
	at, _, _ := m.Place()
	serving := !m.hub.Frontier().IsZero()
	switch {
	case at.Epoch != m.w.epoch:
		m.hub.Begin(freshet.Revision{Epoch: m.w.epoch, Position: max(1, insert)})
		at, serving = freshet.Revision{Epoch: m.w.epoch}, false
	case !serving:
		at.Position = 0
	}
	m.insert = insert
	m.Start(wal.Start{Applied: at, Incarnation: uint64(m.w.epoch), Serving: serving, Target: insert, TargetTime: m.w.now})
}

// Apply is the feed's.
func (m *modelTarget) Apply(t wal.Told) bool {
	ok := m.Following.Apply(t)
	if ok && t.Begin {
		require.False(m.w.t, m.w.unserved[[2]uint64{t.Holder, t.Sequence}], "whoever doesn't serve doesn't know what is visible")
	}
	return ok
}

// checkedSink checks the world after all that the hub is given.
type checkedSink struct {
	*hub.Hub

	w *world
}

func (s *checkedSink) Begin(rev freshet.Revision) {
	s.Hub.Begin(rev)
	s.w.check(s.w.t)
}

func (s *checkedSink) Publish(c freshet.Commit) {
	s.Hub.Publish(c)
	s.w.check(s.w.t)
}

func (s *checkedSink) Serve(rev freshet.Revision) {
	require.GreaterOrEqual(s.w.t, rev.Position, s.w.target.insert, "it serves what is older than its session")
	s.Hub.Serve(rev)
	s.w.check(s.w.t)
}

func (s *checkedSink) Advance(rev freshet.Revision) {
	s.Hub.Advance(rev)
	s.w.check(s.w.t)
}

func (s *checkedSink) Quarantine(held []freshet.Pattern) {
	s.Hub.Quarantine(held)
	s.w.check(s.w.t)
}

// Current is of the last session's beginning, which the clock has not passed.
func (s *checkedSink) Current(asOf time.Time) {
	require.False(s.w.t, asOf.After(s.w.now))
	s.Hub.Current(asOf)
}
