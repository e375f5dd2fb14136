package wal_test

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
)

var rounds = flag.Int("rolling.rounds", 2, "how often TestRolling rolls a version out and back")

// fleet is the nodes that serve, and who may be connected to them.
type fleet struct {
	mu    sync.Mutex // guards nodes
	nodes []*running
}

// replace puts a node in another's place, and returns that.
func (f *fleet) replace(i int, by *running) (gone *running) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gone, f.nodes[i] = f.nodes[i], by
	return gone
}

func (f *fleet) pick(n int) *running {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[n%len(f.nodes)]
}

// reader is a client with a stream, which it opens anew at one node after the other,
// with the last id that it has heard.
type reader struct {
	told map[string]freshet.Revision // the highest at which it heard of a topic
	last freshet.Revision
	hops int
}

// follow reads until ctx ends.
func (r *reader) follow(ctx context.Context, f *fleet, n int, topics []string) error {
	for ; ctx.Err() == nil; r.hops++ {
		node := f.pick(n + r.hops)
		sub, err := node.Subscribe(topics, hub.Since{All: r.last})
		if err != nil { // not yet, or no longer
			select {
			case <-ctx.Done():
			case <-time.After(testTick):
			}
			continue
		}
		err = r.listen(ctx, sub)
		sub.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// listen hears catch-up and some frames, as a stream tells them.
func (r *reader) listen(ctx context.Context, sub *hub.Subscription) error {
	heartbeat := time.NewTicker(50 * time.Millisecond)
	defer heartbeat.Stop()
	for frame := range 10 {
		notice := sub.TakeAll()
		if notice.Reset {
			return fmt.Errorf("a reset at %s", notice.Frontier)
		}
		for _, topic := range notice.Topics {
			if r.told[topic].Less(notice.Revision) {
				r.told[topic] = notice.Revision
			}
		}
		if r.last.Less(notice.Frontier) {
			r.last = notice.Frontier
		}
		if frame == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-heartbeat.C:
		}
	}
	return nil
}

// writer writes to the tables of both contracts, in turns, and remembers a position
// below each of its commits.
type writer struct {
	n       int           // its number
	pause   time.Duration // between two statements; 0: none, and what it writes is nobody's
	commits int
	longest time.Duration // that a statement took
	wrote   map[string]uint64
}

const (
	// statementPatience is what a writer's statement may take. (A deployment holds one
	// up for a tenth of a second at most; but the machine may be busy.)
	statementPatience = 5 * time.Second
	// names are a writer's. They are used one after the other, so that a commit that
	// isn't told isn't made up for by a later one.
	names = 500
)

func name(n, i int) string { return fmt.Sprintf("%d-%d", n, i/4%names) }

func like(n, i int) int { return n*names + i/4%names }

// write writes until stop is closed. both says that a node of the second version has
// served: from then on somebody may follow topics that are that version's alone.
func (w *writer) write(ctx context.Context, conn *pgx.Conn, both *atomic.Bool, stop <-chan struct{}) error {
	if _, err := conn.Exec(ctx, `set statement_timeout = `+fmt.Sprint(statementPatience.Milliseconds())); err != nil {
		return err
	}
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		case <-time.After(w.pause):
		}
		var before uint64
		if err := conn.QueryRow(ctx, `select (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&before); err != nil {
			return err
		}
		second := both.Load()
		sql, arg := `insert into posts (conversation, author, body) values ($1, $1, 'x')`, any(name(w.n, i))
		topics := []string{"messages", "rooms/" + name(w.n, i) + "/posts"}
		also := "by/" + name(w.n, i)
		switch i % 4 {
		case 1: // the newer version's writes
			sql = `insert into posts (room, author, body) values ($1, $1, 'x')`
		case 2:
			sql = `update posts set body = body || 'y' where conversation = $1`
		case 3:
			sql, arg = `insert into likes (post) values ($1)`, like(w.n, i)
			topics, also = nil, fmt.Sprintf("likes/%d", arg)
			if second {
				topics = []string{"messages"}
			}
		}
		if second {
			topics = append(topics, also)
		}
		began := time.Now()
		if _, err := conn.Exec(ctx, sql, arg); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		w.longest = max(w.longest, time.Since(began))
		w.commits++
		for _, topic := range topics {
			if w.pause > 0 {
				w.wrote[topic] = before
			}
		}
	}
}

// TestRolling: a version with another table, another template and another column for
// one, is rolled out node by node and taken back, over and over, while the application
// writes and clients have streams, now at one node and now at another. Every commit
// is told to all of them, whatever contract its topics are of; no statement of a
// writer fails, or waits for long.
func TestRolling(t *testing.T) {
	const readers = 4
	url, one, two := twoVersions(t)
	testkit.Exec(t, url, `create index on posts (conversation)`)
	admin := testkit.Conn(t, url)
	f := &fleet{nodes: []*running{start(t, url, with(one)).ready(t), start(t, url, with(one)).ready(t)}}

	var (
		both          atomic.Bool
		writes, reads errgroup.Group
		stop          = make(chan struct{})
		topics        = []string{"messages"}
	)
	wrote := []*writer{{n: 0, pause: 20 * time.Millisecond}, {n: 1, pause: 20 * time.Millisecond}, {n: 2}}
	for _, w := range wrote {
		conn := testkit.Conn(t, url)
		w.wrote = make(map[string]uint64)
		writes.Go(func() error { return w.write(testkit.Context(t), conn, &both, stop) })
		for i := 0; i < 4*names && w.pause > 0; i += 4 {
			topics = append(topics, "rooms/"+name(w.n, i)+"/posts", "by/"+name(w.n, i), fmt.Sprintf("likes/%d", like(w.n, i)))
		}
	}
	reading, stopReaders := context.WithCancel(testkit.Context(t))
	defer stopReaders()
	heard := make([]*reader, readers)
	for n := range heard {
		heard[n] = &reader{told: make(map[string]freshet.Revision)}
		reads.Go(func() error { return heard[n].follow(reading, f, n, topics) })
	}

	roll := func(to *contract.Program) {
		t.Helper()
		deploy(t, admin, to)
		for i := range f.nodes {
			node := start(t, url, with(to)).ready(t)
			f.replace(i, node).stop()
			both.CompareAndSwap(false, to == two)
		}
	}
	for range *rounds {
		roll(two)
		roll(one)
	}
	close(stop)
	require.NoError(t, writes.Wait(), "no writer fails")
	end := f.nodes[0].caughtUp(t)
	f.nodes[1].caughtUp(t)
	stopReaders()
	require.NoError(t, reads.Wait())
	hops := 0
	for n, r := range heard { // what is left to hear, by the next stream
		sub, err := f.pick(n).Subscribe(topics, hub.Since{All: r.last})
		require.NoError(t, err)
		require.NoError(t, r.listen(reading, sub))
		sub.Close()
		require.False(t, r.last.Less(end))
		hops += r.hops
	}
	commits, longest := 0, time.Duration(0)
	for _, w := range wrote {
		commits, longest = commits+w.commits, max(longest, w.longest)
		for topic, before := range w.wrote {
			for n, r := range heard {
				require.Greaterf(t, r.told[topic].Position, before, "client %d has not heard of %s", n, topic)
			}
		}
	}
	for _, node := range f.nodes {
		require.Zero(t, node.Stats().Sessions, "nobody was interrupted")
	}
	t.Logf("%d commits, none of which took longer than %s; %d clients opened %d streams", commits, longest, readers, hops)
}
