package causes_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/causes"
)

func at(position uint64) freshet.Revision { return freshet.Revision{Epoch: 1, Position: position} }

func told(position uint64, topics ...string) freshet.Commit {
	c := freshet.Commit{Revision: at(position), Topics: topics}
	for _, topic := range topics {
		c.Changes = append(c.Changes, freshet.Change{Topic: topic, What: freshet.Inserted, Table: "public.t", Revision: at(position)})
	}
	return c
}

func TestLog_findsTheNewestChangeUpToARevision(t *testing.T) {
	l := causes.New(100)
	l.Begin()
	l.Serve(at(5))
	l.Record(told(10, "a", "b"))
	l.Record(told(20, "a"))
	l.Record(freshet.Commit{Revision: at(30), Floors: []freshet.Pattern{"x/*"}, Changes: []freshet.Change{
		{Pattern: "x/*", What: freshet.Truncated, Table: "public.x", Revision: at(30)},
	}})
	l.Record(freshet.Commit{Revision: at(40), Topics: []string{"b"}}) // of another node, which doesn't say why

	for _, c := range []struct {
		topics []string
		upTo   freshet.Revision
		topic  string
		what   freshet.ChangeKind
		at     uint64
	}{
		{[]string{"a"}, at(20), "a", freshet.Inserted, 20},
		{[]string{"a"}, at(19), "a", freshet.Inserted, 10},
		{[]string{"b", "a"}, at(10), "b", freshet.Inserted, 10}, // both: the first
		{[]string{"b", "a"}, at(25), "a", freshet.Inserted, 20}, // the newest, whichever
		{[]string{"a"}, at(9), "", freshet.Began, 5},
		{[]string{"c"}, at(50), "", freshet.Began, 5},
		{[]string{"x/1"}, at(29), "", freshet.Began, 5},
		{[]string{"x/1"}, at(30), "", freshet.Truncated, 30},
		{[]string{"b"}, at(40), "b", freshet.Unknown, 40},
	} {
		change, ok := l.Of(c.topics, c.upTo)
		require.True(t, ok, "%v", c)
		require.Equal(t, c.topic, change.Topic, "%v", c)
		require.Equal(t, c.what, change.What, "%v", c)
		require.Equal(t, at(c.at), change.Revision, "%v", c)
	}
	for _, unknown := range []freshet.Revision{at(4), {}, {Epoch: 2, Position: 50}} {
		_, ok := l.Of([]string{"a"}, unknown)
		require.False(t, ok, "%v", unknown)
	}

	l.Begin() // another epoch
	require.Zero(t, l.Len())
	_, ok := l.Of([]string{"a"}, at(50))
	require.False(t, ok)
}

// G7: whatever is written, it remembers so many, the newest.
func TestLog_isBounded(t *testing.T) {
	for _, limit := range []int{1, 2, 7, 64} {
		l := causes.New(limit)
		random := rand.New(rand.NewPCG(1, uint64(limit))) //nolint:gosec // a test's
		var all []freshet.Change
		for i := range uint64(1000) {
			position := 10 * (i + 1)
			c := told(position, fmt.Sprint(random.IntN(9)))
			if random.IntN(10) == 0 {
				c = freshet.Commit{Revision: at(position), Changes: []freshet.Change{{Pattern: "*", What: freshet.Updated, Revision: at(position)}}}
			}
			l.Record(c)
			all = append(all, c.Changes...)
			require.Equal(t, min(limit, len(all)), l.Len())

			topic, upTo := fmt.Sprint(random.IntN(9)), at(position-10*random.Uint64N(10))
			want := freshet.Change{}
			for _, change := range all[len(all)-l.Len():] {
				if (change.Topic == topic || change.Pattern != "") && change.Revision.Compare(upTo) <= 0 {
					want = change
				}
			}
			found, ok := l.Of([]string{topic}, upTo)
			require.Equal(t, want, found)
			require.Equal(t, want.What != "", ok)
		}
	}
}

// Whoever asks names a revision: an old one of a busy topic must not cost a walk
// through all.
func TestLog_looksAtSoManyOfOneTopic(t *testing.T) {
	l := causes.New(10_000)
	for i := range uint64(5000) {
		l.Record(told(i+1, "busy"))
	}
	_, ok := l.Of([]string{"busy"}, at(5000-99))
	require.True(t, ok)
	_, ok = l.Of([]string{"busy"}, at(5000-100))
	require.False(t, ok)
}
