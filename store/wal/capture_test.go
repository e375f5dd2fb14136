package wal_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
)

// messagesFloors is "all topics of the table messages".
func messagesFloors() []freshet.Pattern { return program().Source("public", "messages").Floors() }

// commitsAfter runs do, waits until the feed has passed it, and returns what
// was told of it.
func commitsAfter(t *testing.T, feed *running, do func()) []freshet.Commit {
	t.Helper()
	feed.caughtUp(t)
	feed.forget()
	do()
	feed.caughtUp(t)
	return feed.all()
}

// requireFloors requires that the commits name all topics of the table, and
// nothing else. There may be two: a TRUNCATE gives the table another row in
// pg_class, so that the watchdog tells it as well, when it next looks.
func requireFloors(t *testing.T, commits []freshet.Commit) {
	t.Helper()
	require.NotEmpty(t, commits)
	for _, c := range commits {
		require.Empty(t, c.Topics)
		require.ElementsMatch(t, messagesFloors(), c.Floors)
	}
}

// TestCapture_F4_oldAndNewTopics: whatever moves or removes a row by SQL names
// the topics that it had and those that it has.
func TestCapture_F4_oldAndNewTopics(t *testing.T) {
	url := databaseWith(t, `
create table threads (id text primary key);
create table messages (
  id uuid default gen_random_uuid(), conversation text references threads on delete cascade, body text,
  primary key (conversation, id)
) partition by list (conversation);
create table messages_a partition of messages for values in ('a');
create table messages_b partition of messages for values in ('b');
create table messages_rest partition of messages default;
insert into threads values ('a'), ('b'), ('c'), ('d')`)
	feed := start(t, url).live(t)
	conn := testkit.Conn(t, url)
	ctx := testkit.Context(t)
	exec := func(sql string, args ...any) func() {
		return func() {
			_, err := conn.Exec(ctx, sql, args...)
			require.NoError(t, err)
		}
	}
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	one := func(t *testing.T, commits []freshet.Commit, want ...string) {
		t.Helper()
		require.Len(t, commits, 1)
		require.Equal(t, sorted(want...), sorted(commits[0].Topics...))
		require.Empty(t, commits[0].Floors)
	}
	one(t, commitsAfter(t, feed, exec(`insert into messages values ($1, 'a', repeat('long', 100000))`, id)), topicsOf("a", id)...)
	one(t, commitsAfter(t, feed, exec(`update messages set conversation = 'b' where id = $1`, id)),
		append(topicsOf("a", id), topicsOf("b", id)...)...) // moves to another partition: DELETE and INSERT
	one(t, commitsAfter(t, feed, exec(`update messages set conversation = 'c' where id = $1`, id)), append(topicsOf("b", id), topicsOf("c", id)...)...)
	one(t, commitsAfter(t, feed, exec(`update messages set conversation = 'd' where id = $1`, id)),
		append(topicsOf("c", id), topicsOf("d", id)...)...) // within one; the large body stays unchanged, and is not sent
	one(t, commitsAfter(t, feed, exec(`delete from threads where id = 'd'`)), topicsOf("d", id)...)
	requireFloors(t, commitsAfter(t, feed, exec(`truncate messages`)))
}

// TestCapture_F5_savepoints: of a transaction larger than the decoder's
// memory, exactly the rows that were committed are told.
func TestCapture_F5_savepoints(t *testing.T) {
	url := testkit.WithParam(t, database(t), "logical_decoding_work_mem", "64kB")
	feed := start(t, url).live(t)
	conn := testkit.Conn(t, url)
	ctx := testkit.Context(t)
	commits := commitsAfter(t, feed, func() {
		require.NoError(t, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			for i, sql := range []string{
				`insert into messages (conversation, author, body) select 'keep', 'a', repeat('x', 500) from generate_series(1, 1000)`,
				`savepoint s`,
				`insert into messages (conversation, author, body) select 'undone', 'a', repeat('x', 500) from generate_series(1, 1000)`,
				`rollback to s`,
				`insert into messages (conversation, author, body) select 'too', 'a', repeat('x', 500) from generate_series(1, 500)`,
			} {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return fmt.Errorf("%d: %w", i, err)
				}
			}
			return nil
		}))
	})
	require.Len(t, commits, 1)
	require.Len(t, commits[0].Topics, 1500+4)
	require.Contains(t, commits[0].Topics, "conversations/keep/messages")
	require.Contains(t, commits[0].Topics, "conversations/too/messages")
	for _, topic := range commits[0].Topics {
		require.False(t, strings.HasPrefix(topic, "conversations/undone"))
	}
}

// TestCapture_F6_hugeTransaction: a million rows become one notice of floors,
// memory stays bounded, and another writer's commit is told soon after.
func TestCapture_F6_hugeTransaction(t *testing.T) {
	url := databaseWith(t, `create table messages (id bigint generated always as identity, conversation text, primary key (conversation, id))`)
	feed := start(t, url).live(t)
	const rows = 1_000_000
	done := make(chan error, 1)
	big := testkit.Conn(t, url)
	ctx := testkit.Context(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	go func() {
		_, err := big.Exec(ctx, `insert into messages (conversation) select 'big' || i % 7 from generate_series(1, $1::int) i`, rows)
		done <- err
	}()
	require.NoError(t, <-done)
	asked := time.Now()
	testkit.Exec(t, url, `insert into messages (conversation) values ('small')`)
	feed.awaitWithin(t, time.Minute, "the small commit", func() bool { return len(feed.all()) == 2 })
	t.Logf("another commit was told %s after it, behind a transaction of %d rows", time.Since(asked).Round(time.Millisecond), rows)
	runtime.GC()
	runtime.ReadMemStats(&after)
	commits := feed.all()
	require.Len(t, commits, 2)
	require.ElementsMatch(t, messagesFloors(), commits[0].Floors)
	require.Contains(t, commits[1].Topics, "conversations/small/messages")
	require.LessOrEqual(t, len(commits[0].Topics), 10_000)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(32<<20))
	require.EqualValues(t, 1, feed.Stats().Oversize, "one transaction")
}

