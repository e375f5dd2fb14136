package reuse

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
)

// F54: of topics in quarantine nothing is kept, nothing that was kept is given,
// and no query is shared. Each answer is stamped as a query of its own.
func TestReads_F54_quarantine(t *testing.T) {
	r := newRig(t, nil)
	q := r.queries()
	close(q.release)
	require.Equal(t, outcome{"1", at(100), Miss, nil}, r.reads(t, at(100)))
	require.Equal(t, Hit, r.reads(t, at(100)).from)

	r.hub.Quarantine([]freshet.Pattern{"**"})
	r.hub.Advance(at(110)) // past a commit that was lost
	require.Equal(t, outcome{"2", at(110), Miss, nil}, r.reads(t, at(100)))
	require.Equal(t, outcome{"3", at(110), Miss, nil}, r.reads(t, at(110)))
	require.Equal(t, "4", r.reads(t, strong).body, "strong")

	// It ends with a change of all its topics, so what was kept before doesn't do.
	r.hub.Publish(freshet.Commit{Revision: at(120), Floors: []freshet.Pattern{"**"}})
	r.hub.Quarantine(nil)
	require.Equal(t, outcome{"5", at(120), Miss, nil}, r.reads(t, at(120)))
	require.Equal(t, outcome{"5", at(120), Hit, nil}, r.reads(t, at(120)))
	kept, _ := r.made.cache.size()
	require.Equal(t, 1, kept)
}

// Reads that come together don't share a query, and one that was on its way when
// the quarantine began isn't kept.
func TestReads_F54_quarantineIsNotShared(t *testing.T) {
	r := newRig(t, nil)
	q := r.queries()
	before := r.read(t.Context(), "", at(100))
	waitFor(t, q.began, "the query")
	r.hub.Quarantine([]freshet.Pattern{"**"})
	one, other := r.read(t.Context(), "", at(100)), r.read(t.Context(), "", strong)
	waitFor(t, q.began, "a query of its own")
	waitFor(t, q.began, "another")
	close(q.release)
	for _, o := range []<-chan outcome{before, one, other} {
		require.Equal(t, Miss, waitFor(t, o, "an answer").from)
	}
	kept, _ := r.made.cache.size()
	require.Zero(t, kept)
}

// busyHub has a commit come right after each look at what a read depends on.
type busyHub struct {
	*hub.Hub
	next uint64
}

func (h *busyHub) Floor(topics []string) freshet.Revision {
	defer func() {
		h.next++
		h.Publish(change(h.next))
	}()
	return h.Hub.Floor(topics)
}

// The frontier is read before the topics. In the other order the commit that
// comes in between would be in the stamp and not in the answer.
func TestReads_frontierBeforeTopics(t *testing.T) {
	node := &busyHub{}
	r := newRig(t, func(c *Config) {
		node.Hub, node.next = c.Node.(*hub.Hub), 100
		c.Node = node
	})
	close(r.queries().release)
	// The query begins after the look, and so after the commit that came then.
	require.Equal(t, outcome{"1", at(101), Miss, nil}, r.reads(t, at(100)))
	require.Equal(t, outcome{"1", at(101), Hit, nil}, r.reads(t, at(100)))
}
