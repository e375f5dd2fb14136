package hub

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// Whatever is told without proof is counted by its cause, once, and what is
// known exactly is not.
func TestStats_conservative(t *testing.T) {
	h := serving(t, Config{MaxTopics: 2})
	told := func(want Conservative) {
		t.Helper()
		require.Equal(t, want, h.Stats().Conservative)
	}
	h.Publish(commit(110, "gone"))
	h.Publish(commit(120, "b"))
	h.Publish(commit(130, "c"))
	require.Equal(t, at(110), h.Horizon())
	require.EqualValues(t, 1, h.Stats().Evictions)

	subscribe(t, h, Since{}, "b", "gone")
	subscribe(t, h, Since{All: at(100)}, "b", "c")
	subscribe(t, h, Since{All: at(110)}, "gone")
	told(Conservative{})
	want := Conservative{Horizon: 2}
	s := subscribe(t, h, Since{All: at(109)}, "gone", "never", "b")
	require.Len(t, s.Take().Topics, 3)
	told(want)

	h.Publish(floorCommit(140, "b"))
	want.Floor += 3 // three have b
	told(want)
	subscribe(t, h, Since{All: at(135)}, "b", "c")
	want.Floor++
	told(want)

	subscribe(t, h, Since{All: freshet.Revision{Epoch: 6, Position: 900}}, "b", "c")
	want.Epoch++
	told(want)
	subscribe(t, h, Since{Reset: true}, "b")
	subscribe(t, h, Since{Reset: true, All: freshet.Revision{Epoch: 6, Position: 900}}, "b")
	subscribe(t, h, Since{All: freshet.Revision{Epoch: 8, Position: 1}}, "b")
	want.Since += 3
	told(want)

	// A gap: all topics of all subscriptions.
	h.Begin(at(150))
	h.Publish(commit(160, "b"))
	told(want)
	h.Serve(at(160))
	want.Gap += uint64(h.topicsOfAll())
	require.Equal(t, 15, h.topicsOfAll())
	told(want)

	// Another epoch: all subscriptions but those that are due a reset already.
	next := freshet.Revision{Epoch: 8, Position: 5}
	h.Begin(next)
	h.Serve(next)
	want.Epoch += 9 - 4
	told(want)
}

func (h *Hub) topicsOfAll() (n int) {
	for _, s := range h.subscriptions {
		n += s.Topics()
	}
	return n
}
