package hub

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freshet-dev/freshet"
)

// The model knows the true history of a database, every change of it, and
// feeds the hub as a feed would: in order, from some point on, with gaps,
// rewinds and new epochs. It holds the hub to its invariants, not to its
// implementation; it has no table, no dirty sets and no eviction.

var modelTopics = []string{"a", "b", "c", "d/1", "d/2"}

type model struct {
	hub       *Hub
	epoch     freshet.Epoch
	written   uint64           // position of the newest commit
	history   []freshet.Commit // of this epoch
	fed       uint64           // the feed is past this position
	served    bool             // Serve was called since Begin
	began     bool             // Begin was called since the hub served
	last      freshet.Revision // highest frontier seen
	remember  freshet.Revision // a frontier that some reader read a while ago
	held      freshet.Pattern  // in quarantine
	lost      map[uint64]bool  // positions of commits that the feed doesn't see
	let       uint64           // position of what ended the last quarantine
	followers []*follower
}

// follower is a subscription and what it has been told.
type follower struct {
	sub    *Subscription
	topics []string
	epoch  freshet.Epoch
	told   map[string]uint64 // every change up to here, of a topic, is told or needn't be
	excuse map[string]bool   // the topic may be told
	reset  bool              // must begin with a reset
	id     freshet.Revision
	woken  bool
}

func changes(c freshet.Commit, topic string) bool {
	return slices.Contains(c.Topics, topic) ||
		slices.ContainsFunc(c.Floors, func(p freshet.Pattern) bool { return p.Match(topic) })
}

func TestHub_model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			hub:     New(Config{MaxTopics: rapid.IntRange(1, 6).Draw(t, "max topics")}),
			epoch:   1,
			written: 100,
			lost:    map[uint64]bool{},
		}
		m.begin(t, 100)
		t.Repeat(map[string]func(*rapid.T){
			"":          m.check,
			"write":     m.write,
			"feed":      m.feed,
			"advance":   m.advance,
			"serve":     m.serve,
			"gap":       func(t *rapid.T) { m.begin(t, rapid.Uint64Range(m.fed, m.written).Draw(t, "horizon")) },
			"rewind":    func(t *rapid.T) { m.begin(t, rapid.Uint64Range(m.fed-min(m.fed, 30), m.fed).Draw(t, "horizon")) },
			"new epoch": m.newEpoch,
			"subscribe": m.subscribe,
			"close":     m.close,
			"take":      func(t *rapid.T) { m.take(t, m.one(t), false) },
			"take all":  func(t *rapid.T) { m.take(t, m.one(t), true) },
			"hold":      m.hold,
			"lose":      m.lose,
			"let go":    m.letGo,
			"frontier":  func(*rapid.T) { m.remember = m.hub.Frontier() },
		})
		// Once writes stop, everything is told.
		for m.next() != nil {
			m.feed(t)
		}
		m.fed = m.written
		m.hub.Serve(freshet.Revision{Epoch: m.epoch, Position: m.written})
		require.False(t, m.hub.Frontier().IsZero(), "caught up, but not serving")
		m.resumed()
		for _, f := range m.followers {
			m.take(t, f, true)
			for _, topic := range f.topics {
				require.GreaterOrEqual(t, f.told[topic], m.written)
			}
			f.sub.Close()
		}
		require.Zero(t, m.hub.Stats().Subscribed)
	})
}

// next is the first commit that the feed has not told yet.
func (m *model) next() *freshet.Commit {
	for i := range m.history {
		if p := m.history[i].Revision.Position; p > m.fed && !m.lost[p] {
			return &m.history[i]
		}
	}
	return nil
}

func (m *model) write(t *rapid.T) {
	m.written += rapid.Uint64Range(1, 10).Draw(t, "step")
	c := freshet.Commit{
		Revision: freshet.Revision{Epoch: m.epoch, Position: m.written},
		Topics:   rapid.SliceOfNDistinct(rapid.SampledFrom(append([]string{"x", "y", "z"}, modelTopics...)), 0, 4, rapid.ID).Draw(t, "topics"),
	}
	if rapid.IntRange(0, 5).Draw(t, "floor") == 0 {
		c.Floors = []freshet.Pattern{rapid.SampledFrom([]freshet.Pattern{"d/*", "**", "a"}).Draw(t, "pattern")}
	}
	m.history = append(m.history, c)
}

func (m *model) feed(t *rapid.T) {
	c := m.next()
	if c == nil {
		return
	}
	m.fed = c.Revision.Position
	m.hub.Publish(*c)
	m.excuse(func(topic string) bool { return changes(*c, topic) })
}

func (m *model) excuse(topics func(string) bool) {
	for _, f := range m.followers {
		for _, topic := range f.topics {
			f.excuse[topic] = f.excuse[topic] || topics(topic)
		}
	}
}

