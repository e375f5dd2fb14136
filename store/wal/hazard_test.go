package wal_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store/wal"
)

// since is a client whose data is all stamped with one revision.
func since(rev freshet.Revision) hub.Since { return hub.Since{All: rev} }

// TestHazard_F39_synchronousStandby (F89 too): with synchronous_standby_names =
// '*' our late confirmations would hang every commit. The feed closes at once,
// and says what to run; another standby then serves the commits. A role without
// pg_read_all_stats can't see what its walsender is taken for.
func TestHazard_F39_synchronousStandby(t *testing.T) {
	for name, user := range map[string]string{"superuser": "", "F89: REPLICATION and nothing more": "least"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := ownDatabase(t, nil)
			ours := url
			if user != "" {
				ours = asOwner(t, url, user)
			}
			log := new(testkit.Buffer)
			feed := start(t, ours, func(c *wal.Config) { c.Logger, c.WatchInterval = log.Logger(), time.Hour }).live(t)
			receiver := receiveWAL(t, url) // a standby that answers
			configure(t, url, "synchronous_standby_names", "*")

			ctx, cancel := context.WithTimeout(testkit.Context(t), 15*time.Second)
			defer cancel()
			conn := testkit.Conn(t, url)
			began := time.Now()
			_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ('c', 'a', 'b')`)
			require.NoError(t, err, "a commit of the application hangs")
			t.Logf("a commit took %s", time.Since(began).Round(time.Millisecond))
			require.Less(t, time.Since(began), 4*time.Second)
			feed.await(t, "the feed closes", func() bool { return log.Contains("would be a synchronous standby") })
			feed.await(t, "readiness fails, for this reason", func() bool {
				err := feed.Ready()
				return err != nil && strings.Contains(err.Error(), "alter system set synchronous_standby_names")
			})

			// It doesn't even try again: the setting alone is reason enough.
			for range 3 {
				began = time.Now()
				_, err = conn.Exec(ctx, `insert into messages (conversation, author, body) values ('c', 'a', 'b')`)
				require.NoError(t, err)
				require.Less(t, time.Since(began), 2*time.Second)
			}
			testkit.ReleaseCommits(t, url)
			receiver()
			feed.await(t, "the feed is back", func() bool { return feed.Ready() == nil })
		})
	}
}

// asOwner makes a role that owns the database and may replicate, and nothing
// more, and returns its URL.
func asOwner(t *testing.T, raw, role string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	name := pgx.Identifier{role}.Sanitize()
	database := pgx.Identifier{strings.TrimPrefix(u.Path, "/")}.Sanitize()
	testkit.Exec(t, raw, `create role `+name+` login replication`)
	testkit.Exec(t, raw, `alter database `+database+` owner to `+name)
	for _, kind := range []string{"schema public", "schema freshet"} {
		testkit.Exec(t, raw, `grant all on `+kind+` to `+name)
	}
	testkit.Exec(t, raw, `grant all on all tables in schema public, freshet to `+name)
	u.User = url.User(role)
	return u.String()
}

// TestHazard_F41_slotBesideAHeldCommit: a slot's consistent point can lie above
// a commit that is written but not yet visible; that one is never delivered.
// So nothing is served before it is visible.
//
// Postgres waits for the transactions that it finds running, twice; the commit
// must begin after the second look, and be written before the slot is
// consistent.
func TestHazard_F41_slotBesideAHeldCommit(t *testing.T) {
	t.Parallel()
	_, url := ownDatabase(t, nil)
	var feed *running
	back := besideAHeldCommit(t, url, func() { feed = start(t, url) })
	looks := func(f *running) {
		f.awaitStats(t, "the slot is made, and the feed looks whether it may serve", func(s wal.Stats) bool { return s.GateQueries > 100 })
	}
	looks(feed)
	require.True(t, feed.Frontier().IsZero(), "a stamp was given while a commit below it is invisible")
	require.Zero(t, count(t, url, "held"))

	// A node that dies between making a slot and that moment doesn't leave one that
	// passes for good.
	feed.stop()
	feed = start(t, url)
	looks(feed)
	require.True(t, feed.Frontier().IsZero(), "the slot passes for one that was waited for")

	testkit.ReleaseCommits(t, url)
	require.NoError(t, <-back)
	feed.live(t)
	// Whatever is stamped from here on was read after the row was visible,
	// which the stream never brought.
	require.Equal(t, 1, count(t, url, "held"))
	require.False(t, feed.Floor([]string{"conversations/held/messages"}).IsZero())
	feed.stop()

	// From now on everything below the slot is known to be visible, and nobody
	// waits for those who write just then.
	tx := begin(t, url)
	again := start(t, url)
	again.await(t, "it serves beside an open transaction", func() bool { return !again.Frontier().IsZero() })
	require.NoError(t, tx.Rollback(testkit.Context(t)))
}

// TestHazard_F75_slotOfSomebodyElse: the slot was dropped, and made again by
// somebody else, beside a commit that is held. It isn't taken for ours, which was
// waited for.
func TestHazard_F75_slotOfSomebodyElse(t *testing.T) {
	t.Parallel()
	_, url := ownDatabase(t, nil)
	feed := start(t, url).live(t)
	before := feed.caughtUp(t)
	feed.stop()
	dropSlot(t, url, slotOf(t, url))
	made := make(chan error, 1)
	conn, ctx, slot := testkit.Conn(t, url), testkit.Context(t), slotOf(t, url)
	back := besideAHeldCommit(t, url, func() {
		go func() {
			_, err := conn.Exec(ctx, `select pg_create_logical_replication_slot($1, 'pgoutput')`, slot)
			made <- err
		}()
	})
	require.NoError(t, <-made)
	feed = startOn(t, url, feed.sink)
	feed.awaitStats(t, "the feed looks whether it may serve", func(s wal.Stats) bool { return s.GateQueries > 100 })
	require.Error(t, feed.Ready())
	require.True(t, feed.Frontier().IsZero(), "a stamp was given while a commit below it is invisible")
	require.Zero(t, count(t, url, "held"))
	testkit.ReleaseCommits(t, url)
	require.NoError(t, <-back)
	feed.live(t)
	require.True(t, before.Less(feed.Floor([]string{"conversations/held/messages"})), "what is held from before is told as changed")
}

// besideAHeldCommit has a slot made, by what makeSlot begins, whose consistent
// point lies above a commit that is held. It returns when the slot can be
// made, and a channel that says when the commit came back.
func besideAHeldCommit(t *testing.T, url string, makeSlot func()) (back <-chan error) {
	t.Helper()
	local := testkit.WithParam(t, url, "synchronous_commit", "local")
	testkit.HoldCommits(t, url)
	ctx := testkit.Context(t)
	first := begin(t, local)
	makeSlot()
	waitForSlotWait(t, local, first)
	second := begin(t, local)
	require.NoError(t, first.Commit(ctx))
	waitForSlotWait(t, local, second)
	back = insertHeld(t, url, "held", "one")
	waitForHeld(t, local)
	require.NoError(t, second.Commit(ctx))
	return back
}

// waitForSlotWait waits until the slot's creation waits for tx.
func waitForSlotWait(t *testing.T, url string, tx pgx.Tx) {
	t.Helper()
	conn := testkit.Conn(t, url)
	pid := tx.Conn().PgConn().PID()
	require.Eventually(t, func() bool {
		var waits bool
		err := conn.QueryRow(testkit.Context(t), `
select exists (select from pg_stat_activity where pid <> pg_backend_pid() and $1::int = any(pg_blocking_pids(pid)))`, pid).Scan(&waits)
		return err == nil && waits
	}, testTimeout, testTick)
}

// waitForHeld waits until a commit waits for its standby.
func waitForHeld(t *testing.T, url string) {
	t.Helper()
	conn := testkit.Conn(t, url)
	require.Eventually(t, func() bool {
		var n int
		err := conn.QueryRow(testkit.Context(t), `select count(*) from pg_stat_activity where wait_event = 'SyncRep'`).Scan(&n)
		return err == nil && n > 0
	}, 10*time.Second, time.Millisecond)
}

// TestHazard_F20_frozenPostgres: the database stops answering while the
// process lives. The node's lag grows, and readiness fails.
func TestHazard_F20_frozenFeed(t *testing.T) {
	url := database(t)
	proxy := testkit.NewProxy(t, url)
	feed := start(t, proxy.URL(), func(c *wal.Config) { c.MaxLag = 500 * time.Millisecond }).live(t)
	feed.await(t, "current", func() bool { return feed.Lag() < 400*time.Millisecond })
	proxy.Pause()
	feed.await(t, "the lag grows and readiness fails", func() bool { return feed.Lag() > time.Second && feed.Ready() != nil })
	proxy.Resume()
	feed.await(t, "current again", func() bool { return feed.Lag() < 400*time.Millisecond && feed.Ready() == nil })
}

// TestHazard_openTransactionHoldsUpTheSlot says so, in the log and to whoever asks whether
// it is ready, and goes on when it ends.
func TestHazard_openTransactionHoldsUpTheSlot(t *testing.T) {
	url := database(t)
	ctx := testkit.Context(t)
	tx := begin(t, url)
	log := new(testkit.Buffer)
	feed := start(t, url, func(c *wal.Config) { c.Logger = log.Logger() })
	feed.await(t, "the log names the transaction", func() bool { return log.Contains("waits for open transactions") && log.Contains("pid ") })
	require.True(t, feed.Frontier().IsZero())
	feed.await(t, "so does readiness", func() bool {
		err := feed.Ready()
		return err != nil && strings.HasPrefix(err.Error(), "creating the replication slot waits for open transactions: pid ")
	})
	// Whoever logs why the node isn't ready doesn't do so for each that comes and goes.
	var lasting interface{ Kind() string }
	require.ErrorAs(t, feed.Ready(), &lasting)
	require.Equal(t, "creating the replication slot waits for open transactions", lasting.Kind())
	require.NoError(t, tx.Rollback(ctx))
	feed.live(t)
}

// TestHazard_lockedEpoch says so to whoever asks whether it is ready, and goes on when it
// ends.
func TestHazard_lockedEpoch(t *testing.T) {
	url := database(t)
	ctx := testkit.Context(t)
	conn := testkit.Conn(t, testkit.WithParam(t, url, "application_name", "psql"))
	for _, lock := range []string{
		"lock table freshet.epoch in share row exclusive mode",
		"lock table freshet.incarnation in access exclusive mode",
	} {
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, lock)
		require.NoError(t, err)
		feed := start(t, url)
		feed.await(t, "it names whoever has the lock: "+lock, func() bool {
			return strings.Contains(feed.Ready().Error(), fmt.Sprintf("resolve epoch: waits for whoever has locked freshet.epoch or freshet.incarnation: pid %d (psql, since ", conn.PgConn().PID()))
		})
		require.NoError(t, tx.Rollback(ctx))
		feed.live(t)
		feed.stop()
	}
}
