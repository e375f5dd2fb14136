package relay_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/server/relay"
	"github.com/freshet-dev/freshet/store/wal"
)

// fleet is several nodes of one database, and one who writes to it.
type fleet struct {
	t     *testing.T
	url   string
	conn  *pgx.Conn // looks at what Postgres has
	nodes []*node
	write *writer

	window time.Duration // that can be replayed; 0: the usual one
}

// node is what server.Node is made of, as far as it concerns the relay.
type node struct {
	name      string
	hub       *countingHub
	publisher *relay.Publisher
	feed      *wal.Feed
	relay     *relay.Relay
	stop      func()
}

// countingHub counts the beginnings, each of which costs all clients a refetch.
type countingHub struct {
	*hub.Hub

	mu    sync.Mutex // guards begun
	begun int
}

func (h *countingHub) Begin(horizon freshet.Revision) {
	h.mu.Lock()
	h.begun++
	h.mu.Unlock()
	h.Hub.Begin(horizon)
}

func (h *countingHub) beginnings() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.begun
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	return newFleetOn(t, testkit.Postgres(t))
}

func newFleetOn(t *testing.T, server *testkit.Server) *fleet {
	t.Helper()
	f := &fleet{t: t, url: server.Template(t, "relay", testkit.SetUp)}
	f.conn = testkit.Conn(t, f.url)
	f.write = startWriter(t, f.url)
	return f
}

// add starts a node that finds NATS there.
func (f *fleet) add(nats string, adjust ...func(*relay.Config)) *node {
	f.t.Helper()
	n := &node{name: fmt.Sprintf("node %d", len(f.nodes)+1), hub: &countingHub{Hub: hub.New(hub.Config{})}}
	log := testkit.Logger(f.t).With("node", len(f.nodes)+1)
	publisher := relay.NewPublisher(n.hub)
	n.publisher = publisher
	var err error
	n.feed, err = wal.New(wal.Config{
		WindowAge: f.window, KeepInterval: f.window / 4,
		URL: f.url, Slot: testkit.Slot(f.t, f.url), Program: testkit.Program(), Sink: publisher, BeforeTold: publisher.BeforeTold(nil),
		Logger: log, WatchInterval: 200 * time.Millisecond, MaxLag: 2 * time.Second, Secret: true,
	})
	require.NoError(f.t, err)
	cfg := relay.Config{Servers: []string{"nats://" + nats}, Scope: "test", State: n.hub, MaxLag: time.Second, Logger: log}
	for _, a := range adjust {
		a(&cfg)
	}
	n.relay, err = relay.New(cfg, n.feed, publisher)
	require.NoError(f.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.relay.Run(ctx) }()
	stopChecking := f.check(n)
	n.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(f.t, <-ended)
		stopChecking()
	})
	f.t.Cleanup(n.stop)
	f.nodes = append(f.nodes, n)
	return n
}

