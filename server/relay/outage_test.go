package relay_test

import (
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/relay"
)

// F38: NATS is gone for longer than the lag that is allowed. The holder goes on, the
// others say that they are stale, but for one that may capture for itself; when NATS is
// back they ask for what they have missed, and one captures.
func TestRelay_withoutNATS(t *testing.T) {
	nats := startNATS(t)
	f := newFleet(t)
	f.add(nats.addr())
	f.caughtUp(f.nodes[0])
	holder := f.holder()
	stale := f.add(nats.addr())
	able := f.add(nats.addr(), func(c *relay.Config) { c.Fallback = true })
	f.caughtUp(f.nodes...)
	f.decodesOnce()
	begun := stale.hub.beginnings()

	nats.stop()
	f.eventually("a node without NATS says so", func() bool { return stale.relay.Ready() != nil })
	require.ErrorIs(t, stale.relay.Ready(), relay.ErrNoNATS)
	f.eventually("and why", func() bool {
		var why *relay.ConnectError
		return errors.As(stale.relay.Ready(), &why) && why.Fault == relay.FaultUnreachable
	})
	f.eventually("another one captures for itself", func() bool { return able.relay.Stats().Capturing })
	f.caughtUp(holder, able)
	require.False(t, stale.relay.Stats().Capturing)
	require.True(t, holder.relay.Stats().Capturing)
	require.False(t, holder.relay.Stats().Holder, "without NATS it tells nobody")
	f.eventually("the one that is told nothing knows how stale it is", func() bool { return stale.hub.Lag() > time.Second })

	nats.start(t)
	f.caughtUp(f.nodes...)
	f.decodesOnce()
	f.caughtUp(f.nodes...)
	require.Equal(t, begun, stale.hub.beginnings(), "what it has missed it was told exactly")
	// Who is the first to have NATS back may get the seat, and then decodes what it has
	// missed itself.
	back := stale.relay.Stats()
	require.True(t, back.Gaps > 0 || back.Sent > 0, "%+v", back)
}

// F38: NATS is gone for longer than what can be replayed reaches back. Back, a node that
// was told nothing leaves it to the one that has captured meanwhile to go on, though that
// one is later, and asks it: so it begins nothing anew.
func TestRelay_goneForLongerThanTheWindow(t *testing.T) {
	nats := startNATS(t)
	f := newFleet(t)
	f.window = 400 * time.Millisecond
	way := newBadNATS(t, nats.addr())
	holder := f.add(way.addr())
	f.caughtUp(holder)
	stale := f.add(nats.addr())
	f.caughtUp(f.nodes...)
	begun := stale.hub.beginnings()
	left := stale.hub.Frontier().Position
	way.beAway(true)
	nats.stop()
	f.eventually("what it knows can't be replayed", func() bool { return holder.feed.Stats().Confirmed > left+100_000 })
	nats.start(t)
	f.eventually("it is connected", func() bool { return stale.relay.Stats().Connected })
	require.Never(t, func() bool { return stale.relay.Stats().Capturing }, time.Second, 5*time.Millisecond)
	way.beAway(false)
	f.caughtUp(f.nodes...)
	f.oneHolder(f.nodes...)
	require.Equal(t, begun, stale.hub.beginnings(), "what it has missed it was told exactly")
	require.True(t, holder.relay.Stats().Holder)
}

// F38: messages are lost, doubled, late, in another order.
func TestRelay_badNetwork(t *testing.T) {
	nats := startNATS(t)
	f := newFleet(t)
	f.add(nats.addr())
	f.caughtUp(f.nodes[0])
	var proxies []*badNATS
	for range 2 {
		p := newBadNATS(t, nats.addr())
		proxies = append(proxies, p)
		f.add(p.addr())
	}
	f.caughtUp(f.nodes...)
	for _, p := range proxies {
		p.be(true)
	}
	for i, p := range proxies {
		f.eventually("messages are lost, doubled and late, which is noticed", func() bool {
			s := f.nodes[1+i].relay.Stats()
			return p.has() && s.Gaps > 5 && s.Asked > 5
		})
	}
	f.caughtUp(f.nodes...)
	for _, p := range proxies {
		p.be(false)
	}
	f.caughtUp(f.nodes...)
}

