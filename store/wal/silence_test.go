package wal_test

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
)

// TestRecovery_F47_silentConnections: the feed's connections, or the stream
// alone, bring nothing any more, and nobody says so, while new ones work.
// Readiness fails, the feed reconnects, and nothing is lost.
func TestRecovery_F47_silentConnections(t *testing.T) {
	for name, c := range map[string]struct {
		silence func(*testkit.Proxy)
		reason  string
	}{
		"all":            {func(p *testkit.Proxy) { p.Silence() }, "the database doesn't answer"},
		"the stream":     {func(p *testkit.Proxy) { p.SilenceNewest(2) }, "the replication stream is silent"},
		"the statements": {func(p *testkit.Proxy) { p.SilenceOldest(3) }, "the database doesn't answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := database(t)
			proxy := testkit.NewProxy(t, url)
			log := new(testkit.Buffer)
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(log.String())
				}
			})
			feed := start(t, proxy.URL(), func(c *wal.Config) { c.Logger = log.Logger() }).live(t)
			horizon := feed.Horizon()
			testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('before', 'a', 'b')`)
			feed.awaitTopic(t, "conversations/before/messages")
			c.silence(proxy)
			testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('silent', 'a', 'b')`)
			feed.awaitWithin(t, time.Minute, "readiness fails", func() bool { return feed.Ready() != nil })
			feed.awaitWithin(t, time.Minute, "the log says why", func() bool { return log.Contains(c.reason) })
			feed.awaitWithin(t, time.Minute, "ready again", func() bool { return feed.Ready() == nil })
			feed.awaitTopic(t, "conversations/silent/messages")
			require.Equal(t, horizon, feed.Horizon(), "no gap")
			require.Len(t, feed.all(), 2, "each told once")
			require.True(t, slices.IsSortedFunc(feed.all(), func(a, b freshet.Commit) int { return a.Revision.Compare(b.Revision) }))
		})
	}
}

// TestConnect_F47_silentUnderBegin: pgx says of a connection that broke under a
// BEGIN or a COMMIT only that it is closed; the session's error says why.
func TestConnect_F47_silentUnderBegin(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, database(t))
	err := wal.Silenced(testkit.Context(t), proxy.URL(), proxy.Silence)
	require.ErrorIs(t, err, pgconn.ErrConnClosed, "if pgx says it by itself, dialer.cause can go")
	require.ErrorContains(t, err, "the database doesn't answer")
}

// TestRecovery_F47_silentWhileTheSlotIsMade: making a slot waits for open
// transactions, as long as they take, and nothing comes meanwhile; but not for
// ever on a connection that is dead.
func TestRecovery_F47_silentWhileTheSlotIsMade(t *testing.T) {
	t.Parallel()
	_, url := ownDatabase(t, nil) // its transaction would hold up the slots of others
	ctx := testkit.Context(t)
	tx := begin(t, url)
	proxy := testkit.NewProxy(t, url)
	log := new(testkit.Buffer)
	feed := start(t, proxy.URL(), func(c *wal.Config) { c.Logger = log.Logger() })
	waitForSlotWait(t, url, tx)
	proxy.Silence()
	// In the log it stays; readiness soon names what the next attempt meets.
	feed.awaitWithin(t, time.Minute, "the attempt ends", func() bool { return log.Contains("the database doesn't answer") })
	require.NoError(t, tx.Rollback(ctx))
	feed.live(t)
}

// TestConnect_idleSessions: a limit that the database sets to sessions with nothing to
// do ends none of ours, which may have nothing to do for long.
func TestConnect_idleSessions(t *testing.T) {
	t.Parallel()
	url := database(t)
	testkit.Exec(t, url, `do $$ begin execute format('alter database %I set idle_session_timeout = ''100ms''', current_database()); end $$`)
	feed := start(t, url, func(c *wal.Config) { c.WatchInterval = time.Hour }).live(t)
	time.Sleep(time.Second) // the time that they have nothing to do
	require.Zero(t, feed.Stats().Sessions)
	require.NoError(t, feed.Ready())
}
