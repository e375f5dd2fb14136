package wal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store/wal"
)

// publishedTo keeps the commits that a sink is given.
type publishedTo struct {
	*hub.Hub

	commits []freshet.Commit
}

func (s *publishedTo) Publish(c freshet.Commit) {
	s.commits = append(s.commits, c)
	s.Hub.Publish(c)
}

// What another holder had in quarantine is told anew with the first commit of this one,
// and why, too, if that commit says why it tells what.
func TestFollowing_whyOfQuarantine(t *testing.T) {
	at := func(position uint64) freshet.Revision { return freshet.Revision{Epoch: 1, Position: position} }
	for _, explained := range []bool{false, true} {
		sink := &publishedTo{Hub: hub.New(hub.Config{})}
		w := wal.NewFollowing(sink)
		sink.Begin(at(10))
		sink.Serve(at(10))
		w.Start(wal.Start{Applied: at(10), Incarnation: 1, Serving: true, Target: 10})
		held := []freshet.Pattern{"x/*"}
		require.True(t, w.Apply(wal.Told{Epoch: 1, Incarnation: 1, Holder: 1, Sequence: 1, Previous: 10, Position: 20, Quarantine: held}))
		c := freshet.Commit{Revision: at(30), Topics: []string{"a"}}
		var want []freshet.Change
		if explained {
			c.Changes = []freshet.Change{{Topic: "a", What: freshet.Inserted, Revision: at(30)}}
			want = append([]freshet.Change{{Pattern: "x/*", What: freshet.Unsure, Revision: at(30)}}, c.Changes...)
		}
		require.True(t, w.Apply(wal.Told{Epoch: 1, Incarnation: 1, Holder: 2, Sequence: 1, Previous: 20, Position: 30, Commits: []wal.ToldCommit{{Commit: c}}}))
		require.Len(t, sink.commits, 1)
		require.Equal(t, held, sink.commits[0].Floors)
		require.Equal(t, want, sink.commits[0].Changes)
	}
}
