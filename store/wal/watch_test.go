package wal_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
)

const partitioned = `
create table messages (id uuid default gen_random_uuid(), conversation text, body text, primary key (conversation, id)) partition by list (conversation);
create table messages_a partition of messages for values in ('a');
create table messages_rest partition of messages default;
insert into messages (conversation) values ('a'), ('c')`

// TestWatchdog_F43 does behind the feed's back what never reaches the stream,
// while it runs and while it is down. All topics of the table are told, at a
// revision above every stamp given before.
func TestWatchdog_F43(t *testing.T) {
	for _, c := range []struct{ name, ddl, sql string }{
		{"publication recreated", "", `
drop publication freshet;
insert into messages (conversation, author, body) values ('lost', 'a', 'b');
create publication freshet for table messages (id, conversation) with (publish_via_partition_root = true)`},
		{"table out of the publication", "", `
alter publication freshet drop table messages;
insert into messages (conversation, author, body) values ('lost', 'a', 'b');
alter publication freshet add table messages (id, conversation)`},
		{"publication narrowed", "", `
alter publication freshet set (publish = 'insert');
update messages set author = 'lost';
alter publication freshet set (publish = 'insert, update, delete, truncate')`},
		{"table rewritten", "", `alter table messages alter column body type varchar using upper(body)`},
		{"identity flipped and back", "", `
alter table messages replica identity nothing;
alter table messages replica identity using index messages_conversation_id_key`},
		{"leaf truncated", partitioned, `truncate messages_a`},
		{"leaf detached", partitioned, `alter table messages detach partition messages_a`},
		{"leaf dropped", partitioned, `drop table messages_a`},
		{"leaf attached", partitioned, `
create table messages_b (id uuid not null default gen_random_uuid(), conversation text not null, body text, primary key (conversation, id));
insert into messages_b (conversation) values ('b');
alter table messages attach partition messages_b for values in ('b')`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			newDatabase := func() string {
				if c.ddl == "" {
					return database(t)
				}
				return databaseWith(t, c.ddl)
			}
			// All topics of the table, or, where the slot had to be made anew,
			// of every table: nothing below the horizon is known.
			whole := func(feed *running, above freshet.Revision) func() bool {
				return func() bool {
					if above.Less(feed.Horizon()) {
						return true
					}
					return slices.ContainsFunc(feed.all(), func(c freshet.Commit) bool {
						return above.Less(c.Revision) && len(c.Floors) == len(messagesFloors())
					})
				}
			}
			t.Run("while it runs", func(t *testing.T) {
				url := newDatabase()
				feed := start(t, url).live(t)
				before := feed.caughtUp(t)
				feed.forget()
				testkit.Exec(t, url, c.sql)
				feed.await(t, "all topics of the table", whole(feed, before))
				feed.live(t)
				// Capture goes on: the next row is told by name, or as a
				// floor until the table's shape is known again.
				testkit.Exec(t, url, `select pg_logical_emit_message(true, 'freshet', 'after')`)
				feed.awaitTopic(t, "after")
			})
			t.Run("while it is down", func(t *testing.T) {
				url := newDatabase()
				feed := start(t, url).live(t)
				before := feed.caughtUp(t)
				feed.stop()
				testkit.Exec(t, url, c.sql)
				again := start(t, url)
				again.await(t, "all topics of the table", whole(again, before))
				again.live(t)
			})
		})
	}
}

// TestWatchdog_F43_identityMoved: an identity that is moved to another index and
// back, with nothing written that would have the table described anew.
func TestWatchdog_F43_identityMoved(t *testing.T) {
	url := database(t)
	testkit.Exec(t, url, `create unique index other on messages (id, conversation)`)
	feed := start(t, url).live(t)
	before := feed.caughtUp(t)
	feed.stop()
	testkit.Exec(t, url, `
alter table messages replica identity using index other;
alter table messages replica identity using index messages_conversation_id_key`)
	again := start(t, url)
	again.awaitFloorAbove(t, before)
}

