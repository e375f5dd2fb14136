package wal_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
	"github.com/freshet-dev/freshet/store/wal"
)

// TestRecovery_F42_crashWhileUp (F3 too): crash recovery under a living node.
// Rows of asynchronous commits that somebody saw may be gone, so a new, higher
// epoch begins, each time.
func TestRecovery_F42_crashWhileUp(t *testing.T) {
	t.Parallel()
	server, url := ownDatabase(t, nil)
	feed := start(t, url).live(t)
	for range 2 {
		before := feed.caughtUp(t)
		subscription, err := feed.Subscribe([]string{"messages"}, since(before))
		require.NoError(t, err)
		server.Kill()
		server.Restart(t)
		feed.await(t, "a new epoch is served", func() bool { return feed.Frontier().Epoch > before.Epoch })
		require.True(t, subscription.Take().Reset, "the subscriber is told to refetch all")
		subscription.Close()
		feed.live(t)
		testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('after', 'a', 'b')`)
		require.Greater(t, feed.awaitTopic(t, "conversations/after/messages").Revision.Epoch, before.Epoch)
	}
}

// TestRecovery_F42_crashWhileDown: a client that was offline meanwhile holds a
// revision of an epoch that has ended.
func TestRecovery_F42_crashWhileDown(t *testing.T) {
	t.Parallel()
	server, url := ownDatabase(t, nil)
	feed := start(t, url).live(t)
	before := feed.caughtUp(t)
	feed.stop()
	server.Kill()
	server.Restart(t)
	again := start(t, url).live(t)
	require.Greater(t, again.Frontier().Epoch, before.Epoch)
	subscription, err := again.Subscribe([]string{"messages"}, since(before))
	require.NoError(t, err)
	defer subscription.Close()
	require.True(t, subscription.Take().Reset)
}

// TestRecovery_cleanRestart: also a clean restart begins an epoch: the data
// directory may have been replaced in between.
func TestRecovery_cleanRestart(t *testing.T) {
	t.Parallel()
	server, url := ownDatabase(t, nil)
	feed := start(t, url).live(t)
	before := feed.caughtUp(t)
	server.Restart(t)
	feed.await(t, "a new epoch is served", func() bool { return feed.Frontier().Epoch > before.Epoch })
}

// TestRecovery_F40_fastShutdown: Postgres stops as fast as without us, though
// the confirmed position is kept far behind.
func TestRecovery_F40_fastShutdown(t *testing.T) {
	t.Parallel()
	server, url := ownDatabase(t, nil)
	feed := start(t, url).live(t)
	testkit.Exec(t, url, `insert into messages (conversation, author, body) select 'c', 'a', 'b' from generate_series(1, 1000)`)
	feed.caughtUp(t)
	began := time.Now()
	server.Stop(t)
	took := time.Since(began)
	t.Logf("stopped in %s", took.Round(time.Millisecond))
	require.Less(t, took, 10*time.Second, "with our connection it takes the window's minute")
	require.Error(t, feed.Ready())
}

// TestRecovery_F8_slot: a slot that was dropped, lost, or that cannot decode
// any more is made anew; everything held is told as changed, and no crash loop.
func TestRecovery_F8_slot(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, url, slot string){
		"dropped": func(t *testing.T, url, slot string) {
			dropSlot(t, url, slot)
		},
		"lost": func(t *testing.T, url, slot string) {
			configure(t, url, "max_slot_wal_keep_size", "1MB")
			conn := testkit.Conn(t, url)
			require.Eventually(t, func() bool {
				for _, sql := range []string{`create table if not exists junk (x text)`, `insert into junk select repeat('x', 1000) from generate_series(1, 20000)`, `select pg_switch_wal()`, `checkpoint`} {
					_, err := conn.Exec(testkit.Context(t), sql)
					require.NoError(t, err)
				}
				var status string
				require.NoError(t, conn.QueryRow(testkit.Context(t), `select wal_status from pg_replication_slots where slot_name = $1`, slot).Scan(&status))
				return status == "lost"
			}, 30*time.Second, time.Millisecond)
		},
		"older than its publication": func(t *testing.T, url, _ string) {
			testkit.Exec(t, url, `drop publication freshet; insert into messages (conversation, author, body) values ('c', 'a', 'b');
create publication freshet for table messages (id, conversation) with (publish_via_partition_root = true)`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := ownDatabase(t, nil)
			feed := start(t, url).live(t)
			before := feed.caughtUp(t)
			feed.stop()
			spoil(t, url, slotOf(t, url))
			again := startOn(t, url, feed.sink)
			subscription, err := again.Subscribe([]string{"conversations/c/messages"}, since(before))
			require.NoError(t, err)
			defer subscription.Close()
			again.await(t, "a subscriber of a quiet topic is told", func() bool {
				n := subscription.Take()
				return slices.Contains(n.Topics, "conversations/c/messages") && before.Less(n.Revision)
			})
			again.live(t)
			if name == "older than its publication" && serverVersion(t, url) >= 180000 {
				require.False(t, before.Less(again.Horizon()), "the slot is the old one: PostgreSQL 18 decodes on, without the row, and says so; the source was in quarantine")
			} else {
				require.True(t, before.Less(again.Horizon()), "nothing below is known any more")
			}
			if name == "lost" {
				require.EqualValues(t, 1, again.Stats().Slots)
			}
			testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('next', 'a', 'b')`)
			again.awaitTopic(t, "conversations/next/messages")
		})
	}
}

