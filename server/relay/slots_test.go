package relay_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/relay"
)

// newShortFleet is a fleet on a server that has slots and walsenders for one node.
func newShortFleet(t *testing.T) *fleet {
	t.Helper()
	return newFleetOn(t, testkit.NewServer(t, map[string]string{"max_replication_slots": "2", "max_wal_senders": "2"}))
}

// F37: the node that captures is gone, and its slot isn't: as long as somebody has that,
// none of the others can capture, and each says so, and why. None of them takes itself for
// the one that does, or begins anew; and once there is a slot, one captures and tells the
// other.
func TestRelay_noSlot(t *testing.T) {
	nats := startNATS(t)
	f := newShortFleet(t)
	first := f.add(nats.addr())
	f.caughtUp(first)
	rest := []*node{f.add(nats.addr()), f.add(nats.addr())}
	f.caughtUp(f.nodes...)
	begun := map[*node]int{}
	for _, n := range rest {
		begun[n] = n.hub.beginnings()
	}
	ctx, conn, taken := testkit.Context(t), testkit.Conn(t, f.url), make(chan error, 1)
	go func() { // before another node can: those find out by asking for the seat
		for {
			_, err := conn.Exec(ctx, `select pg_create_physical_replication_slot('another')`)
			if err == nil || ctx.Err() != nil {
				taken <- err
				return
			}
		}
	}()
	first.stop()
	require.NoError(t, <-taken)
	holders := 0
	for i, n := range rest {
		f.eventually("it has tried to capture, and is told again", func() bool {
			for _, n := range rest {
				if n.relay.Stats().Holder {
					holders++
				}
			}
			err := n.relay.Ready()
			return err != nil && !n.relay.Stats().Capturing
		})
		if i == 0 { // the other one may be about to try again
			require.Never(t, func() bool { return n.relay.Stats().Capturing }, time.Second, 5*time.Millisecond, "it leaves the seat to others")
		}
	}
	for _, n := range rest {
		require.ErrorContains(t, n.relay.Ready(), "no other node is heard that captures, and this one can't: ")
		require.ErrorContains(t, n.relay.Ready(), "the replication slots are taken")
		require.Zero(t, n.relay.Stats().Sent, "it is taken for one that captures")
	}
	require.Zero(t, holders, "one says that it captures for the others")
	_, err := conn.Exec(ctx, `select pg_drop_replication_slot('another')`)
	require.NoError(t, err)
	f.oneHolder(rest...)
	f.caughtUp(rest...)
	f.oneHolder(rest...)
	for _, n := range rest {
		require.Equal(t, begun[n], n.hub.beginnings(), "%s", n.name)
	}
}

// F38: NATS is gone, and a node that would capture for itself finds no slot. Meanwhile the
// history ends of which it was told, so that others are heard by another key. When NATS is
// back it is told again, though it could capture at no time.
func TestRelay_fallbackWithoutSlot(t *testing.T) {
	nats := startNATS(t)
	f := newShortFleet(t)
	holder := f.add(nats.addr())
	f.caughtUp(holder)
	able := f.add(nats.addr(), func(c *relay.Config) { c.Fallback, c.Patience = true, time.Hour })
	f.caughtUp(f.nodes...)
	nats.stop()
	f.eventually("it would capture for itself, and can't", func() bool {
		return able.relay.Stats().Capturing && able.feed.Capturing().Failing > 2*time.Second
	})
	_, err := f.conn.Exec(t.Context(), `delete from freshet.incarnation`)
	require.NoError(t, err)
	epoch := holder.hub.Frontier().Epoch
	f.eventually("another epoch", func() bool {
		return max(holder.hub.Frontier().Epoch, able.hub.Frontier().Epoch) > epoch
	})
	nats.start(t)
	f.oneHolder(f.nodes...)
	f.caughtUp(f.nodes...)
	f.oneHolder(f.nodes...)
}
