package wal_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
	"github.com/freshet-dev/freshet/store/wal"
)

// TestQuarantine_F49_beginsInTheOrderOfTheWAL: whatever the frontier passes that
// was not captured, the source was in quarantine by then, while others write all
// the time.
func TestQuarantine_F49_beginsInTheOrderOfTheWAL(t *testing.T) {
	everyMajor(t, func(t *testing.T, server *testkit.Server, major int) {
		const row = `insert into messages (conversation, author, body) values ('lost', 'a', 'b')`
		const swapped = `alter table messages rename author to swap; alter table messages rename body to author; alter table messages rename swap to body`
		// What is done, a row that is lost by it, how it is taken back; what is set up before.
		cases := map[string][4]string{
			"the table leaves the publication": {
				`alter publication freshet drop table messages`, row,
				`alter publication freshet add table messages (id, conversation)`,
			},
			"its schema leaves the publication": {
				`alter publication freshet drop tables in schema public`, row,
				`alter publication freshet add tables in schema public`,
				`alter publication freshet drop table messages; alter publication freshet add tables in schema public`,
			},
			"the publication is narrowed": {
				`alter publication freshet set (publish = 'update, delete, truncate')`, row,
				`alter publication freshet set (publish = 'insert, update, delete, truncate')`,
			},
			"the table is swapped by a rename": {
				`do $$ begin execute 'alter table messages rename to away'; execute 'create table messages as table away with no data'; end $$`, row,
				`do $$ begin drop table messages; alter table away rename to messages; end $$`,
			},
			"the schema is swapped by a rename": {
				`alter schema public rename to away; create schema public; create table messages (like away.messages including defaults);
alter table messages alter update_time drop not null, alter etag drop not null`, row,
				`drop schema public cascade; alter schema away rename to public`,
			},
			"a partition comes": { // it could be one that capture can't see
				`create table messages_lost partition of messages for values in ('lost')`, row,
				`drop table messages_lost`,
				`drop table messages; create table messages (id uuid default gen_random_uuid(), conversation text, author text, body text,
  primary key (conversation, id)) partition by list (conversation); create table messages_others partition of messages for values in ('other');
alter publication freshet add table messages (id, conversation)`,
			},
			"a policy changes": { // the row is what others see or don't
				`alter policy visible on messages using (false)`, row,
				`alter policy visible on messages using (true)`,
				`alter table messages enable row level security; create policy visible on messages using (true)`,
			},
			"a label is renamed": { // of an enum that a row shows
				`alter type mood rename value 'glad' to 'happy'`, row,
				`alter type mood rename value 'happy' to 'glad'`,
				`create type mood as enum ('glad', 'sad'); alter table messages add felt mood default 'glad'`,
			},
			"a label inside is renamed": {
				`alter type mood rename value 'sad' to 'blue'`, row,
				`alter type mood rename value 'blue' to 'sad'`,
				`create type mood as enum ('glad', 'sad'); create domain known as mood not null; create type times as (mood known, from_time timestamptz);
alter table messages add moods times[]`,
			},
			"columns are renamed": { // and no row is written
				swapped, row,
				swapped,
			},
			"a column's type changes": { // its text, too, and the table isn't rewritten
				`set timezone to 'UTC'; alter table messages alter seen type timestamptz`, row,
				`alter table messages alter seen type timestamp`,
				`alter table messages add seen timestamp default now()`,
			},
			"a column goes": {
				`alter table messages drop note`, row,
				`alter table messages add note text`,
				`alter table messages add note text`,
			},
			"an attribute is renamed": {
				`alter type spot rename attribute x to lon`, row,
				`alter type spot rename attribute lon to x`,
				`create type spot as (x int, y int); alter table messages add spots spot[]`,
			},
			"an attribute comes": {
				`alter type spot add attribute z int`, row,
				`alter type spot drop attribute z`,
				`create type spot as (x int, y int); alter table messages add at spot`,
			},
		}
		unshared, err := contract.Compile(testkit.Unshared(t))
		require.NoError(t, err)
		// Capture is right again as soon as all topics are told.
		soon := map[string]bool{
			"a partition comes": true, "a policy changes": true, "a label is renamed": true, "a label inside is renamed": true,
			"columns are renamed": true, "a column's type changes": true, "a column goes": true,
			"an attribute is renamed": true, "an attribute comes": true,
		}
		if major >= 18 {
			cases["the publication is made anew"] = [4]string{
				`drop publication freshet`, row,
				`create publication freshet for table messages (id, conversation) with (publish_via_partition_root = true)`,
			}
		}
		for name, sql := range cases {
			t.Run(name, func(t *testing.T) {
				url := server.Template(t, "wal", prepare)
				testkit.Exec(t, url, sql[3])
				sink := &watchful{sink: newSink()}
				// The watchdog is no help here.
				feed := startOn(t, url, sink.sink, func(c *wal.Config) {
					c.Sink, c.WatchInterval, c.Program = sink, testTimeout, unshared // which row security allows
				}).live(t)
				ctx := testkit.Context(t)
				ticking := make(chan struct{})
				var others sync.WaitGroup
				defer others.Wait()
				defer close(ticking)
				other := testkit.Conn(t, url)
				others.Go(func() {
					for {
						select {
						case <-ticking:
							return
						default:
							_, _ = other.Exec(ctx, `select pg_logical_emit_message(true, 'freshet', 'tick')`)
						}
					}
				})
				conn := testkit.Conn(t, url)
				for range 5 {
					before := feed.Frontier()
					var lost uint64
					for _, sql := range sql[:2] {
						_, err := conn.Exec(ctx, sql)
						require.NoError(t, err)
					}
					require.NoError(t, conn.QueryRow(ctx, `select (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&lost))
					at := freshet.Revision{Epoch: feed.Frontier().Epoch, Position: lost}
					if soon[name] { // both within a millisecond would leave no trace in the catalog
						require.NoError(t, feed.Wait(ctx, at))
					}
					_, err := conn.Exec(ctx, sql[2])
					require.NoError(t, err)
					require.NoError(t, feed.Wait(ctx, at))
					require.True(t, sink.begunBy(before, at), "the frontier has reached %s, above the change, and there has been no quarantine", at)
					require.True(t, soon[name] || sink.heldAt(at), "the frontier has reached %s, above a lost commit, and nothing was in quarantine", at)
					feed.awaitNoQuarantine(t)
					feed.awaitFloorAbove(t, at)
				}
			})
		}
	})
}

// TestQuarantine_endsSoonAfterTheMend: a table that has come back into the
// publication is noticed by the gate; the watchdog looks in a while only.
func TestQuarantine_endsSoonAfterTheMend(t *testing.T) {
	t.Parallel()
	url := database(t)
	feed := start(t, url, func(c *wal.Config) { c.WatchInterval = time.Hour }).live(t)
	testkit.Exec(t, url, `alter publication freshet drop table messages`)
	feed.awaitQuarantine(t, "lacks")
	testkit.Exec(t, url, `alter publication freshet add table messages (id, conversation)`)
	feed.awaitNoQuarantine(t)
}

// awaitFloorAbove waits until all topics of the table were told above rev.
func (r *running) awaitFloorAbove(t *testing.T, rev freshet.Revision) {
	t.Helper()
	r.await(t, "all topics of the table above "+rev.String(), func() bool {
		for _, c := range r.all() {
			if rev.Less(c.Revision) && len(c.Floors) == len(messagesFloors()) {
				return true
			}
		}
		return false
	})
}

// TestQuarantine_F53_openTransaction: what a transaction wrote before its table
// joined the publication is never in the stream. The quarantine outlasts it, and
// ends with a notice above its commit.
func TestQuarantine_F53_openTransaction(t *testing.T) {
	everyMajor(t, func(t *testing.T, server *testkit.Server, _ int) {
		url := server.Template(t, "wal", prepare)
		feed := start(t, url).live(t)
		testkit.Exec(t, url, `alter publication freshet drop table messages`)
		feed.awaitQuarantine(t, "lacks")
		ctx := testkit.Context(t)
		tx, err := testkit.Conn(t, url).Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `insert into messages (conversation, author, body) values ('late', 'a', 'b')`)
		require.NoError(t, err)
		testkit.Exec(t, url, `alter publication freshet add table messages (id, conversation)`)
		feed.awaitQuarantine(t, "transactions")
		looks := feed.Stats().Looks
		feed.awaitStats(t, "it is still waited for", func(s wal.Stats) bool { return s.Looks > looks+3 })
		feed.awaitQuarantine(t, fmt.Sprintf("transactions to end that ran when its catalog became right: pid %d (since ", tx.Conn().PgConn().PID()))
		before := feed.caughtUp(t)
		require.NoError(t, tx.Commit(ctx))
		feed.awaitNoQuarantine(t)
		feed.awaitFloorAbove(t, before)
		// From now on rows are told by name.
		testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('then', 'a', 'b')`)
		feed.awaitTopic(t, "conversations/then/messages")
	})
}

// runPrinted runs the SQL that the set-up checks print.
func runPrinted(t *testing.T, url string) {
	t.Helper()
	conn := testkit.Conn(t, url)
	for range 5 {
		problems, err := setup.Check(testkit.Context(t), conn, program(), "freshet")
		require.NoError(t, err)
		done := true
		for _, p := range problems {
			if p.Warning {
				continue
			}
			done = false
			for _, sql := range p.SQL {
				_, err := conn.Exec(testkit.Context(t), sql)
				require.NoError(t, err, sql)
			}
			break // what the others need may have changed
		}
		if done {
			return
		}
	}
	require.Fail(t, "the printed SQL doesn't mend it")
}

// TestQuarantine_F54: what is found wrong with a source while capture runs puts
// it into quarantine, in which it is told again and again, and doesn't fail
// readiness; after the printed SQL has run, the node is well by itself.
func TestQuarantine_F54(t *testing.T) {
	for name, c := range map[string]struct{ table, sql, waits, mend string }{
		"a rename swap": {"", `
create table messages_2 (like messages including all);
alter table messages rename to messages_1;
alter table messages_2 rename to messages`, "lacks", ""},
		"the table is gone":     {"", `alter table messages rename to elsewhere`, "doesn't exist", `alter table elsewhere rename to messages`},
		"the identity is lost":  {"", `alter table messages replica identity nothing`, "identity", ""},
		"an inheritance child":  {"", `create table child () inherits (messages)`, "inherits", `drop table child`},
		"an unlogged partition": {partitioned, `create unlogged table messages_u partition of messages for values in ('u')`, "unlogged", `drop table messages_u`},
		"a row filter":          {"", `alter publication freshet set table messages where (conversation <> 'x')`, "filter", ""},
		"the schema is renamed": {"", `alter schema public rename to aside; create schema public`, "doesn't exist", `drop schema public; alter schema aside rename to public`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var url string
			if c.table == "" {
				url = database(t)
			} else {
				url = databaseWith(t, c.table)
			}
			feed := start(t, url).live(t)
			testkit.Exec(t, url, c.sql)
			feed.awaitQuarantine(t, c.waits)
			feed.forget()
			for range 2 { // again and again
				feed.awaitFloorAbove(t, feed.caughtUp(t))
			}
			// Another session doesn't fail for it either.
			testkit.Exec(t, url, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'freshet' and datname = current_database()`)
			feed.awaitStats(t, "the session ends", func(s wal.Stats) bool { return s.Sessions > 0 })
			feed.await(t, "ready again", func() bool { return feed.Ready() == nil })
			feed.awaitQuarantine(t, c.waits)
			before := feed.caughtUp(t)
			if c.mend != "" {
				testkit.Exec(t, url, c.mend)
			} else {
				runPrinted(t, url)
			}
			feed.awaitNoQuarantine(t)
			feed.awaitFloorAbove(t, before)
		})
	}
}

// TestQuarantine_F54_publicationMissing: without a publication there may be no
// stream; once the printed SQL has run the node is well by itself.
func TestQuarantine_F54_publicationMissing(t *testing.T) {
	everyMajor(t, func(t *testing.T, server *testkit.Server, major int) {
		url := server.Template(t, "wal", prepare)
		feed := start(t, url).live(t)
		testkit.Exec(t, url, `drop publication freshet`)
		testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('lost', 'a', 'b')`)
		if major >= 18 {
			feed.awaitQuarantine(t, "missing")
		} else {
			feed.await(t, "not ready", func() bool { err := feed.Ready(); return err != nil && strings.Contains(err.Error(), "missing") })
		}
		runPrinted(t, url)
		feed.await(t, "ready", func() bool { return feed.Ready() == nil })
		feed.awaitNoQuarantine(t)
		testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('then', 'a', 'b')`)
		feed.awaitTopic(t, "conversations/then/messages")
	})
}

// TestQuarantine_F64_policies: what a policy lets through isn't in the WAL. All
// topics are told when one changes.
func TestQuarantine_F64_policies(t *testing.T) {
	url := database(t)
	feed := start(t, url).live(t)
	for _, sql := range []string{
		`create policy visible on messages using (author <> 'x')`,
		`alter policy visible on messages using (author <> 'y')`,
		`drop policy visible on messages`,
	} {
		before := feed.caughtUp(t)
		testkit.Exec(t, url, sql)
		feed.awaitFloorAbove(t, before)
		feed.awaitNoQuarantine(t)
	}
}

// TestQuarantine_F24_sharedReadsUnderRowSecurity: a table gets row security while its
// reads are shared. From then on nothing of it is kept or shared, until one or the
// other has gone.
func TestQuarantine_F24_sharedReadsUnderRowSecurity(t *testing.T) {
	url := database(t)
	feed := start(t, url).live(t)
	testkit.Exec(t, url, `alter table messages enable row level security`)
	feed.awaitQuarantine(t, "has row security")
	require.NoError(t, feed.Ready())
	testkit.Exec(t, url, `alter table messages disable row level security`)
	feed.awaitNoQuarantine(t)
}

// TestQuarantine_F76_lockOnFingerprints: a lock on our own table neither stops
// the watchdog nor lets a source out of quarantine.
func TestQuarantine_F76_lockOnFingerprints(t *testing.T) {
	url := database(t)
	feed := start(t, url).live(t)
	ctx := testkit.Context(t)
	for mode, waits := range map[string]string{
		"share":            "lock timeout",
		"access exclusive": "transactions", // it has an id, so it is waited for itself
	} {
		tx, err := testkit.Conn(t, url).Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `lock table freshet.fingerprint in `+mode+` mode`)
		require.NoError(t, err)
		testkit.Exec(t, url, `alter publication freshet drop table messages`)
		feed.awaitQuarantine(t, "lacks")
		testkit.Exec(t, url, `alter publication freshet add table messages (id, conversation)`)
		feed.awaitQuarantine(t, waits)
		require.NoError(t, tx.Rollback(ctx))
		feed.awaitNoQuarantine(t)
	}
}

// TestQuarantine_F76_catalogLocked: when the watchdog can't look, for longer than
// its interval, nobody knows, so every source is in quarantine.
func TestQuarantine_F76_cannotLook(t *testing.T) {
	url := database(t)
	// The close look needs a right that a glance doesn't.
	testkit.Exec(t, url, `create role looker superuser login`)
	t.Cleanup(func() { testkit.Exec(t, url, `drop role looker`) })
	feed := start(t, testkit.WithParam(t, url, "user", "looker"), func(c *wal.Config) { c.WatchInterval = testTick }).live(t)
	ctx := testkit.Context(t)
	tx, err := testkit.Conn(t, url).Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `lock table pg_index in access exclusive mode`)
	require.NoError(t, err)
	feed.awaitQuarantine(t, "can't be looked at")
	require.NoError(t, tx.Rollback(ctx))
	feed.awaitNoQuarantine(t)
}

// TestQuarantine_F53_newSource: a source that is new here is in quarantine until
// what ran before is over, also over a restart.
func TestQuarantine_F53_newSource(t *testing.T) {
	url := database(t)
	feed := start(t, url).live(t)
	feed.stop()
	testkit.Exec(t, url, `delete from freshet.fingerprint where source = 'public.messages'`)
	ctx := testkit.Context(t)
	tx := begin(t, url)
	for range 2 {
		feed = start(t, url)
		feed.await(t, "ready", func() bool { return feed.Ready() == nil })
		feed.awaitQuarantine(t, "transactions")
		feed.stop()
	}
	require.NoError(t, tx.Commit(ctx))
	feed = start(t, url)
	feed.await(t, "ready", func() bool { return feed.Ready() == nil })
	feed.awaitNoQuarantine(t)
}