// reach is how far the feed may claim to be: below the next commit.
func (m *model) reach(t *rapid.T) freshet.Revision {
	end := m.written
	if c := m.next(); c != nil {
		end = c.Revision.Position - 1
	}
	return freshet.Revision{Epoch: m.epoch, Position: rapid.Uint64Range(m.fed, max(m.fed, end)).Draw(t, "position")}
}

func (m *model) advance(t *rapid.T) {
	rev := m.reach(t)
	if m.served {
		m.fed = rev.Position
	}
	m.hub.Advance(rev)
}

func (m *model) serve(t *rapid.T) {
	for m.fed < m.let { // a feed serves once it has all that was written when it began
		m.feed(t)
	}
	rev := m.reach(t)
	m.fed = rev.Position
	m.hub.Serve(rev)
	m.served = true
}

func (m *model) begin(_ *rapid.T, horizon uint64) {
	m.hub.Begin(freshet.Revision{Epoch: m.epoch, Position: horizon})
	m.fed, m.served, m.began = horizon, false, true
}

// resumed excuses every topic once the hub serves again after Begin: any may
// have changed in the gap.
func (m *model) resumed() {
	if m.began && !m.hub.Frontier().IsZero() {
		m.began = false
		m.excuse(func(string) bool { return true })
	}
}

func (m *model) newEpoch(t *rapid.T) {
	m.epoch++
	m.history, m.lost, m.let = nil, map[uint64]bool{}, 0
	m.written = rapid.Uint64Range(1, 300).Draw(t, "start")
	m.begin(t, m.written)
}

func (m *model) subscribe(t *rapid.T) {
	f := &follower{
		topics: rapid.SliceOfNDistinct(rapid.SampledFrom(modelTopics), 1, 4, rapid.ID).Draw(t, "topics"),
		epoch:  m.epoch, told: map[string]uint64{}, excuse: map[string]bool{},
	}
	frontier := m.hub.Frontier()
	since := Since{ByTopic: map[string]freshet.Revision{}}
	for _, topic := range f.topics {
		var rev freshet.Revision
		switch rapid.IntRange(0, 9).Draw(t, "kind of since") {
		case 0, 1, 2:
			f.told[topic] = frontier.Position
		case 3:
			rev = freshet.Revision{Epoch: m.epoch + 1 - 2*freshet.Epoch(rapid.IntRange(0, 1).Draw(t, "older")), Position: 5}
			f.reset = f.reset || rev.Epoch != 0
			f.told[topic] = frontier.Position
		default:
			rev = freshet.Revision{Epoch: m.epoch, Position: rapid.Uint64Range(1, m.written+5).Draw(t, "since")}
			f.told[topic] = rev.Position
			f.excuse[topic] = rev.Position < m.hub.Horizon().Position || m.held.Match(topic) ||
				slices.ContainsFunc(m.history, func(c freshet.Commit) bool {
					return changes(c, topic) && c.Revision.Position > rev.Position && c.Revision.Position <= m.fed
				})
		}
		if rev.Epoch == 0 {
			rev = freshet.Revision{}
		}
		since.ByTopic[topic] = rev
	}
	sub, err := m.hub.Subscribe(f.topics, since)
	if frontier.IsZero() {
		require.ErrorIs(t, err, ErrNotServing)
		return
	}
	require.NoError(t, err)
	f.sub = sub
	m.followers = append(m.followers, f)
}

func (m *model) one(t *rapid.T) *follower {
	if len(m.followers) == 0 {
		t.Skip("nobody subscribes")
	}
	return rapid.SampledFrom(m.followers).Draw(t, "follower")
}

func (m *model) close(t *rapid.T) {
	f := m.one(t)
	f.sub.Close()
	m.followers = slices.DeleteFunc(m.followers, func(o *follower) bool { return o == f })
}

// hold puts topics in quarantine, before the feed passes anything that it loses.
func (m *model) hold(t *rapid.T) {
	if m.held != "" {
		t.Skip("held already")
	}
	m.held = rapid.SampledFrom([]freshet.Pattern{"d/*", "a"}).Draw(t, "held")
	m.hub.Quarantine([]freshet.Pattern{m.held})
}

// lose writes a commit that the feed won't tell.
func (m *model) lose(t *rapid.T) {
	if m.held == "" {
		t.Skip("nothing is held")
	}
	m.written++
	m.lost[m.written] = true
	topic := map[freshet.Pattern]string{"d/*": "d/1", "a": "a"}[m.held]
	m.history = append(m.history, freshet.Commit{Revision: freshet.Revision{Epoch: m.epoch, Position: m.written}, Topics: []string{topic}})
}

