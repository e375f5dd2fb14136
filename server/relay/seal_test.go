package relay_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	relayv1 "github.com/freshet-dev/freshet/gen/freshet/relay/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/relay"
)

// What was sealed opens, as what it is, in its history, for its scope and with its
// secret; nothing else does.
func TestSeals(t *testing.T) {
	secret := func(epoch freshet.Epoch) []byte { return []byte{byte(epoch)} }
	s := relay.NewSeals(secret, "a")
	text := []byte("what has changed")
	sealed := s.Seal(7, 1, 1, bytes.Clone(text))
	data, ok := s.Open(7, 1, 1, sealed)
	require.True(t, ok)
	require.Equal(t, text, data)
	for i := range sealed {
		other := bytes.Clone(sealed)
		other[i] ^= 1
		_, ok := s.Open(7, 1, 1, other)
		require.False(t, ok, "byte %d", i)
	}
	for name, open := range map[string]func() bool{
		"another kind":  func() bool { _, ok := s.Open(7, 1, 2, sealed); return ok },
		"another epoch": func() bool { _, ok := s.Open(8, 1, 1, sealed); return ok },
		"another scope": func() bool { _, ok := relay.NewSeals(secret, "b").Open(7, 1, 1, sealed); return ok },
		"another secret": func() bool {
			_, ok := relay.NewSeals(func(freshet.Epoch) []byte { return []byte{9} }, "a").Open(7, 1, 1, sealed)
			return ok
		},
		"no secret": func() bool {
			_, ok := relay.NewSeals(func(freshet.Epoch) []byte { return nil }, "a").Open(7, 1, 1, sealed)
			return ok
		},
		"no tag":  func() bool { _, ok := s.Open(7, 1, 1, text); return ok },
		"nothing": func() bool { _, ok := s.Open(7, 1, 1, nil); return ok },
	} {
		require.False(t, open(), name)
	}
	require.Nil(t, relay.NewSeals(func(freshet.Epoch) []byte { return nil }, "a").Seal(7, 1, 1, text), "without a key nothing is told")
}

// Somebody who may publish to the subjects, and reads the frames that others send, can't
// have a follower pass over a change: what they forge is dropped, counted, and logged. (A
// later epoch's secret is another one: TestSecret in store/wal.)
func TestRelay_forged(t *testing.T) {
	server := startNATS(t)
	f := newFleet(t)
	f.add(server.addr())
	f.caughtUp(f.nodes[0])
	follower := f.add(server.addr())
	f.caughtUp(f.nodes...)
	nc, err := nats.Connect("nats://" + server.addr())
	require.NoError(t, err)
	defer nc.Close()
	frames, err := nc.SubscribeSync("freshet.2.test.*.frames")
	require.NoError(t, err)
	epoch, incarnation := follower.feed.History()
	for range 50 {
		m, err := frames.NextMsg(10 * time.Second)
		require.NoError(t, err)
		fr := new(relayv1.Frame)
		require.NoError(t, proto.Unmarshal(m.Data[:len(m.Data)-relay.TagBytes], fr))
		tag := m.Data[len(m.Data)-relay.TagBytes:]
		// All is told up to far away, by that same holder, and nothing has changed.
		fr.Position += 1 << 20
		fr.Sequence, fr.Commits = fr.GetSequence()+1000, nil
		data, err := proto.Marshal(fr)
		require.NoError(t, err)
		require.NoError(t, nc.Publish(m.Subject, append(data, tag...)))
		answer, err := proto.Marshal(&relayv1.State{Frame: fr, Parts: 1})
		require.NoError(t, err)
		require.NoError(t, nc.Publish(fmt.Sprintf("freshet.2.test.%08x-%016x.state", uint32(epoch), incarnation), append(answer, tag...)))
	}
	require.NoError(t, nc.Flush())
	f.eventually("what is forged is noticed", func() bool { return follower.relay.Stats().Forged >= 50 })
	f.eventually("also by the one who is asked", func() bool { return f.nodes[0].relay.Stats().Forged >= 50 })
	told := follower.hub.Frontier().Position // first: the WAL goes on
	at, err := follower.feed.InsertPosition(testkit.Context(t))
	require.NoError(t, err)
	require.LessOrEqual(t, told, at.Position, "the database hasn't come further")
	f.caughtUp(f.nodes...)
}

func BenchmarkSeal(b *testing.B) {
	s := relay.NewSeals(func(freshet.Epoch) []byte { return make([]byte, 32) }, "slot-publication-00112233445566778899aabbccddeeff")
	for _, size := range []int{200, 2 << 10, 100 << 10} {
		data := make([]byte, size, size+relay.TagBytes)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				s.Seal(7, 1, 1, data)
			}
		})
	}
}
