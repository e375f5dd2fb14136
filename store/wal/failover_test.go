package wal_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	home, err := os.MkdirTemp("", "freshet-standby-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if log, err := os.ReadFile(filepath.Join(home, "log")); err == nil && t.Failed() {
			t.Logf("the standby's log:\n%s", log)
		}
		_ = os.RemoveAll(home)
	})
	standby := clusterOf(t, primary).standby(t, primary, home)
	standby.ctl(t, "start", "--wait", "--log", filepath.Join(home, "log"),
		"--options", fmt.Sprintf("-c listen_addresses= -c port=5433 -c unix_socket_directories='%s' %s", home, sameAs(t, primary)))
	t.Cleanup(func() { standby.ctl(t, "stop", "--mode=immediate") })

	both := withHost(t, primary, home, 5433)
	feed := start(t, both).live(t)
	before := feed.caughtUp(t)
	testkit.Exec(t, primary, `insert into messages (conversation, author, body) values ('kept', 'a', 'b')`)
	replicated := withOnlyHost(t, primary, home, 5433)
	require.Eventually(t, func() bool { return count(t, replicated, "kept") == 1 }, testTimeout, testTick)

	server.Kill()
	standby.ctl(t, "promote", "--wait")
	feed.awaitWithin(t, time.Minute, "the promoted standby is served, in a new epoch", func() bool {
		return feed.Frontier().Epoch > before.Epoch && feed.Ready() == nil
	})
	testkit.Exec(t, replicated, `insert into messages (conversation, author, body) values ('after', 'a', 'b')`)
	feed.awaitTopic(t, "conversations/after/messages")
	server.Restart(t) // so that the test's own database can be dropped
}

// sameAs returns the settings in which a standby must not be below its primary.
func sameAs(t *testing.T, primary string) (options string) {
	t.Helper()
	require.NoError(t, testkit.Conn(t, primary).QueryRow(testkit.Context(t), `
select string_agg(format('-c %s=%s', name, setting), ' ') from pg_settings where name in ('wal_level', 'max_connections',
  'max_worker_processes', 'max_wal_senders', 'max_replication_slots', 'max_prepared_transactions', 'max_locks_per_transaction')`).Scan(&options))
	return options
}

// withHost adds a second server to a URL, so that whichever is the primary is
// chosen.
func withHost(t *testing.T, raw, host string, port int) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	q := u.Query()
	q.Set("host", q.Get("host")+","+host)
	q.Set("port", q.Get("port")+","+strconv.Itoa(port))
	q.Set("target_session_attrs", "read-write")
	u.RawQuery = q.Encode()
	return u.String()
}

func withOnlyHost(t *testing.T, raw, host string, port int) string {
	t.Helper()
	return testkit.WithParam(t, testkit.WithParam(t, raw, "host", host), "port", strconv.Itoa(port))
}

// TestFailover_F8_restoredCopy: the data directory is replaced by an older
// copy, so that WAL positions go back. Nothing else than the postmaster's start
// tells (a cold copy has the UNLOGGED row too): a new, higher epoch.
func TestFailover_F8_restoredCopy(t *testing.T) {
	t.Parallel()
	server, url := ownDatabase(t, nil)
	feed := start(t, url).live(t)
	data := clusterOf(t, url)
	data.ctl(t, "stop", "--mode=fast", "--wait")
	backup, err := os.MkdirTemp(filepath.Dir(data.dir), "copy-")
	require.NoError(t, err)
	require.NoError(t, os.Remove(backup))
	copyAll(t, data.dir, backup)
	server.Restart(t)

	feed.live(t)
	testkit.Exec(t, url, `insert into messages (conversation, author, body) select 'phantom', 'a', 'b' from generate_series(1, 100)`)
	before := feed.caughtUp(t)
	data.ctl(t, "stop", "--mode=fast", "--wait")
	require.NoError(t, os.RemoveAll(data.dir))
	copyAll(t, backup, data.dir)
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
