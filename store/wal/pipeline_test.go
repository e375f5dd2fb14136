package wal_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/server/stream"
	"github.com/freshet-dev/freshet/store/wal"
)

// world is a database without rows: transactions that begin, are written to
// the WAL in one order, and become visible in another.
type world struct {
	mu      sync.Mutex // guards what follows
	next    uint32
	running []uint32
	end     uint64
	log     []written
}

type written struct {
	xid     uint32
	end     uint64
	topics  []string
	visible bool
}

// invisible returns the first commit at or below position that others can't
// see yet.
func (w *world) invisible(position uint64) (written, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.log {
		if c.end <= position && !c.visible {
			return c, true
		}
	}
	return written{}, false
}

// honest is the node's hub; it fails the test when anything is told that the
// world doesn't show yet (G1).
type honest struct {
	*hub.Hub
	t     *testing.T
	world *world
}

func (h *honest) check(rev freshet.Revision) {
	if c, ok := h.world.invisible(rev.Position); ok {
		h.t.Errorf("%s is told while the commit of xid %d at %x is invisible", rev, c.xid, c.end)
	}
}

func (h *honest) Publish(c freshet.Commit) {
	h.check(c.Revision)
	h.Hub.Publish(c)
}

func (h *honest) Advance(rev freshet.Revision) {
	h.check(rev)
	h.Hub.Advance(rev)
}

// follower is a client on a stream. It holds what it was told.
type follower struct {
	mu     sync.Mutex // guards what follows
	since  freshet.Revision
	told   map[string]uint64 // highest revision by topic
	last   uint64            // id
	moved  chan struct{}
	broken string
}

func (f *follower) on(topics []string, w *world) func(client.Event) error {
	covered := func(id uint64) { // the frame rule
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range w.log {
			if c.end <= f.since.Position || c.end > id {
				continue
			}
			for _, topic := range c.topics {
				if slices.Contains(topics, topic) && f.told[topic] < c.end {
					f.broken = fmt.Sprintf("id %x left before %q, which changed at %x, was told", id, topic, c.end)
				}
			}
		}
	}
	return func(e client.Event) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		var rev freshet.Revision
		switch e := e.(type) {
		case client.Ready:
			if rev = e.Revision; f.since.IsZero() {
				f.since = rev
			}
		case client.Frontier:
			rev = e.Revision
		case client.Invalidate:
			rev = e.Revision
			for _, topic := range e.Topics {
				f.told[topic] = max(f.told[topic], rev.Position)
			}
		default:
			return nil
		}
		if rev.Position < f.last {
			f.broken = fmt.Sprintf("the id went back from %x to %x", f.last, rev.Position)
		}
		f.last = rev.Position
		if !f.since.IsZero() {
			covered(rev.Position)
		}
		close(f.moved)
		f.moved = make(chan struct{})
		return nil
	}
}

// TestPipeline_model drives gate, frontier, hub and stream with random orders
// of commits, visibility, delivery, keepalives and subscriptions, with real
// clients on real connections. Nothing is told before it is visible (G1),
// nothing is lost (G2), no id goes back or leaves too early, and everybody ends
// current (G3).
func TestPipeline_model(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			runPipeline(t, rand.New(rand.NewPCG(seed, 7)))
		})
	}
}

