package hub

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freshet-dev/freshet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is a position in epoch 7, in which most tests play.
func at(position uint64) freshet.Revision { return freshet.Revision{Epoch: 7, Position: position} }

func commit(position uint64, topics ...string) freshet.Commit {
	return freshet.Commit{Revision: at(position), Topics: topics}
}

func floorCommit(position uint64, patterns ...freshet.Pattern) freshet.Commit {
	return freshet.Commit{Revision: at(position), Floors: patterns}
}

// serving returns a hub that serves at position 100, complete since then.
func serving(t *testing.T, c Config) *Hub {
	t.Helper()
	h := New(c)
	h.Begin(at(100))
	h.Serve(at(100))
	return h
}

func subscribe(t *testing.T, h *Hub, since Since, topics ...string) *Subscription {
	t.Helper()
	s, err := h.Subscribe(topics, since)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// woken reports whether the reader of s was woken since it was last asked.
func woken(s *Subscription) bool {
	select {
	case <-s.Wake():
		return true
	default:
		return false
	}
}

func TestHub_servesOnlyFromServeOn(t *testing.T) {
	h := New(Config{})
	require.Zero(t, h.Frontier())
	require.Zero(t, h.Floor([]string{"a"}))
	require.Equal(t, Never, h.Lag())
	_, err := h.Subscribe([]string{"a"}, Since{})
	require.ErrorIs(t, err, ErrNotServing)

	h.Begin(at(100))
	h.Advance(at(105))
	h.Publish(commit(110, "a"))
	require.Zero(t, h.Frontier())
	require.Equal(t, at(100), h.Horizon())
	_, err = h.Subscribe([]string{"a"}, Since{})
	require.ErrorIs(t, err, ErrNotServing)

	h.Serve(at(108))
	require.Equal(t, at(110), h.Frontier(), "what was published is part of it")
	h.Advance(at(109))
	require.Equal(t, at(110), h.Frontier(), "never back")
	h.Advance(at(120))
	require.Equal(t, at(120), h.Frontier())
	h.Serve(at(130))
	require.Equal(t, at(130), h.Frontier(), "Serve while serving is Advance")
}

func TestHub_refusesAnotherEpochLoudly(t *testing.T) {
	h := New(Config{})
	require.Panics(t, func() { h.Publish(commit(1, "a")) }, "before Begin")
	require.Panics(t, func() { h.Begin(freshet.Revision{}) })
	h.Begin(at(1))
	require.Panics(t, func() { h.Serve(freshet.Revision{Epoch: 8, Position: 5}) })
	require.Panics(t, func() { h.Publish(freshet.Commit{Revision: freshet.Revision{Epoch: 6, Position: 5}}) })
}

func TestHub_floor(t *testing.T) {
	h := serving(t, Config{})
	require.Equal(t, at(100), h.Floor([]string{"x"}), "not in the table: the horizon")
	require.Equal(t, at(100), h.Floor(nil))
	h.Publish(commit(110, "a", "b/1"))
	h.Publish(commit(120, "c"))
	require.Equal(t, at(110), h.Floor([]string{"a", "x"}))
	require.Equal(t, at(120), h.Floor([]string{"c", "a"}))
	h.Publish(floorCommit(130, "b/*"))
	require.Equal(t, at(130), h.Floor([]string{"b/1"}))
	require.Equal(t, at(130), h.Floor([]string{"b/never-seen"}))
	require.Equal(t, at(110), h.Floor([]string{"a"}))
	h.Publish(commit(140, "b/1"))
	require.Equal(t, at(140), h.Floor([]string{"b/1"}))
}

func TestHub_evictsTheOldestAndRaisesTheHorizon(t *testing.T) {
	h := serving(t, Config{MaxTopics: 2})
	s := subscribe(t, h, Since{}, "a")
	h.Publish(commit(110, "a"))
	h.Publish(commit(120, "b"))
	h.Publish(floorCommit(115, "z/*")) // late: counts as told now, at 120
	h.Publish(commit(130, "a"))        // a is now newer than b
	h.Publish(commit(140, "c"))
	require.Equal(t, at(120), h.Horizon())
	require.Equal(t, at(130), h.Floor([]string{"a"}))
	require.Equal(t, at(120), h.Floor([]string{"b"}))
	require.Equal(t, at(120), h.Floor([]string{"z/1"}))
	require.Equal(t, Stats{Topics: 2, Subscribed: 1, Subscriptions: 1, Evictions: 1}, h.Stats(),
		"a floor at or below the horizon says nothing any more")

	// A commit of more topics than there is room for.
	h.Publish(commit(150, "d", "e", "f"))
	require.Equal(t, at(150), h.Horizon())
	require.Equal(t, at(150), h.Floor([]string{"d"}))
	require.Equal(t, at(150), h.Floor([]string{"unknown"}))
	require.Equal(t, Notice{Topics: []string{"a"}, Revision: at(130), Frontier: at(150)}, s.Take(),
		"an evicted topic stays subscribed and dirty")
	h.Publish(commit(160, "a"))
	require.Equal(t, []string{"a"}, s.Take().Topics)
}

// An eviction says something of the floors at or below the new horizon, and of
// no other.
func TestHub_evictionKeepsTheFloorsAboveTheHorizon(t *testing.T) {
	h := serving(t, Config{MaxTopics: 1})
	h.Publish(commit(110, "a"))
	h.Publish(floorCommit(111, "y/*"))
	h.Publish(floorCommit(130, "z/*"))
	h.Publish(commit(140, "b")) // a is forgotten
	require.Equal(t, at(110), h.Horizon())
	require.Equal(t, at(111), h.Floor([]string{"y/1"}))
	require.Equal(t, at(130), h.Floor([]string{"z/1"}))
	require.Equal(t, 2, h.Stats().Floors)
}

func TestHub_beginBelowWhatWasServedDoesNotServeAgainTooEarly(t *testing.T) {
	h := serving(t, Config{})
	h.Publish(commit(200, "a"))
	h.Begin(at(150))
	h.Publish(commit(160, "b"))
	h.Serve(at(160))
	require.Zero(t, h.Frontier(), "I3")
	require.Equal(t, at(200), h.Floor([]string{"b"}),
		"a reader may have read frontier 200 before Begin: the table can't tell what it knew")
	h.Publish(commit(200, "a"))
	require.Equal(t, at(200), h.Frontier())
	require.Equal(t, at(160), h.Floor([]string{"b"}))

	h.Begin(at(190))
	h.Serve(at(190))
	h.Advance(at(199))
	require.Zero(t, h.Frontier())
	h.Advance(at(205))
	require.Equal(t, at(205), h.Frontier())
}

func TestHub_lagIsTheTimeSinceCurrent(t *testing.T) {
	h := New(Config{})
	now := time.Now()
	h.Current(now.Add(-time.Hour))
	require.GreaterOrEqual(t, h.Lag(), time.Hour)
	h.Current(now.Add(-2 * time.Hour))
	require.Less(t, h.Lag(), 2*time.Hour, "an earlier time is ignored")
	h.Current(now.Add(time.Hour))
	require.Zero(t, h.Lag(), "never negative")
}

func TestHub_followers(t *testing.T) {
	h := serving(t, Config{})
	one := subscribe(t, h, Since{}, "a", "b")
	two := subscribe(t, h, Since{}, "b")
	h.Publish(commit(110, "c"))
	require.Equal(t, 1, h.Followers([]string{"a"}))
	require.Equal(t, 2, h.Followers([]string{"a", "b", "c"}))
	require.Zero(t, h.Followers([]string{"c", "d"}))
	two.Close()
	require.Equal(t, 1, h.Followers([]string{"a", "b"}))
	one.Close()
	require.Zero(t, h.Followers([]string{"a", "b"}))
}

// Whoever asks what costs hears of each change of a topic, and for how many it is news.
func TestHub_OnChanged(t *testing.T) {
	h := serving(t, Config{})
	a, b := subscribe(t, h, Since{}, "x/1", "y"), subscribe(t, h, Since{}, "x/1")
	type change struct {
		topic   string
		notices int
	}
	var heard []change
	h.OnChanged(func(topic string, notices int) { heard = append(heard, change{topic, notices}) })
	h.Publish(commit(101, "x/1"))
	a.Take()
	h.Publish(commit(102, "x/1", "nobody"))
	b.Take()
	h.Publish(floorCommit(103, "x/*"))
	require.Equal(t, []change{{"x/1", 2}, {"x/1", 1}, {"nobody", 0}, {"x/1", 1}}, heard)
	h.OnChanged(nil)
	h.Publish(commit(104, "y"))
	require.Len(t, heard, 4)
}