// TestWatchdog_quiet: what changes nothing of the capture is not told.
func TestWatchdog_quiet(t *testing.T) {
	url := database(t)
	feed := start(t, url).live(t)
	require.Empty(t, commitsAfter(t, feed, func() {
		testkit.Exec(t, url, `vacuum (freeze, analyze) messages`)
		testkit.Exec(t, url, `create table other (x int)`)
		looks := feed.Stats().Looks
		feed.awaitStats(t, "the watchdog looks again", func(s wal.Stats) bool { return s.Looks > looks+1 })
	}))
	again := feed.Frontier()
	feed.stop()
	second := start(t, url).live(t)
	second.caughtUp(t)
	require.Empty(t, second.all())
	require.False(t, second.Frontier().Less(again))
}

// TestWatchdog_F10_shapeChanges: a new column and a new partition go on; a
// column of a template that is renamed is a loud error and a quarantine, and
// what is told meanwhile is the whole table, not a wrong topic.
func TestWatchdog_F10_shapeChanges(t *testing.T) {
	url := databaseWith(t, partitioned)
	feed := start(t, url).live(t)
	testkit.Exec(t, url, `alter table messages add column extra int default 7`)
	testkit.Exec(t, url, `create table messages_n partition of messages for values in ('n')`)
	testkit.Exec(t, url, `insert into messages (conversation) values ('n')`)
	feed.awaitTopic(t, "conversations/n/messages")
	require.NoError(t, feed.Ready())

	testkit.Exec(t, url, `alter table messages rename column conversation to thread`)
	feed.awaitQuarantine(t, `has no column "conversation"`)
	commits := commitsAfter(t, feed, func() { testkit.Exec(t, url, `insert into messages (thread) values ('n')`) })
	require.NotEmpty(t, commits)
	for _, c := range commits {
		require.Empty(t, c.Topics)
		require.ElementsMatch(t, messagesFloors(), c.Floors)
	}

	testkit.Exec(t, url, `alter table messages rename column thread to conversation`)
	feed.awaitNoQuarantine(t)
	testkit.Exec(t, url, `insert into messages (conversation) values ('again')`)
	feed.awaitTopic(t, "conversations/again/messages")
}

// TestWatchdog_wokenByTheStream: that a table is described anew has the watchdog
// look at once, and not only when its time has come.
func TestWatchdog_wokenByTheStream(t *testing.T) {
	t.Parallel()
	url := database(t)
	feed := start(t, url, func(c *wal.Config) { c.WatchInterval = time.Hour }).live(t)
	testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('c', 'a', 'b')`)
	feed.awaitTopic(t, "conversations/c/messages")
	testkit.Exec(t, url, `alter table messages rename column conversation to thread`)
	testkit.Exec(t, url, `insert into messages (thread, author, body) values ('c', 'a', 'b')`)
	feed.awaitQuarantine(t, `has no column "conversation"`)
}

// TestWatchdog_saysWhatHappened: the log tells a TRUNCATE from a change of the table.
func TestWatchdog_saysWhatHappened(t *testing.T) {
	const (
		emptied = "a source was emptied by TRUNCATE: it is in quarantine"
		changed = "a source is new here, or its shape, its publication or its policies changed: it is in quarantine"
	)
	for _, c := range []struct{ name, ddl, sql, said, not string }{
		{"truncated", "", `truncate messages`, emptied, changed},
		{"truncated, and written to", "", `truncate messages restart identity; insert into messages (conversation, author, body) values ('a', 'a', 'b')`, emptied, changed},
		{"truncated twice", "", `truncate messages; truncate messages`, emptied, changed},
		{"leaf truncated", partitioned, `truncate messages_a`, emptied, changed},
		{"rewritten", "", `vacuum full messages`, changed, emptied},
		{"with another storage", "", `alter table messages set (fillfactor = 50)`, changed, emptied},
		{"truncated and altered", "", `begin; truncate messages; alter table messages add column more text; commit`, changed, emptied},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := database(t)
			if c.ddl != "" {
				url = databaseWith(t, c.ddl)
			}
			log := new(testkit.Buffer)
			feed := start(t, url, func(c *wal.Config) { c.Logger = log.Logger() }).live(t)
			before := feed.caughtUp(t)
			seen := len(log.String())
			testkit.Exec(t, url, c.sql)
			feed.awaitFloorAbove(t, before)
			feed.live(t)
			require.Contains(t, log.String()[seen:], c.said)
			require.NotContains(t, log.String()[seen:], c.not)
		})
	}
}