// oneHolder waits until one node tells the others, and none of them captures besides, and
// returns it.
func (f *fleet) oneHolder(nodes ...*node) (found *node) {
	f.t.Helper()
	f.eventually("one node captures, and tells the others", func() bool {
		holders, capturing := 0, 0
		for _, n := range nodes {
			s := n.relay.Stats()
			if s.Capturing {
				capturing++
			}
			if s.Holder {
				holders, found = holders+1, n
			}
		}
		return holders == 1 && capturing == 1 && f.copies() == 1
	})
	return found
}

// shortBuffers dials so that little is under way: a peer that reads nothing is noticed soon.
type shortBuffers struct{}

func (shortBuffers) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).Dial(network, address)
	if tcp, is := conn.(*net.TCPConn); is {
		_ = tcp.SetWriteBuffer(64 << 10)
	}
	return conn, err
}

// F38: the way from the node that captures to NATS takes nothing for a while, and what
// waits to be sent becomes too much: it is dropped, which the others notice and ask for.
// The log says so, and nobody begins anew.
func TestRelay_queueOverflows(t *testing.T) {
	nats := startNATS(t)
	f := newFleet(t)
	way := newBadNATS(t, nats.addr())
	log := new(testkit.Buffer)
	f.add(way.addr(), func(c *relay.Config) {
		c.Through(shortBuffers{})
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	f.caughtUp(f.nodes[0])
	holder := f.nodes[0]
	holder.publisher.Most(64 << 10)
	for range 2 {
		f.add(nats.addr())
	}
	f.caughtUp(f.nodes...)
	var begun []int
	for _, n := range f.nodes {
		begun = append(begun, n.hub.beginnings())
	}
	ctx, conn := testkit.Context(t), testkit.Conn(t, f.url)
	for holder.relay.Stats().Overflows == 0 {
		way.stall(true)
		for range 40 { // less than NATS' client takes for a server that is gone
			_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) select '1', 'o', 'b' from generate_series(1, 300)`)
			require.NoError(t, err)
		}
		require.NoError(t, ctx.Err())
		f.eventually("it overflows, or is cut off", func() bool {
			s := holder.relay.Stats()
			return s.Overflows > 0 || !s.Connected
		})
		way.stall(false)
		f.eventually("it is connected", func() bool { return holder.relay.Stats().Connected })
	}
	f.caughtUp(f.nodes...)
	f.oneHolder(f.nodes...)
	require.NotZero(t, holder.relay.Stats().Left)
	require.Contains(t, log.String(), "too slowly")
	for i, n := range f.nodes {
		require.Equal(t, begun[i], n.hub.beginnings(), "%s was told exactly what it had missed", n.name)
		if i > 0 {
			require.NotZero(t, n.relay.Stats().Gaps, n.name)
		}
	}
}

// takeSeat has somebody else hold the lock that says who captures, from when holder ends.
func (f *fleet) takeSeat(holder *node) (leave func()) {
	f.t.Helper()
	ctx, conn := testkit.Context(f.t), testkit.Conn(f.t, f.url)
	var class, key int32
	err := f.conn.QueryRow(ctx, `
select l.classid::int8::int4, (l.objid::int8 - case when l.objid::int8 > 2147483647 then 4294967296 else 0 end)::int4
from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.mode = 'ExclusiveLock' and l.granted and a.query like '%pg_try_advisory_lock%pg_advisory_unlock%'`).Scan(&class, &key)
	require.NoError(f.t, err)
	held := make(chan error, 1)
	go func() { // it queues for the lock, which those who only try for it don't
		_, err := conn.Exec(ctx, `select pg_advisory_lock($1::int, $2::int)`, class, key)
		held <- err
	}()
	f.eventually("it waits", func() bool {
		var waits bool
		err := f.conn.QueryRow(ctx, `select exists (select from pg_locks where locktype = 'advisory' and not granted)`).Scan(&waits)
		return err == nil && waits
	})
	holder.stop()
	require.NoError(f.t, <-held)
	return func() {
		_, err := conn.Exec(ctx, `select pg_advisory_unlock($1::int, $2::int)`, class, key)
		require.NoError(f.t, err)
	}
}

// F37: the node that captures is gone, and somebody else has the lock by which the next
// one is chosen: after a while one of the others captures without. Two that do so
// because they don't hear each other are one again as soon as they do; and when the lock
// is free, whoever gets it goes on. Nobody begins anew.
func TestRelay_withoutTheSeat(t *testing.T) {
	nats := startNATS(t)
	f := newFleet(t)
	first := f.add(nats.addr())
	f.caughtUp(first)
	impatient := func(c *relay.Config) { c.Patience = 700 * time.Millisecond }
	var rest []*node
	var deaf []*badNATS
	for range 2 {
		p := newBadNATS(t, nats.addr())
		deaf = append(deaf, p)
		rest = append(rest, f.add(p.addr(), impatient))
	}
	rest = append(rest, f.add(nats.addr(), impatient))
	f.caughtUp(f.nodes...)
	begun := map[*node]int{}
	for _, n := range rest {
		begun[n] = n.hub.beginnings()
	}
	leave := f.takeSeat(first)
	f.caughtUp(rest...)
	f.oneHolder(rest...)
	f.caughtUp(rest...) // who captured for a moment has asked the one what was missed, while that can hear

	for _, p := range deaf {
		p.beDeaf(true)
	}
	f.eventually("those who hear nobody capture", func() bool {
		return rest[0].relay.Stats().Holder && rest[1].relay.Stats().Holder
	})
	f.caughtUp(rest...)
	for _, p := range deaf {
		p.beDeaf(false)
	}
	f.oneHolder(rest...)
	f.caughtUp(rest...)

	leave()
	f.caughtUp(rest...)
	f.oneHolder(rest...)
	f.caughtUp(rest...)
	for _, n := range rest[:2] {
		require.Equal(t, begun[n], n.hub.beginnings(), "%s", n.name)
		require.Zero(t, n.relay.Stats().Raised, "%s", n.name)
	}
	// The third may have left capturing to one that couldn't hear what it asked for, and
	// have begun anew after a second of that, if the machine was slow.
	raised := rest[2].relay.Stats().Raised
	require.Equal(t, begun[rest[2]]+int(raised), rest[2].hub.beginnings())
}

// F38: a node that captures for itself, since it had no NATS, goes on until it hears
// another one: that a server of NATS answers again doesn't say that others can be heard
// there.
func TestRelay_fallbackUntilHeard(t *testing.T) {
	nats := startNATS(t)
	f := newFleet(t)
	f.add(nats.addr())
	f.caughtUp(f.nodes[0])
	way := newBadNATS(t, nats.addr())
	able := f.add(way.addr(), func(c *relay.Config) { c.Fallback, c.Patience = true, time.Hour })
	f.caughtUp(f.nodes...)
	nats.stop()
	f.eventually("it captures for itself", func() bool { return able.relay.Stats().Capturing })
	way.beDeaf(true)
	nats.start(t)
	f.eventually("it is connected", func() bool { return able.relay.Stats().Connected })
	require.Never(t, func() bool { return !able.relay.Stats().Capturing }, time.Second, 5*time.Millisecond, "it would not be told anything")
	f.caughtUp(f.nodes...)
	way.beDeaf(false)
	f.eventually("it is told again", func() bool { return !able.relay.Stats().Capturing })
	f.caughtUp(f.nodes...)
	f.oneHolder(f.nodes...)
}
