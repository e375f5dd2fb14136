package relay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	relayv1 "github.com/freshet-dev/freshet/gen/freshet/relay/v1"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/server/relay"
	"github.com/freshet-dev/freshet/store/wal"
)

// toldTo takes what a follower is told.
type toldTo struct{ told []wal.Told }

func (*toldTo) Place() (at freshet.Revision, incarnation uint64, begun bool) {
	return freshet.Revision{Epoch: 1, Position: 1}, 1, true
}

func (m *toldTo) Apply(t wal.Told) bool {
	m.told = append(m.told, t)
	return true
}

// relayed is what a holder's frame says of a commit, and what a follower is told of it.
func relayed(t testing.TB, limit int, c freshet.Commit, xid uint32) (*relayv1.Frame, freshet.Commit) {
	t.Helper()
	p := relay.NewPublisher(hub.New(hub.Config{}))
	p.Turn(true, limit)
	p.Begin(freshet.Revision{Epoch: 1, Position: 1})
	p.Take(false) // that it is there
	p.BeforeTold(nil)(xid, c)
	p.Publish(c)
	frames := p.Take(false)
	require.Len(t, frames, 1)
	frames[0].Holder, frames[0].Incarnation = 1, 1
	data, err := proto.Marshal(frames[0])
	require.NoError(t, err)
	target := new(toldTo)
	relay.NewFollower(target).Apply(data)
	require.Len(t, target.told, 1)
	require.Len(t, target.told[0].Commits, 1)
	return frames[0], target.told[0].Commits[0].Commit
}

// What the holder knows of why a commit tells its topics, a follower is told; of topics
// that nobody explains, that it isn't known. Where nobody asks, it takes no bytes.
func TestCauses(t *testing.T) {
	at := freshet.Revision{Epoch: 1, Position: 900}
	when := time.UnixMicro(1_790_000_000_123_456)
	c := freshet.Commit{Revision: at, Topics: []string{"a", "b", "c"}, Floors: []freshet.Pattern{"x/*"}, Changes: []freshet.Change{
		{Topic: "b", What: freshet.Updated, Table: "public.t", Rows: 1, Revision: freshet.Revision{Epoch: 1, Position: 800}, XID: 6, Time: when},
		{Topic: "a", What: freshet.Inserted, Table: "public.t", Rows: 2, Revision: at, XID: 7, Time: when},
		{Topic: "b", What: freshet.Inserted, Table: "public.t", Rows: 2, Revision: at, XID: 7, Time: when},
		{Pattern: "x/*", What: freshet.Truncated, Table: "public.x", Revision: at},
	}}
	frame, told := relayed(t, 1<<20, c, 7)
	require.ElementsMatch(t, append(c.Changes, freshet.Change{Topic: "c", What: freshet.Unknown, Revision: at}), told.Changes)
	require.Len(t, frame.GetCommits()[0].GetCauses(), 3, "one for all that have the same")
	require.Equal(t, freshet.Updated, told.Changes[0].What, "the newest come last")

	c.Changes = nil
	without, told := relayed(t, 1<<20, c, 7)
	require.Nil(t, told.Changes)
	frame.Commits[0].Causes = nil
	require.True(t, proto.Equal(frame, without), "a node of the version before leaves out what it doesn't know")

	// Of a later version: what it knows more of isn't known here.
	frame.Commits[0].Causes = []*relayv1.Cause{{What: 99, Table: "t", Before: 1 << 40, Of: []uint32{0, 77}}}
	data, err := proto.Marshal(frame)
	require.NoError(t, err)
	target := new(toldTo)
	relay.NewFollower(target).Apply(data)
	require.Equal(t, freshet.Change{Topic: "a", What: freshet.Unknown, Table: "t", Revision: freshet.Revision{Epoch: 1}, XID: 7}, target.told[0].Commits[0].Changes[0])
	require.Len(t, target.told[0].Commits[0].Changes, 4)
}

// G7: causes are bounded, and never have a commit left out.
func TestCauses_G7_bounded(t *testing.T) {
	c := freshet.Commit{Revision: freshet.Revision{Epoch: 1, Position: 1 << 20}}
	for i := range 10_000 {
		topic := fmt.Sprintf("topics/%d", i)
		c.Topics = append(c.Topics, topic)
		c.Changes = append(c.Changes, freshet.Change{Topic: topic, What: freshet.Inserted, Table: "public.t", Rows: i, Revision: c.Revision, XID: uint32(i)})
	}
	frame, told := relayed(t, 1<<20, c, 7)
	with := proto.Size(frame)
	require.Len(t, told.Changes, len(c.Topics), "each topic has a reason, be it that there is none")
	known := 0
	for _, change := range told.Changes {
		if change.What != freshet.Unknown {
			known++
		}
	}
	require.Greater(t, known, 100)
	frame.Commits[0].Causes = nil
	bare := proto.Size(frame)
	require.Less(t, with-bare, 20<<10)

	frame, told = relayed(t, bare+2<<10, c, 7) // room for the commit alone
	require.Len(t, frame.GetCommits(), 1)
	require.Empty(t, frame.GetCommits()[0].GetCauses())
	require.Nil(t, told.Changes)
}

// BenchmarkPublisher is a commit of one row with three topics, from the gate to a frame's
// bytes, with and without causes.
func BenchmarkPublisher(b *testing.B) {
	for _, explain := range []bool{false, true} {
		b.Run(fmt.Sprintf("explain=%v", explain), func(b *testing.B) {
			const commits = 100 // in a frame
			p := relay.NewPublisher(hub.New(hub.Config{}))
			p.Turn(true, 1<<20)
			p.Begin(freshet.Revision{Epoch: 1, Position: 1})
			tell := p.BeforeTold(nil)
			c := freshet.Commit{Topics: []string{"messages", "conversations/1234/messages", "conversations/1234/messages/01928c7e-0000-7000-8000-00000000000a"}}
			size, position, now := 0, uint64(2<<30), time.Now()
			b.ReportAllocs()
			for i := range b.N {
				position += 200
				c.Revision, c.Changes = freshet.Revision{Epoch: 1, Position: position}, nil
				if explain {
					for _, topic := range c.Topics {
						c.Changes = append(c.Changes, freshet.Change{Topic: topic, What: freshet.Inserted, Table: "public.messages", Rows: 1, Revision: c.Revision, XID: 12345, Time: now})
					}
				}
				tell(12345, c)
				p.Publish(c)
				if (i+1)%commits == 0 {
					for _, frame := range p.Take(false) {
						data, err := proto.Marshal(frame)
						if err != nil {
							b.Fatal(err)
						}
						size += len(data)
					}
				}
			}
			b.ReportMetric(float64(size)/float64(max(1, b.N/commits*commits)), "bytes/commit")
		})
	}
}
