package wal_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
	"github.com/freshet-dev/freshet/store/wal"
)

// readinessTold is what Ready answered whenever OnChange was called.
type readinessTold struct {
	mu      sync.Mutex // guards the fields below
	feed    *wal.Feed  // nil: it isn't known yet
	history []bool
	moved   chan struct{} // closed by the next call
}

func (r *readinessTold) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.feed == nil {
		return
	}
	if now := r.feed.Ready() == nil; len(r.history) == 0 || r.history[len(r.history)-1] != now {
		r.history = append(r.history, now)
	}
	close(r.moved)
	r.moved = make(chan struct{})
}

// await waits until as much was told, and nobody looks but when something is.
func (r *readinessTold) await(t *testing.T, want ...bool) {
	t.Helper()
	ctx := testkit.Context(t)
	for {
		r.mu.Lock()
		history, moved := r.history, r.moved
		r.mu.Unlock()
		if len(history) >= len(want) {
			require.Equal(t, want, history)
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			require.FailNow(t, "it was not told", "so far: %v", history)
		}
	}
}

// TestFeed_tellsThatReadinessChanges: OnChange is called for each of the ways in
// which Ready comes and goes, but for the lag.
func TestFeed_tellsThatReadinessChanges(t *testing.T) {
	url := database(t)
	role := "told_" + slotOf(t, url) // roles are the whole server's
	testkit.Exec(t, url, `create role `+role+` login replication`)
	t.Cleanup(func() { testkit.Exec(t, url, `drop owned by `+role+`; drop role `+role) })
	testkit.Exec(t, url, `grant usage on schema freshet to `+role+`; grant all on all tables in schema freshet to `+role)
	told := &readinessTold{moved: make(chan struct{})}
	told.mu.Lock()
	feed := start(t, testkit.WithParam(t, url, "user", role), func(c *wal.Config) { c.OnChange = told.changed })
	told.feed = feed.Feed
	told.mu.Unlock()

	// It starts, and has caught up.
	told.await(t, false, true)

	// The database isn't set up any more, and is again, while capture runs on.
	testkit.Exec(t, url, `revoke execute on function pg_postmaster_start_time() from public`)
	told.await(t, false, true, false)
	testkit.Exec(t, url, `grant execute on function pg_postmaster_start_time() to public`)
	told.await(t, false, true, false, true)
	require.Zero(t, feed.Stats().Sessions, "no interruption")

	// A session ends, and another goes on.
	testkit.Exec(t, url, `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name ~ $1`, setup.CopiesOf(slotOf(t, url)))
	told.await(t, false, true, false, true, false, true)
}
