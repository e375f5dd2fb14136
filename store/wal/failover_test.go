package wal_test

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// TestFailover_promotedStandby: the primary dies and its standby is promoted.
// The new primary begins a higher epoch: what the old one committed last may be
// gone, and positions may be used again.
func TestFailover_promotedStandby(t *testing.T) {
	t.Parallel()
	server, primary := ownDatabase(t, nil)
	standby := server.Standby(t)
	both := withHost(t, primary, standby)
	feed := start(t, both).live(t)
	before := feed.caughtUp(t)
	testkit.Exec(t, primary, `insert into messages (conversation, author, body) values ('kept', 'a', 'b')`)
	replicated := standby.URL(t, primary)
	require.Eventually(t, func() bool { return count(t, replicated, "kept") == 1 }, testTimeout, testTick)

	server.Kill()
	standby.Promote(t)
	feed.awaitWithin(t, time.Minute, "the promoted standby is served, in a new epoch", func() bool {
		return feed.Frontier().Epoch > before.Epoch && feed.Ready() == nil
	})
	testkit.Exec(t, replicated, `insert into messages (conversation, author, body) values ('after', 'a', 'b')`)
	feed.awaitTopic(t, "conversations/after/messages")
	server.Restart(t) // so that the test's own database can be dropped
}

// withHost adds a second server to a URL, so that whichever is the primary is
// chosen.
func withHost(t *testing.T, raw string, other *testkit.Standby) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	q := u.Query()
	q.Set("host", q.Get("host")+","+other.Host())
	q.Set("port", q.Get("port")+","+other.Port())
	q.Set("target_session_attrs", "read-write")
	u.RawQuery = q.Encode()
	return u.String()
}

// TestFailover_F8_restoredCopy: the data directory is replaced by an older
// copy, so that WAL positions go back. Nothing else than the postmaster's start
// tells (a cold copy has the UNLOGGED row too): a new, higher epoch.
func TestFailover_F8_restoredCopy(t *testing.T) {
	t.Parallel()
	server, url := ownDatabase(t, nil)
	feed := start(t, url).live(t)
	data := server.Cluster(t)
	data.Ctl(t, "stop", "--mode=fast", "--wait")
	backup, err := os.MkdirTemp(filepath.Dir(data.Dir), "copy-")
	require.NoError(t, err)
	require.NoError(t, os.Remove(backup))
	copyAll(t, data.Dir, backup)
	server.Restart(t)

	feed.live(t)
	testkit.Exec(t, url, `insert into messages (conversation, author, body) select 'phantom', 'a', 'b' from generate_series(1, 100)`)
	before := feed.caughtUp(t)
	data.Ctl(t, "stop", "--mode=fast", "--wait")
	require.NoError(t, os.RemoveAll(data.Dir))
	copyAll(t, backup, data.Dir)
	server.Restart(t)
	feed.await(t, "a higher epoch", func() bool { return feed.Frontier().Epoch > before.Epoch && feed.Ready() == nil })
	require.Zero(t, count(t, url, "phantom"))
	subscription, err := feed.Subscribe([]string{"conversations/phantom/messages"}, since(before))
	require.NoError(t, err)
	defer subscription.Close()
	require.True(t, subscription.Take().Reset)
}

// copyAll copies a directory with owners and modes.
func copyAll(t *testing.T, from, to string) {
	t.Helper()
	out, err := exec.CommandContext(testkit.Context(t), "cp", "-a", from, to).CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
}