func serverVersion(t *testing.T, url string) (number int) {
	t.Helper()
	require.NoError(t, testkit.Conn(t, url).QueryRow(testkit.Context(t), `select current_setting('server_version_num')::int`).Scan(&number))
	return number
}

// dropSlot drops a slot as soon as its walsender has noticed that we are gone.
func dropSlot(t *testing.T, url, slot string) {
	t.Helper()
	conn := testkit.Conn(t, url)
	require.Eventually(t, func() bool {
		_, err := conn.Exec(testkit.Context(t), `select pg_drop_replication_slot($1)`, slot)
		return err == nil
	}, testTimeout, testTick)
}

// TestRecovery_F7_replayWindow: after a restart the WAL rebuilds the topic
// table: a client that reconnects within the window is told exactly what
// changed, and nothing else.
func TestRecovery_F7_replayWindow(t *testing.T) {
	url := database(t)
	feed := start(t, url).live(t)
	testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('before', 'a', 'b')`)
	seen := feed.caughtUp(t)
	testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('told', 'a', 'b')`)
	told := feed.caughtUp(t)
	requireAnswered(t, feed, url, told.Position)
	feed.stop()
	testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('missed', 'a', 'b')`)

	again := start(t, url).live(t)
	require.Equal(t, seen.Epoch, again.Frontier().Epoch, "no new epoch: Postgres went on")
	require.True(t, again.Horizon().Less(seen), "the window reaches back to what the client holds")
	subscription, err := again.Subscribe([]string{
		"conversations/before/messages", "conversations/told/messages", "conversations/missed/messages", "conversations/never/messages",
	}, since(seen))
	require.NoError(t, err)
	defer subscription.Close()
	notice := subscription.Take()
	require.False(t, notice.Reset)
	require.Equal(t, []string{"conversations/missed/messages", "conversations/told/messages"}, sorted(notice.Topics...))
}

// requireAnswered waits until the walsender has had an answer from which on a
// position could be confirmed.
func requireAnswered(t *testing.T, feed *running, url string, position uint64) {
	t.Helper()
	conn := testkit.Conn(t, url)
	feed.await(t, "an answer to the walsender", func() bool {
		var written uint64
		err := conn.QueryRow(testkit.Context(t), `
select (coalesce(write_lsn, '0/0') - '0/0')::bigint from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid
where s.slot_name ~ $1`, setup.CopiesOf(slotOf(t, url))).Scan(&written)
		return err == nil && written >= position
	})
}

// TestRecovery_cutConnections: the feed comes back after its connections were
// cut at any time, without a gap, a reset or a repeated commit.
func TestRecovery_cutConnections(t *testing.T) {
	url := database(t)
	proxy := testkit.NewProxy(t, url)
	feed := start(t, proxy.URL()).live(t)
	horizon, began := feed.Horizon(), feed.caughtUp(t).Position
	const rounds = 5
	var last string
	for i := range rounds {
		for range 20 {
			require.NoError(t, testkit.Conn(t, url).QueryRow(testkit.Context(t), insertMessage, "c", "b").Scan(&last))
		}
		if i < rounds-1 {
			proxy.Cut()
		}
	}
	feed.awaitTopic(t, "conversations/c/messages/"+last)
	commits := feed.all()
	require.Len(t, commits, rounds*20, "each told once")
	require.True(t, slices.IsSortedFunc(commits, func(a, b freshet.Commit) int { return a.Revision.Compare(b.Revision) }))
	require.Equal(t, horizon, feed.Horizon(), "no gap")
	require.NotZero(t, feed.Stats().Sessions)
	// It asks for what it doesn't have, not for all of the window.
	var from uint64
	require.NoError(t, testkit.Conn(t, url).QueryRow(testkit.Context(t), `
