package wal_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store/setup"
	"github.com/freshet-dev/freshet/store/wal"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	program = testkit.Program
	prepare = testkit.SetUp
	slotOf  = testkit.Slot
)

// database is a migrated database of the test's own.
func database(t *testing.T) string {
	t.Helper()
	return testkit.Template(t, "wal", prepare)
}

// databaseWith is a database of the test's own in which ddl has replaced the
// table messages.
func databaseWith(t *testing.T, ddl string) string {
	t.Helper()
	url := testkit.Template(t, "wal", prepare)
	testkit.Exec(t, url, `drop table messages`)
	testkit.Exec(t, url, ddl)
	conn := testkit.Conn(t, url)
	problems, err := setup.Apply(testkit.Context(t), conn, program(), "freshet")
	require.NoError(t, err)
	for _, p := range problems {
		require.Truef(t, p.Warning, "%s", p.Text)
	}
	return url
}

// sink is a hub that remembers what it was told.
type sink struct {
	*hub.Hub

	mu      sync.Mutex // guards what follows
	commits []freshet.Commit
	begun   []freshet.Revision
	blind   bool          // it began to serve without knowing its lag
	moved   chan struct{} // closed and replaced whenever something was told
}

func newSink() *sink { return &sink{Hub: hub.New(hub.Config{}), moved: make(chan struct{})} }

func (s *sink) told(note func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	note()
	close(s.moved)
	s.moved = make(chan struct{})
}

func (s *sink) Begin(horizon freshet.Revision) {
	s.Hub.Begin(horizon)
	s.told(func() { s.begun = append(s.begun, horizon) })
}

func (s *sink) Publish(c freshet.Commit) {
	s.mu.Lock()
	s.commits = append(s.commits, c) // first: caughtUp is woken by the hub
	s.mu.Unlock()
	s.Hub.Publish(c)
	s.told(func() {})
}

func (s *sink) Serve(rev freshet.Revision) {
	blind := s.Lag() == hub.Never
	s.Hub.Serve(rev)
	s.told(func() { s.blind = s.blind || blind })
}

func (s *sink) Advance(rev freshet.Revision) {
	s.Hub.Advance(rev)
	s.told(func() {})
}

// all returns the commits told so far that changed something.
func (s *sink) all() []freshet.Commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.commits), func(c freshet.Commit) bool { return len(c.Topics)+len(c.Floors) == 0 })
}

// await waits until what was told satisfies ok.
func (s *sink) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	s.awaitWithin(t, 20*time.Second, what, ok)
}

func (s *sink) awaitWithin(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(testkit.Context(t), limit)
	defer cancel()
	for {
		s.mu.Lock()
		moved := s.moved
		s.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-moved:
		case <-time.After(50 * time.Millisecond): // readiness isn't told to a sink
		case <-ctx.Done():
			require.FailNow(t, "never happened: "+what)
		}
	}
}

// awaitTopic waits for a commit that names topic, from the n-th on.
func (s *sink) awaitTopic(t *testing.T, topic string) freshet.Commit {
	t.Helper()
	var found freshet.Commit
	s.await(t, "a commit that changes "+topic, func() bool {
		for _, c := range s.all() {
			if slices.Contains(c.Topics, topic) {
				found = c
				return true
			}
		}
		return false
	})
	return found
}

// running is a feed that runs until the test ends, or until stop.
type running struct {
	*wal.Feed
	*sink
	stop func()
}

// start runs a feed on url.
func start(t *testing.T, url string, adjust ...func(*wal.Config)) *running {
	t.Helper()
	return startOn(t, url, newSink(), adjust...)
}

func startOn(t *testing.T, url string, to *sink, adjust ...func(*wal.Config)) *running {
	t.Helper()
	config := wal.Config{URL: url, Slot: slotOf(t, url), Program: program(), Sink: to, Logger: testkit.Logger(t), WatchInterval: 200 * time.Millisecond, KeepInterval: 200 * time.Millisecond}
	for _, a := range adjust {
		a(&config)
	}
	feed, err := wal.New(config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- feed.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return &running{Feed: feed, sink: to, stop: stop}
}

// live waits until the feed serves, and forgets what was told before.
func (r *running) live(t *testing.T) *running {
	t.Helper()
	r.await(t, "the feed is ready", func() bool { return r.Ready() == nil && !r.Frontier().IsZero() })
	r.awaitNoQuarantine(t) // its end tells all topics once more
	r.told(func() { require.False(t, r.blind, "kept answers, and what streams say of the lag, rest on it") })
	r.forget()
	return r
}

// awaitQuarantine waits until a source waits for something with this text, and the
// sink has been told, while the feed stays ready. What the watchdog finds is told by
// release a moment later; where the moment matters, in the WAL, is
// TestQuarantine_F49_beginsInTheOrderOfTheWAL.
func (r *running) awaitQuarantine(t *testing.T, text string) {
	t.Helper()
	r.await(t, "a quarantine: "+text, func() bool {
		held := r.Quarantined()
		return len(held) > 0 && strings.Contains(held[0].Waits, text) && r.Hub.Quarantined([]string{"messages"})
	})
	require.NoError(t, r.Ready())
}

func (r *running) awaitNoQuarantine(t *testing.T) {
	t.Helper()
	r.await(t, "no quarantine", func() bool { return len(r.Quarantined()) == 0 && !r.Hub.Quarantined([]string{"messages"}) })
}

// forget forgets what was told so far.
func (s *sink) forget() {
	s.told(func() { s.commits, s.begun = nil, nil })
}

// awaitStats waits until the feed's counters satisfy ok.
func (r *running) awaitStats(t *testing.T, what string, ok func(wal.Stats) bool) {
	t.Helper()
	r.await(t, what, func() bool { return ok(r.Stats()) })
}

// caughtUp waits until the frontier has reached what the primary has written now.
func (r *running) caughtUp(t *testing.T) freshet.Revision {
	t.Helper()
	here, err := r.InsertPosition(testkit.Context(t))
	require.NoError(t, err)
	r.Nudge()
	ctx, cancel := context.WithTimeout(testkit.Context(t), 20*time.Second)
	defer cancel()
	require.NoError(t, r.Wait(ctx, here))
	return here
}

// Bounds of waits for something that nothing signals.
const (
	testTimeout = 20 * time.Second
	testTick    = 5 * time.Millisecond
)

// begin begins a transaction that has an id, for which a slot that is made has to wait.
func begin(t *testing.T, url string) pgx.Tx {
	t.Helper()
	ctx := testkit.Context(t)
	tx, err := testkit.Conn(t, url).Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `select pg_current_xact_id()`)
	require.NoError(t, err)
	return tx
}
