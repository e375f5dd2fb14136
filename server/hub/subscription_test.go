package hub

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

func TestSubscription_coalescesPerTopic(t *testing.T) {
	h := serving(t, Config{})
	s := subscribe(t, h, Since{}, "a", "b", "c", "a")
	require.Equal(t, 3, s.Topics(), "duplicates count once")
	require.False(t, woken(s))
	require.Equal(t, Notice{Frontier: at(100)}, s.Take())

	h.Publish(commit(110, "a", "x"))
	h.Publish(commit(120, "b"))
	h.Publish(commit(130, "a"))
	h.Publish(commit(140, "x"))
	require.True(t, woken(s))
	require.Equal(t, Notice{Topics: []string{"a", "b"}, Revision: at(130), Frontier: at(140)}, s.Take())
	require.Equal(t, Notice{Frontier: at(140)}, s.Take())
	require.False(t, woken(s))

	h.Publish(floorCommit(150, "**"))
	require.True(t, woken(s))
	n := s.Take()
	require.ElementsMatch(t, []string{"a", "b", "c"}, n.Topics)
	require.Equal(t, at(150), n.Revision)

	s.Close()
	s.Close()
	h.Publish(commit(160, "a"))
	require.Zero(t, s.Take())
	require.Zero(t, h.Stats().Subscriptions)
	require.Zero(t, h.Stats().Subscribed)
}

func TestSubscription_catchUp(t *testing.T) {
	h := serving(t, Config{MaxTopics: 3})
	for i, topic := range []string{"gone", "b", "c", "d"} {
		h.Publish(commit(110+10*uint64(i), topic))
	}
	h.Publish(floorCommit(150, "f/*"))
	require.Equal(t, at(110), h.Horizon())

	other := freshet.Revision{Epoch: 6, Position: 1 << 40}
	later := freshet.Revision{Epoch: 8, Position: 1}
	for name, test := range map[string]struct {
		since  Since
		topics []string
		want   Notice
	}{
		"none":                         {Since{}, []string{"b", "c"}, Notice{}},
		"changed since":                {Since{All: at(125)}, []string{"b", "c", "d"}, Notice{Topics: []string{"c", "d"}, Revision: at(140)}},
		"exactly at the change":        {Since{All: at(140)}, []string{"b", "c", "d"}, Notice{}},
		"unknown topic, at horizon":    {Since{All: at(110)}, []string{"gone"}, Notice{}},
		"unknown topic, below horizon": {Since{All: at(109)}, []string{"gone"}, Notice{Topics: []string{"gone"}, Revision: at(110)}},
		"floor":                        {Since{All: at(149)}, []string{"f/1", "b"}, Notice{Topics: []string{"f/1"}, Revision: at(150)}},
		"above the frontier":           {Since{All: at(900)}, []string{"b", "c"}, Notice{}},
		"by topic":                     {Since{ByTopic: map[string]freshet.Revision{"b": at(120), "c": at(120)}}, []string{"b", "c", "d"}, Notice{Topics: []string{"c"}, Revision: at(130)}},
		"by topic, not that one":       {Since{All: at(125), ByTopic: map[string]freshet.Revision{"c": {}, "zzz": other}}, []string{"b", "c", "d"}, Notice{Topics: []string{"d"}, Revision: at(140)}},
		"older epoch":                  {Since{All: other}, []string{"b"}, Notice{Reset: true}},
		"later epoch":                  {Since{All: later}, []string{"b"}, Notice{Reset: true}},
		"one topic of another epoch":   {Since{All: at(100), ByTopic: map[string]freshet.Revision{"c": other}}, []string{"b", "c"}, Notice{Reset: true}},
		"asked for":                    {Since{All: at(100), Reset: true}, []string{"b", "c"}, Notice{Reset: true}},
	} {
		t.Run(name, func(t *testing.T) {
			s := subscribe(t, h, test.since, test.topics...)
			require.Equal(t, test.want.Reset || len(test.want.Topics) > 0, woken(s))
			test.want.Frontier = at(150)
			require.Equal(t, test.want, s.Take())
			require.Equal(t, Notice{Frontier: at(150)}, s.Take())
			h.WakeAll()
			require.True(t, woken(s))
		})
	}
}

