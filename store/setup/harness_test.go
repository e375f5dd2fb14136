package setup_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store/wal"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	program = testkit.Program
	prepare = testkit.SetUp
	slotOf  = testkit.Slot
)

// database is a database of the test's own, migrated and set up.
func database(t *testing.T) string {
	t.Helper()
	return testkit.Template(t, "setup", prepare)
}

// ownDatabase is one on a server of the test's own.
func ownDatabase(t *testing.T, settings map[string]string) (*testkit.Server, string) {
	t.Helper()
	server := testkit.NewServer(t, settings)
	url := server.Database(t)
	require.NoError(t, prepare(testkit.Context(t), url))
	return server, url
}

// follower is a feed that runs until the test ends, or until stop: what a database
// is set up for.
type follower struct {
	*wal.Feed
	*sink
	stop func()
}

// sink is a hub that remembers what it was told.
type sink struct {
	*hub.Hub
	mu      sync.Mutex // guards commits
	commits []freshet.Commit
}

func (s *sink) Publish(c freshet.Commit) {
	s.mu.Lock()
	s.commits = append(s.commits, c)
	s.mu.Unlock()
	s.Hub.Publish(c)
}

// follow runs a feed on url, as whoever as names.
func follow(t *testing.T, url, as string) *follower {
	t.Helper()
	to := &sink{Hub: hub.New(hub.Config{})}
	feed, err := wal.New(wal.Config{
		URL: as, Slot: slotOf(t, url), Program: program(), Sink: to, Logger: testkit.Logger(t), WatchInterval: 200 * time.Millisecond, KeepInterval: 200 * time.Millisecond,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- feed.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return &follower{Feed: feed, sink: to, stop: stop}
}

func (f *follower) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, testTimeout, testTick, what)
}

// live waits until the feed serves, and all it was told of so far is over.
func (f *follower) live(t *testing.T) *follower {
	t.Helper()
	f.await(t, "the feed is ready, and nothing in quarantine", func() bool {
		return f.Ready() == nil && !f.Frontier().IsZero() && len(f.Feed.Quarantined()) == 0 && !f.Hub.Quarantined([]string{"messages"})
	})
	return f
}

// told returns the commits that are told of what do writes.
func (f *follower) told(t *testing.T, do func()) (commits []freshet.Commit) {
	t.Helper()
	ctx, cancel := context.WithTimeout(testkit.Context(t), testTimeout)
	defer cancel()
	caughtUp := func() {
		here, err := f.InsertPosition(ctx)
		require.NoError(t, err)
		f.Nudge()
		require.NoError(t, f.Wait(ctx, here))
	}
	caughtUp()
	f.mu.Lock()
	before := len(f.commits)
	f.mu.Unlock()
	do()
	caughtUp()
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.commits[before:]), func(c freshet.Commit) bool { return len(c.Topics)+len(c.Floors) == 0 })
}

// topicsOf are the topics of one message.
func topicsOf(conversation, id string) []string {
	topics := []string{"messages", "conversations/-/messages", "conversations/" + conversation + "/messages", "conversations/" + conversation + "/messages/" + id}
	slices.Sort(topics)
	return topics
}

// Bounds of waits for something that nothing signals.
const (
	testTimeout = 20 * time.Second
	testTick    = 5 * time.Millisecond
)
