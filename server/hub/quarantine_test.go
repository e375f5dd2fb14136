package hub

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// F49, F53, F54: of topics in quarantine commits may be missed. Whatever says
// that everything up to a revision has been told tells them first, at that
// revision; what comes in between says only something of its own topics.
func TestQuarantine_isToldFirst(t *testing.T) {
	h := serving(t, Config{})
	s := subscribe(t, h, Since{}, "a", "b", "x")
	h.Quarantine([]freshet.Pattern{"a", "b"})
	require.True(t, h.Quarantined([]string{"x", "b"}))
	require.False(t, h.Quarantined([]string{"x"}))

	h.Publish(commit(110, "x", "a"))
	n := s.Take()
	require.ElementsMatch(t, []string{"x", "a"}, n.Topics)
	require.True(t, n.Partial, "a commit of b may have been missed")

	h.Advance(at(120))
	n = s.TakeAll()
	require.ElementsMatch(t, []string{"a", "b"}, n.Topics)
	require.Equal(t, at(120), n.Revision)
	require.False(t, n.Partial)
	require.Empty(t, s.TakeAll().Topics, "told at this very frontier")

	h.Advance(at(130))
	require.ElementsMatch(t, []string{"a", "b"}, s.TakeAll().Topics)

	// All at once is as good.
	h.Publish(floorCommit(140, "a", "b"))
	h.Publish(commit(150, "x"))
	n = s.Take()
	require.ElementsMatch(t, []string{"a", "b", "x"}, n.Topics)
	require.False(t, n.Partial)

	// Who comes later is no different.
	late := subscribe(t, h, Since{All: at(150)}, "b", "x")
	require.Equal(t, []string{"b"}, late.TakeAll().Topics)
	h.Publish(commit(160, "x"))
	require.True(t, late.Take().Partial)

	h.Publish(floorCommit(170, "a", "b"))
	h.Quarantine(nil)
	require.False(t, h.Quarantined([]string{"a"}))
	s.Take()
	h.Publish(commit(180, "x"))
	require.False(t, s.Take().Partial)
	require.Empty(t, s.TakeAll().Topics)
}

// A source that is held after another one was told of hasn't been told of.
func TestQuarantine_grows(t *testing.T) {
	h := serving(t, Config{})
	s := subscribe(t, h, Since{}, "a", "b")
	h.Quarantine([]freshet.Pattern{"a"})
	require.Equal(t, []string{"a"}, s.TakeAll().Topics)
	h.Quarantine([]freshet.Pattern{"a", "b"})
	require.ElementsMatch(t, []string{"a", "b"}, s.TakeAll().Topics)
}

// Between Begin and Serve there is no frontier; what was marked before it leaves
// with what is held.
func TestQuarantine_whileNotServing(t *testing.T) {
	h := serving(t, Config{})
	s := subscribe(t, h, Since{}, "a", "x")
	h.Quarantine([]freshet.Pattern{"a"})
	h.Publish(commit(110, "x"))
	h.Begin(at(120))
	n := s.TakeAll()
	require.ElementsMatch(t, []string{"a", "x"}, n.Topics)
	require.False(t, n.Partial)
	require.Equal(t, at(110), n.Revision)
}