// TestCapture_F45_messages: anybody may emit a logical message. One of ours in
// a transaction is told when it commits; everything else is ignored, counted,
// and costs no memory.
func TestCapture_F45_messages(t *testing.T) {
	url := database(t)
	feed := start(t, url).live(t)
	conn := testkit.Conn(t, url)
	ctx := testkit.Context(t)
	emit := func(sql string) func() {
		return func() {
			_, err := conn.Exec(ctx, sql)
			require.NoError(t, err)
		}
	}
	commits := commitsAfter(t, feed, emit(`select pg_logical_emit_message(true, 'freshet', 'reports/daily')`))
	require.Len(t, commits, 1)
	require.Equal(t, []string{"reports/daily"}, commits[0].Topics)

	ignored := feed.Stats().Ignored
	commits = commitsAfter(t, feed, func() {
		emit(`select pg_logical_emit_message(false, 'freshet', 'reports/nontransactional')`)()
		emit(`select pg_logical_emit_message(true, 'freshet', '')`)()
		emit(`select pg_logical_emit_message(true, 'freshet', E'a\nb')`)()
		emit(`select pg_logical_emit_message(true, 'freshet', repeat('x', 513))`)()
		emit(`select pg_logical_emit_message(true, 'other', 'x')`)()
		emit(`select pg_logical_emit_message(true, 'freshet.source', 'public.nothing')`)()
		emit(`select pg_logical_emit_message(true, 'freshet', repeat('x', 200000000))`)()
		emit(`begin; select pg_logical_emit_message(true, 'freshet', 'reports/undone'); rollback`)()
	})
	require.Empty(t, commits)
	require.EqualValues(t, 7, feed.Stats().Ignored-ignored)
	require.Zero(t, feed.Stats().Sessions, "no session was lost over it")
}

// TestCapture_F9_idleDatabase: writes to other tables only, or to another
// database of the instance; the frontier moves, and WAL is not retained.
func TestCapture_F9_idleDatabase(t *testing.T) {
	url := database(t)
	feed := start(t, url, func(c *wal.Config) { c.WindowAge = time.Second }).live(t)
	other := testkit.Database(t)
	for _, target := range []string{url, other} {
		before := feed.Frontier()
		testkit.Exec(t, target, `create table unrelated (x int)`)
		testkit.Exec(t, target, `insert into unrelated select generate_series(1, 1000)`)
		require.True(t, before.Less(feed.caughtUp(t)))
	}
	require.Empty(t, feed.all())
	conn := testkit.Conn(t, url)
	here := feed.Frontier()
	feed.await(t, "the slot is confirmed past all of it", func() bool {
		var confirmed uint64
		err := conn.QueryRow(testkit.Context(t), `
select (confirmed_flush_lsn - '0/0')::bigint from pg_replication_slots where slot_name = $1`, slotOf(t, url)).Scan(&confirmed)
		return err == nil && confirmed >= here.Position
	})
}

// TestCapture_F44_asynchronousCommits: the WAL of an asynchronous commit isn't
// even flushed for up to 400 ms; it is told within 20 ms at the median.
func TestCapture_F44_asynchronousCommits(t *testing.T) {
	url := database(t)
	feed := start(t, url).live(t)
	conn := testkit.Conn(t, testkit.WithParam(t, url, "synchronous_commit", "off"))
	ctx := testkit.Context(t)
	median := func() time.Duration {
		var took []time.Duration
		for i := range 51 {
			var id string
			require.NoError(t, conn.QueryRow(ctx, insertMessage, "7", fmt.Sprint(i)).Scan(&id))
			committed := time.Now()
			feed.awaitTopic(t, "conversations/7/messages/"+id)
			took = append(took, time.Since(committed))
		}
		slices.Sort(took)
		t.Logf("commit to notice: median %s, max %s", took[len(took)/2], took[len(took)-1])
		return took[len(took)/2]
	}
	// Without nudges it is never that fast; beside other work not always with them.
	for range 5 {
		if median() < 20*time.Millisecond {
			return
		}
	}
	require.FailNow(t, "the median was never below 20 ms")
}

// TestCapture_domains: a column of a domain has the topics of the type below it,
// of whatever schema, name and depth.
func TestCapture_domains(t *testing.T) {
	url := databaseWith(t, `
create schema "Other";
create domain "Other"."text" as varchar(40) check (value <> '');
create domain slug as "Other"."text" check (value !~ '/');
create domain ident as uuid;
create table messages (id ident, conversation slug, body text, primary key (conversation, id))`)
	feed := start(t, url).live(t)
	feed.awaitNoQuarantine(t)
	feed.caughtUp(t)
	feed.forget()
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	testkit.Exec(t, url, `insert into messages values ($1, 'a', 'b')`, id)
	testkit.Exec(t, url, `update messages set conversation = 'c' where id = $1`, id)
	testkit.Exec(t, url, `delete from messages where id = $1`, id)
	feed.caughtUp(t)
	commits := feed.all()
	require.Len(t, commits, 3)
	require.Equal(t, topicsOf("a", id), sorted(commits[0].Topics...))
	require.Equal(t, sorted(append(topicsOf("a", id), topicsOf("c", id)...)...), sorted(commits[1].Topics...))
	require.Equal(t, topicsOf("c", id), sorted(commits[2].Topics...))
	for _, c := range commits {
		require.Empty(t, c.Floors)
	}
}