select (substring(query from 'LOGICAL ([0-9A-F]+/[0-9A-F]+)')::pg_lsn - '0/0')::bigint from pg_stat_activity
where pid = (select active_pid from pg_replication_slots where slot_name ~ $1)`, setup.CopiesOf(slotOf(t, url))).Scan(&from))
	require.GreaterOrEqual(t, from, began)
}

// TestRecovery_anotherHolder: the slot was moved on by somebody else, so
// nothing is known of what happened in between.
func TestRecovery_anotherHolder(t *testing.T) {
	url := database(t)
	feed := start(t, url).live(t)
	before := feed.caughtUp(t)
	feed.stop()
	testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('between', 'a', 'b')`)
	conn := testkit.Conn(t, url)
	require.Eventually(t, func() bool {
		_, err := conn.Exec(testkit.Context(t), `select pg_replication_slot_advance($1, pg_current_wal_lsn())`, slotOf(t, url))
		return err == nil
	}, testTimeout, testTick)
	again := startOn(t, url, feed.sink)
	again.await(t, "the horizon rises", func() bool { return before.Less(again.Horizon()) })
	again.live(t)
	require.False(t, again.Floor([]string{"conversations/between/messages"}).Less(again.Horizon()))
}

// TestRecovery_F70_readOnly: the database turns read-only, as providers have it do
// when a disk is nearly full. What is committed all the same is told, the node
// stays ready, and one that starts then becomes so.
func TestRecovery_F70_readOnly(t *testing.T) {
	t.Parallel()
	_, url := ownDatabase(t, nil)
	feed := start(t, url, func(c *wal.Config) { c.WindowAge = 500 * time.Millisecond }).live(t)
	configure(t, url, "default_transaction_read_only", "on")
	write := testkit.WithParam(t, url, "default_transaction_read_only", "off")
	looks := feed.Stats().Looks
	for i := range 3 {
		testkit.Exec(t, write, `insert into messages (conversation, author, body) values ($1, 'a', 'b')`, fmt.Sprint(i))
		feed.awaitTopic(t, fmt.Sprintf("conversations/%d/messages", i))
		feed.caughtUp(t) // with a nudge
		require.NoError(t, feed.Ready())
	}
	confirmed := feed.Stats().Confirmed
	feed.awaitStats(t, "it looks, and confirms what can't be recorded as proven", func(s wal.Stats) bool {
		return s.Looks > looks+3 && s.Confirmed > confirmed
	})
	require.NoError(t, feed.Ready())
	require.Zero(t, feed.Stats().Sessions)
	feed.stop()

	again := start(t, url).live(t)
	testkit.Exec(t, write, `insert into messages (conversation, author, body) values ('again', 'a', 'b')`)
	again.awaitTopic(t, "conversations/again/messages")
	require.Zero(t, again.Stats().Sessions)
	again.stop()
	testkit.Exec(t, write, `alter system reset default_transaction_read_only`)
	testkit.Exec(t, write, `select pg_reload_conf()`)
	require.Eventually(t, func() bool { // the test's database can be dropped
		var now string
		return testkit.Conn(t, url).QueryRow(testkit.Context(t), `show default_transaction_read_only`).Scan(&now) == nil && now == "off"
	}, testTimeout, testTick)
}

// TestRecovery_F77_renamedIn: another database takes the name of the one that is
// served, and has its rows, the epoch's too.
func TestRecovery_F77_renamedIn(t *testing.T) {
	t.Parallel()
	server, url := ownDatabase(t, nil)
	feed := start(t, url).live(t)
	before := feed.caughtUp(t)
	feed.stop()
	dropSlot(t, url, slotOf(t, url)) // else it belongs to the other one, which is an error of its own
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	name := pgx.Identifier{config.Database}.Sanitize()
	admin := server.URL("postgres")
	testkit.Exec(t, admin, `select pg_terminate_backend(pid) from pg_stat_activity where datname = $1`, config.Database)
	testkit.Exec(t, admin, `create database restored template `+name)
	testkit.Exec(t, admin, `alter database `+name+` rename to original`)
	testkit.Exec(t, admin, `alter database restored rename to `+name)
	again := startOn(t, url, feed.sink).live(t)
	require.Greater(t, again.Frontier().Epoch, before.Epoch)
}