// check holds a node's hub against what is written, all the time: what ends at or below
// the frontier has been told (G2, G6), and the frontier never goes back (G4).
func (f *fleet) check(n *node) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		var last freshet.Revision
		told := map[string]uint64{}
		var sub *hub.Subscription
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
			before := n.hub.Frontier()
			if before.IsZero() {
				continue
			}
			if before.Less(last) {
				f.t.Errorf("%s: the frontier went back from %s to %s", n.name, last, before)
			}
			last = before
			if sub == nil {
				if s, err := n.hub.Subscribe(topics(), hub.Since{}); err == nil {
					sub = s
					for _, topic := range topics() {
						told[topic] = n.hub.Frontier().Position
					}
				}
				continue
			}
			notice := sub.Take()
			if notice.Reset {
				notice.Topics = topics()
			}
			for _, topic := range notice.Topics {
				told[topic] = max(told[topic], notice.Revision.Position, before.Position)
			}
			for _, w := range f.write.recent(20) {
				if w.after > before.Position {
					continue
				}
				if floor := n.hub.Floor([]string{w.topic}).Position; floor < w.before {
					f.t.Errorf("%s: %s was written at %x, and the floor is %x at frontier %x", n.name, w.topic, w.before, floor, before.Position)
				}
				if told[w.topic] < w.before {
					f.t.Errorf("%s: %s was written at %x, and told last at %x; the frontier is %x", n.name, w.topic, w.before, told[w.topic], before.Position)
				}
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// holder waits until one node, but for those left out, captures and tells others.
func (f *fleet) holder(but ...*node) *node {
	f.t.Helper()
	var found *node
	f.eventually("somebody captures", func() bool {
		for _, n := range f.nodes {
			if s := n.relay.Stats(); s.Holder && !slices.Contains(but, n) {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// caughtUp waits until the nodes have told all that is written by now.
func (f *fleet) caughtUp(nodes ...*node) {
	f.t.Helper()
	at := f.write.position(f.t)
	for _, n := range nodes {
		f.eventually(fmt.Sprintf("%s has told everything up to %x", n.name, at), func() bool {
			n.feed.Nudge()
			return n.hub.Frontier().Position >= at && n.feed.Ready() == nil && n.relay.Ready() == nil
		})
	}
}

func (f *fleet) eventually(what string, yes func() bool) {
	f.t.Helper()
	require.Eventually(f.t, yes, 30*time.Second, 5*time.Millisecond, what)
}

// copies is how many nodes have a slot of their own: how often the primary decodes.
func (f *fleet) copies() (n int) {
	err := f.conn.QueryRow(f.t.Context(), `select count(*) from pg_replication_slots where database = current_database() and temporary`).Scan(&n)
	require.NoError(f.t, err)
	return n
}

// decodesOnce waits until one node captures: a second one may do so for a moment after
// the others have changed, and Postgres drops a slot some time after its connection ends.
func (f *fleet) decodesOnce() {
	f.t.Helper()
	f.eventually("the primary decodes once", func() bool { return f.copies() == 1 })
}

// writer writes messages, a conversation drawn by lot.
type writer struct {
	mu   sync.Mutex // guards done
	done []written
	url  string
}

// written is a commit of the topic that ended between two positions, and was visible at
// the latter.
type written struct {
	topic         string
	before, after uint64
}

func topics() (all []string) {
	for i := range 5 {
		all = append(all, fmt.Sprintf("conversations/%d/messages", i))
	}
	return all
}

func startWriter(t *testing.T, url string) *writer {
	w := &writer{url: url}
	ctx, cancel := context.WithCancel(context.Background())
	conn := testkit.Conn(t, url)
	ended := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			topic := rand.IntN(5)
			var before, after uint64
			err := conn.QueryRow(ctx, `with w as (insert into messages (conversation, author, body) values ($1, 'w', 'b')) select pg_current_wal_insert_lsn() - '0/0'::pg_lsn`, fmt.Sprint(topic)).Scan(&before)
			if err == nil {
				err = conn.QueryRow(ctx, `select pg_current_wal_insert_lsn() - '0/0'::pg_lsn`).Scan(&after)
			}
			if err != nil {
				if ctx.Err() == nil {
					ended <- err
					return
				}
				break
			}
			w.mu.Lock()
			w.done = append(w.done, written{topics()[topic], before, after})
			w.mu.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(rand.IntN(4)) * time.Millisecond):
			}
		}
		ended <- nil
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return w
}

// recent returns some of what was written, the last one among it.
func (w *writer) recent(n int) (some []written) {
	w.mu.Lock()
	defer w.mu.Unlock()
	some = append(some, w.done[max(0, len(w.done)-n):]...)
	for range n {
		if len(w.done) > 0 {
			some = append(some, w.done[rand.IntN(len(w.done))])
		}
	}
	return some
}

func (w *writer) position(t *testing.T) (at uint64) {
	err := testkit.Conn(t, w.url).QueryRow(testkit.Context(t), `select pg_current_wal_insert_lsn() - '0/0'::pg_lsn`).Scan(&at)
	require.NoError(t, err)
	return at
}

// One of three nodes captures. It ends, another goes on, and nobody begins anew: what
// clients hold stays good (F37).
func TestRelay_theHolderEnds(t *testing.T) {
	nats := startNATS(t)
	f := newFleet(t)
	for range 3 {
		f.add(nats.addr())
	}
	f.caughtUp(f.nodes...)
	f.decodesOnce()
	first := f.holder()
	begun := map[*node]int{}
	for _, n := range f.nodes {
		begun[n] = n.hub.beginnings()
	}
	first.stop()
	second := f.holder(first)
	var rest []*node
	for _, n := range f.nodes {
		if n != first {
			rest = append(rest, n)
		}
	}
	f.caughtUp(rest...)
	require.NotSame(t, first, second)
	f.decodesOnce()
	for _, n := range rest {
		require.Equal(t, begun[n], n.hub.beginnings(), "%s", n.name)
		require.Zero(t, n.relay.Stats().Raised)
	}
	third := f.add(nats.addr())
	f.caughtUp(third)
	f.decodesOnce()
	require.False(t, third.relay.Stats().Capturing)
}
