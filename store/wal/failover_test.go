package wal_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// owner runs commands as the user who owns a data directory: Postgres refuses
// to run as root.
type owner struct{ uid, gid uint32 }

func ownerOf(t *testing.T, dir string) owner {
	t.Helper()
	info, err := os.Stat(dir)
	require.NoError(t, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	return owner{stat.Uid, stat.Gid}
}

func (o owner) run(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also in a cleanup
	defer cancel()
	cmd := exec.CommandContext(ctx, pgBinary(t, name), args...)
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: o.uid, Gid: o.gid}}
	}
	out, err := cmd.CombinedOutput()
	require.NoErrorf(t, err, "%s: %s", name, out)
}

// dataDirectory is where a server keeps its data.
func dataDirectory(t *testing.T, url string) (dir string) {
	t.Helper()
	require.NoError(t, testkit.Conn(t, url).QueryRow(testkit.Context(t), `select current_setting('data_directory')`).Scan(&dir))
	return dir
}

// TestFailover_promotedStandby: the primary dies and its standby is promoted.
// The new primary begins a higher epoch: what the old one committed last may be
// gone, and positions may be used again.
func TestFailover_promotedStandby(t *testing.T) {
	t.Parallel()
	server, primary := ownDatabase(t, nil)
	data := dataDirectory(t, primary)
	o := ownerOf(t, data)
	home, err := os.MkdirTemp("", "freshet-standby-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if log, err := os.ReadFile(filepath.Join(home, "log")); err == nil && t.Failed() {
			t.Logf("the standby's log:\n%s", log)
		}
		_ = os.RemoveAll(home)
	})
	require.NoError(t, os.Chown(home, int(o.uid), int(o.gid)))
	standby := filepath.Join(home, "data")
	o.run(t, "pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--pgdata", standby, "--dbname", primary)
	o.run(t, "pg_ctl", "start", "--wait", "--pgdata", standby, "--log", filepath.Join(home, "log"),
		"--options", fmt.Sprintf("-c listen_addresses= -c port=5433 -c unix_socket_directories='%s' %s", home, sameAs(t, primary)))
	t.Cleanup(func() { o.run(t, "pg_ctl", "stop", "--mode=immediate", "--pgdata", standby) })

	both := withHost(t, primary, home, 5433)
	feed := start(t, both).live(t)
	before := feed.caughtUp(t)
	testkit.Exec(t, primary, `insert into messages (conversation, author, body) values ('kept', 'a', 'b')`)
	replicated := withOnlyHost(t, primary, home, 5433)
	require.Eventually(t, func() bool { return count(t, replicated, "kept") == 1 }, testTimeout, testTick)

	server.Kill()
	o.run(t, "pg_ctl", "promote", "--wait", "--pgdata", standby)
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
	data := dataDirectory(t, url)
	o := ownerOf(t, data)
	o.run(t, "pg_ctl", "stop", "--mode=fast", "--wait", "--pgdata", data)
	backup, err := os.MkdirTemp(filepath.Dir(data), "copy-")
	require.NoError(t, err)
	require.NoError(t, os.Remove(backup))
	o.copy(t, data, backup)
	server.Restart(t)

	feed.live(t)
	testkit.Exec(t, url, `insert into messages (conversation, author, body) select 'phantom', 'a', 'b' from generate_series(1, 100)`)
	before := feed.caughtUp(t)
	o.run(t, "pg_ctl", "stop", "--mode=fast", "--wait", "--pgdata", data)
	require.NoError(t, os.RemoveAll(data))
	o.copy(t, backup, data)
	server.Restart(t)
	feed.await(t, "a higher epoch", func() bool { return feed.Frontier().Epoch > before.Epoch && feed.Ready() == nil })
	require.Zero(t, count(t, url, "phantom"))
	subscription, err := feed.Subscribe([]string{"conversations/phantom/messages"}, since(before))
	require.NoError(t, err)
	defer subscription.Close()
	require.True(t, subscription.Take().Reset)
}

// copy copies a directory with owners and modes.
func (o owner) copy(t *testing.T, from, to string) {
	t.Helper()
	out, err := exec.CommandContext(testkit.Context(t), "cp", "-a", from, to).CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
}