// letGo tells all that was held, once everything that was lost is behind.
func (m *model) letGo(t *rapid.T) {
	for m.next() != nil {
		m.feed(t)
	}
	if m.held == "" {
		return
	}
	m.written++
	m.fed = m.written
	c := freshet.Commit{Revision: freshet.Revision{Epoch: m.epoch, Position: m.written}, Floors: []freshet.Pattern{m.held}}
	m.history = append(m.history, c)
	m.hub.Publish(c)
	m.excuse(m.held.Match)
	m.hub.Quarantine(nil)
	m.held, m.let = "", m.written
}

func (m *model) take(t *rapid.T, f *follower, all bool) {
	select {
	case <-f.sub.Wake():
		f.woken = true
	default:
	}
	held := m.held != "" && slices.ContainsFunc(f.topics, m.held.Match)
	take := f.sub.Take
	if all {
		take = f.sub.TakeAll
		for _, topic := range f.topics {
			f.excuse[topic] = f.excuse[topic] || m.held.Match(topic)
			f.woken = f.woken || m.held.Match(topic)
		}
	}
	n := take()
	require.Equal(t, m.hub.Frontier(), n.Frontier)
	if n.Reset || len(n.Topics) > 0 {
		require.True(t, f.woken, "something to tell, and nobody was woken: %+v", n)
	}
	f.woken = false
	if !n.Frontier.IsZero() {
		require.Equal(t, f.reset || f.epoch != m.epoch, n.Reset, "reset")
	}
	if n.Reset {
		require.Empty(t, n.Topics)
		f.reset, f.epoch, f.id = false, m.epoch, n.Frontier
		for _, topic := range f.topics {
			f.told[topic], f.excuse[topic] = n.Frontier.Position, false
		}
		return
	}
	if f.reset {
		require.Empty(t, n.Topics, "told before its reset")
		return
	}
	id := n.Revision.Max(n.Frontier)
	if held && !all {
		id = n.Revision // the frontier isn't to be told beside it
	}
	if id.IsZero() {
		return
	}
	if n.Partial {
		require.True(t, held && !all, "partial, and nothing is left out")
		for _, topic := range n.Topics {
			require.True(t, f.excuse[topic], "%q is told, but nothing happened to it", topic)
			f.excuse[topic] = false
			f.told[topic] = max(f.told[topic], n.Revision.Position)
		}
		return
	}
	require.False(t, id.Less(f.id), "ids go back: %v after %v", id, f.id)
	require.False(t, len(n.Topics) > 0 && n.Revision.Less(f.id), "ids go back: %v after %v", n.Revision, f.id)
	f.id = id
	for _, topic := range n.Topics {
		require.True(t, f.excuse[topic], "%q is told, but nothing happened to it", topic)
		f.excuse[topic] = false
	}
	if f.epoch != m.epoch {
		return // the rest of an ended epoch; the reset is still to come
	}
	for _, topic := range f.topics {
		for _, c := range m.history {
			p := c.Revision.Position
			if p > f.told[topic] && p <= id.Position && changes(c, topic) {
				require.Contains(t, n.Topics, topic, "change at %d lost: id %v leaves before it", p, id)
				require.GreaterOrEqual(t, n.Revision.Position, p)
			}
		}
		f.told[topic] = max(f.told[topic], id.Position)
	}
}

// check holds in every state: the frontier never falls, a floor is sound for
// every frontier read before, and not higher than it need be.
func (m *model) check(t *rapid.T) {
	m.resumed()
	if f := m.hub.Frontier(); !f.IsZero() {
		require.Equal(t, freshet.Revision{Epoch: m.epoch, Position: m.fed}, f)
		require.False(t, f.Less(m.last), "the frontier falls: %v after %v", f, m.last)
		m.last = f
	}
	horizon := m.hub.Horizon().Position
	for _, topic := range append([]string{"x"}, modelTopics...) {
		floor := m.hub.Floor([]string{topic})
		latest := uint64(0)
		for _, c := range m.history {
			p := c.Revision.Position
			if m.lost[p] && m.hub.Quarantined([]string{topic}) {
				continue
			}
			if changes(c, topic) && p <= max(m.fed, m.remember.Position) {
				if m.remember.Epoch == m.epoch && p <= m.remember.Position {
					require.GreaterOrEqual(t, floor.Position, p, "floor of %q below its change", topic)
				}
				// What was lost is told with what ended its quarantine, which a
				// history that is told anew may not have come to.
				if p <= m.fed && (!m.lost[p] || !m.hub.Frontier().IsZero()) {
					latest = max(latest, p)
				}
			}
		}
		require.Equal(t, m.epoch, floor.Epoch)
		require.GreaterOrEqual(t, floor.Position, latest, "floor of %q", topic)
		if !m.hub.Frontier().IsZero() {
			require.LessOrEqual(t, floor.Position, max(latest, horizon), "floor of %q is needlessly high", topic)
		}
	}
	require.LessOrEqual(t, m.hub.Stats().Topics, m.hub.table.max)
}
