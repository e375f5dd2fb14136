package reuse

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// A replica may answer with less than the frontier: down to what its readers need,
// which is what they asked for, or the last change of the topic. The answer is stamped
// with what it holds, and kept as such.
func TestReads_replica(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Replicas = true })
	r.hub.Publish(change(110))
	r.hub.Serve(at(200))
	var asked []Since
	answers := func(reached freshet.Revision) {
		r.replayed = func(s Since) freshet.Revision {
			asked = append(asked, s)
			return reached
		}
	}

	answers(at(105))
	o := r.reads(t, at(104))
	require.Equal(t, Since{Frontier: at(200), AtLeast: at(104)}, asked[0])
	require.Equal(t, outcome{stamp: at(105), from: Miss}, o, "the change at 110 may be missing")

	answers(at(150))
	o = r.reads(t, at(190))
	require.Equal(t, Since{Frontier: at(200), AtLeast: at(110)}, asked[1], "nothing has changed since 110")
	require.Equal(t, outcome{stamp: at(200), from: Miss}, o, "the floor rule")
	require.Equal(t, outcome{stamp: at(200), from: Hit}, r.reads(t, at(200)))

	answers(at(200))
	r.reads(t, strong)
	require.Equal(t, Since{Frontier: at(200)}, asked[2], "a strong read is the primary's")
	r.alone = true
	r.reads(t, at(190))
	require.Equal(t, Since{Frontier: at(200), AtLeast: at(190)}, asked[3])
	r.reads(t, strong)
	require.Equal(t, Since{Frontier: at(200)}, asked[4])
}

// Without replicas nobody is asked for less than the frontier.
func TestReads_noReplica(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	var asked Since
	r.replayed = func(s Since) freshet.Revision {
		asked = s
		return s.Frontier
	}
	r.reads(t, at(60))
	require.Equal(t, Since{Frontier: at(100)}, asked)
}

// Who comes while a replica may still answer with less than the frontier joins only if
// the least that it may answer with will do; all who wait together are asked for
// together.
func TestReads_replicaJoin(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Replicas = true })
	q := r.queries()
	var needs []freshet.Revision
	r.replayed = func(s Since) freshet.Revision { // one at a time
		needs = append(needs, s.AtLeast)
		return s.AtLeast
	}
	r.hub.Publish(change(105))
	r.hub.Publish(change(110))
	first := r.read(t.Context(), "", at(105))
	waitFor(t, q.began, "the first query")
	joins := r.read(t.Context(), "", at(104))
	require.Eventually(t, func() bool { return r.waiters() == 2 }, 10*time.Second, time.Millisecond)
	more := r.read(t.Context(), "", at(107))
	r.queued(t, 1)
	most := r.read(t.Context(), "", at(110))
	r.queued(t, 2)
	q.release <- struct{}{}
	require.Equal(t, outcome{body: "1", stamp: at(105), from: Miss}, waitFor(t, first, "the first read"))
	require.Equal(t, outcome{body: "1", stamp: at(105), from: Joined}, waitFor(t, joins, "the read that joins"))
	waitFor(t, q.began, "the second query")
	q.release <- struct{}{}
	require.Equal(t, at(110), waitFor(t, more, "the third read").stamp)
	require.Equal(t, at(110), waitFor(t, most, "the fourth read").stamp)
	require.Equal(t, []freshet.Revision{at(105), at(110)}, needs)
}

// A strong read that shares a query with others makes it the primary's.
func TestReads_replicaJoinedByAStrongRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Replicas = true })
	q := r.queries()
	var asked []Since
	r.replayed = func(s Since) freshet.Revision { // one at a time
		asked = append(asked, s)
		return s.Frontier
	}
	first := r.read(t.Context(), "", strong)
	waitFor(t, q.began, "the first query")
	r.hub.Publish(change(110))
	waits := r.read(t.Context(), "", at(110))
	r.queued(t, 1)
	joins := r.read(t.Context(), "", strong)
	r.queued(t, 2)
	close(q.release)
	for _, read := range []<-chan outcome{first, waits, joins} {
		require.NoError(t, waitFor(t, read, "a read").err)
	}
	require.Equal(t, []Since{{Frontier: at(100)}, {Frontier: at(110)}}, asked)
}