func runPipeline(t *testing.T, random *rand.Rand) {
	const epoch = 7
	universe := []string{"a", "b", "c", "d/e", "f"}
	w := &world{next: 4294967200, end: 1000} // the ids wrap around on the way
	h := &honest{Hub: hub.New(hub.Config{MaxTopics: 3}), t: t, world: w}
	h.Begin(freshet.Revision{Epoch: epoch, Position: 1000})
	h.Serve(freshet.Revision{Epoch: epoch, Position: 1000})
	events, err := stream.New(stream.Config{Hub: h.Hub, Throttle: time.Millisecond, Heartbeat: 20 * time.Millisecond})
	require.NoError(t, err)
	server := httptest.NewServer(http.Handler(events))
	defer server.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()

	gate := wal.NewGate(random.IntN(12)) // full now and then (F67)
	var followers []*follower
	var lists [][]string
	sent := 0 // of w.log, delivered to the gate
	pick := func() (topics []string) {
		for _, topic := range universe {
			if random.IntN(3) == 0 {
				topics = append(topics, topic)
			}
		}
		return topics
	}
	steps := map[string]func(){
		"begin": func() {
			w.running = append(w.running, w.next)
			w.next++
		},
		"commit": func() {
			if len(w.running) == 0 {
				return
			}
			i := random.IntN(len(w.running))
			w.end += uint64(1 + random.IntN(50))
			w.log = append(w.log, written{xid: w.running[i], end: w.end, topics: pick()})
			w.running = slices.Delete(w.running, i, i+1)
		},
		"show": func() {
			for i := range w.log {
				w.log[i].visible = w.log[i].visible || random.IntN(3) == 0
			}
		},
		"deliver": func() {
			for ; sent < len(w.log) && random.IntN(4) > 0; sent++ {
				gate.Push(w.log[sent].xid, w.log[sent].end, w.log[sent].topics)
			}
			if sent == len(w.log) {
				gate.Keepalive(w.end)
			}
		},
	}
	names := []string{"begin", "commit", "commit", "show", "deliver", "release", "subscribe"}
	release := func() {
		w.mu.Lock()
		xip := slices.Clone(w.running)
		for _, c := range w.log {
			if !c.visible {
				xip = append(xip, c.xid)
			}
		}
		xmax := w.next
		w.mu.Unlock()
		gate.Release(xmax, xip, epoch, h)
	}
	subscribe := func() {
		topics := pick()
		if len(topics) == 0 || len(followers) == 12 {
			return
		}
		f := &follower{told: map[string]uint64{}, moved: make(chan struct{})}
		options := []client.StreamOption{client.WithThrottle(0)}
		if random.IntN(2) == 0 {
			f.since = h.Frontier()
			options = append(options, client.WithSince(f.since))
		}
		c, err := client.New(server.URL)
		require.NoError(t, err)
		followers, lists = append(followers, f), append(lists, topics)
		following.Go(func() { _ = c.Stream(ctx, topics, f.on(topics, w), options...) })
	}
	for range 600 {
		switch name := names[random.IntN(len(names))]; name {
		case "release":
			release()
		case "subscribe":
			subscribe()
		default:
			w.mu.Lock()
			steps[name]()
			w.mu.Unlock()
		}
	}
	// Writes stop; everything becomes visible and is delivered.
	w.mu.Lock()
	for i := range w.log {
		w.log[i].visible = true
	}
	for ; sent < len(w.log); sent++ {
		gate.Push(w.log[sent].xid, w.log[sent].end, w.log[sent].topics)
	}
	gate.Keepalive(w.end)
	w.mu.Unlock()
	release()
	require.Equal(t, w.end, h.Frontier().Position)

	for i, f := range followers {
		f.awaitEnd(t, lists[i], w)
	}
}

// awaitEnd waits until a follower has heard of the end, and requires that it
// was told everything on the way.
func (f *follower) awaitEnd(t *testing.T, topics []string, w *world) {
	t.Helper()
	timeout := time.After(testTimeout)
	for {
		f.mu.Lock()
		last, moved, broken := f.last, f.moved, f.broken
		f.mu.Unlock()
		require.Empty(t, broken)
		if last == w.end {
			break
		}
		select {
		case <-moved:
		case <-timeout:
			require.Failf(t, "never current", "at %x of %x", last, w.end)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range w.log {
		for _, topic := range c.topics {
			if c.end > f.since.Position && slices.Contains(topics, topic) {
				require.GreaterOrEqualf(t, f.told[topic], c.end, "%q", topic)
			}
		}
	}
}