func TestSubscription_acrossAGap(t *testing.T) {
	h := serving(t, Config{})
	s := subscribe(t, h, Since{}, "a", "b")
	h.Publish(commit(110, "a"))
	h.Begin(at(150)) // the gap: (110, 150]
	h.Publish(commit(160, "b"))
	require.Equal(t, Notice{Topics: []string{"a"}, Revision: at(110)}, s.Take(),
		"what was known before the gap may be told, what comes after it may not (I6)")
	require.Zero(t, s.Take())
	woken(s)

	h.Serve(at(170))
	require.True(t, woken(s))
	require.Equal(t, Notice{Topics: []string{"a", "b"}, Revision: at(170), Frontier: at(170)}, s.Take())
	require.Equal(t, at(160), h.Floor([]string{"b"}))
}

// A reset that is due when a gap begins has no revision until the hub serves again. A
// reader that looks meanwhile is told nothing, and woken then.
func TestSubscription_resetAcrossAGap(t *testing.T) {
	h := serving(t, Config{})
	foreign := freshet.Revision{Epoch: 9, Position: 5}
	s := subscribe(t, h, Since{ByTopic: map[string]freshet.Revision{"a": foreign, "b": at(1)}}, "a", "b")
	h.Begin(at(100))
	require.True(t, woken(s))
	require.Zero(t, s.Take())
	h.Serve(at(100))
	require.True(t, woken(s), "the reset can be told now")
	require.Equal(t, Notice{Reset: true, Frontier: at(100)}, s.Take())
}

func TestSubscription_acrossEpochs(t *testing.T) {
	h := serving(t, Config{})
	s := subscribe(t, h, Since{}, "a", "b")
	idle := subscribe(t, h, Since{All: freshet.Revision{Epoch: 1, Position: 1}}, "a")
	h.Publish(commit(110, "a"))
	next := func(p uint64) freshet.Revision { return freshet.Revision{Epoch: 8, Position: p} }
	h.Begin(next(5))
	h.Begin(next(6))
	require.Zero(t, idle.Take(), "nothing may be told before the reset, and that has no revision yet")
	h.Serve(next(9))
	h.Publish(freshet.Commit{Revision: next(10), Topics: []string{"b"}})
	for _, one := range []*Subscription{s, idle} {
		require.True(t, woken(one))
		require.Equal(t, Notice{Reset: true, Frontier: next(10)}, one.Take(), "the reset covers what came before it")
		require.Equal(t, Notice{Frontier: next(10)}, one.Take())
	}
	h.Publish(freshet.Commit{Revision: next(11), Topics: []string{"b"}})
	require.Equal(t, Notice{Topics: []string{"b"}, Revision: next(11), Frontier: next(11)}, s.Take())
}

func TestSubscription_repeatedCommitIsToldAgainNeverBackwards(t *testing.T) {
	h := serving(t, Config{})
	s := subscribe(t, h, Since{}, "a")
	h.Publish(commit(120, "b"))
	h.Publish(commit(110, "a"))
	require.Equal(t, Notice{Topics: []string{"a"}, Revision: at(120), Frontier: at(120)}, s.Take())
}

func TestSubscription_leavingKeepsTheOthers(t *testing.T) {
	h := serving(t, Config{})
	one, two, three := subscribe(t, h, Since{}, "a", "b"), subscribe(t, h, Since{}, "b", "a"), subscribe(t, h, Since{}, "a")
	one.Close()
	h.Publish(commit(110, "a"))
	require.Equal(t, []string{"a"}, two.Take().Topics)
	require.Equal(t, []string{"a"}, three.Take().Topics)
	two.Close()
	h.Publish(commit(120, "a", "b"))
	require.Equal(t, []string{"a"}, three.Take().Topics)
	three.Close()
	require.Equal(t, Stats{Topics: 2}, h.Stats())
}

// A reader without a goroutine is called instead of woken, also for what no
// topic shows, and only for what comes after Notify.
func TestSubscription_notify(t *testing.T) {
	h := New(Config{})
	h.Begin(at(100))
	h.Serve(at(100))
	s, err := h.Subscribe([]string{"a", "b"}, Since{})
	require.NoError(t, err)
	h.Publish(freshet.Commit{Revision: at(101), Topics: []string{"a"}})
	calls := 0
	s.Notify(func() { calls++ })
	require.Zero(t, calls)
	require.Equal(t, []string{"a"}, s.Take().Topics)
	h.Publish(freshet.Commit{Revision: at(102), Topics: []string{"b", "x"}})
	h.Publish(freshet.Commit{Revision: at(103), Topics: []string{"a"}})
	require.Equal(t, 1, calls, "once until it takes")
	require.Equal(t, []string{"b", "a"}, s.Take().Topics)
	h.WakeAll()
	require.Equal(t, 2, calls)
	s.Close()
	h.Publish(freshet.Commit{Revision: at(104), Topics: []string{"a"}})
	h.WakeAll()
	require.Equal(t, 2, calls)
}
