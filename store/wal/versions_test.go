package wal_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store/setup"
	"github.com/freshet-dev/freshet/store/wal"
)

// Two versions of a contract. The second has another table, one topic of which the
// first has as well; and a topic of its own.
var (
	postsOne = testkit.Source{Table: "posts", Topics: []string{"messages", "rooms/{conversation}/posts"}}
	postsTwo = testkit.Source{Table: "posts", Topics: []string{"messages", "rooms/{room}/posts", "by/{author}"}}
	likes    = testkit.Source{Table: "likes", Topics: []string{"messages", "likes/{post}"}}
)

// twoVersions is a database with the tables of both contracts, set up for the first.
func twoVersions(t *testing.T) (url string, one, two *contract.Program) {
	t.Helper()
	url = database(t)
	// posts.room is posts.conversation under its new name, as in docs/operations.md.
	testkit.Exec(t, url, `
create table posts (id bigint generated always as identity primary key, conversation varchar(60) not null, room varchar(60) not null, author varchar(60) not null, body text);
create function posts_room() returns trigger language plpgsql as $$ begin
  if tg_op = 'INSERT' then
    new.room := coalesce(new.room, new.conversation);
    new.conversation := coalesce(new.conversation, new.room);
  elsif new.room is distinct from old.room then new.conversation := new.room;
  else new.room := new.conversation;
  end if;
  return new;
end $$;
create trigger posts_room before insert or update on posts for each row execute function posts_room();
create table likes (id bigint generated always as identity primary key, post int not null)`)
	one, two = testkit.Contract(t, postsOne), testkit.Contract(t, postsTwo, likes)
	deploy(t, testkit.Conn(t, url), one)
	return url, one, two
}

// deploy does what comes before the first node of a version: `migrate up --set-up`.
func deploy(t *testing.T, conn *pgx.Conn, of *contract.Program) {
	t.Helper()
	left, err := setup.ApplyAll(testkit.Context(t), conn, of, "freshet", nil)
	require.NoError(t, err)
	require.Empty(t, setup.Fatal(left))
}

// with is a node's contract.
func with(of *contract.Program) func(*wal.Config) {
	return func(c *wal.Config) { c.Program = of }
}

// ready waits until the node serves; topics of other versions may be held.
func (r *running) ready(t *testing.T) *running {
	t.Helper()
	r.await(t, "the feed is ready", func() bool {
		return r.Ready() == nil && !r.Frontier().IsZero() && len(r.Quarantined()) == 0
	})
	return r
}

func subscribe(t *testing.T, r *running, since freshet.Revision, topics ...string) *hub.Subscription {
	t.Helper()
	sub, err := r.Subscribe(topics, hub.Since{All: since})
	require.NoError(t, err)
	t.Cleanup(sub.Close)
	return sub
}

// TestVersions_heldWhileBothLive: what only the other version emits is told all the
// same, by nodes of either, and in the order of the WAL; what both emit is trusted
// again once the other has gone, the rest for as long as somebody may follow it.
func TestVersions_heldWhileBothLive(t *testing.T) {
	t.Parallel()
	url, one, two := twoVersions(t)
	conn := testkit.Conn(t, url)
	old := start(t, url, with(one)).ready(t)
	require.Empty(t, old.Foreign(), "there is one version")
	sub := subscribe(t, old, freshet.Revision{}, "messages", "likes/7", "by/ada", "rooms/a/posts", "elsewhere")

	deploy(t, conn, two)
	renewed := start(t, url, with(two)).ready(t)
	old.caughtUp(t)
	require.ElementsMatch(t, []freshet.Pattern{"messages", "likes/*", "by/*", "rooms/*/posts"}, old.Foreign(), "since before the other serves")
	require.Equal(t, []freshet.Pattern{"rooms/*/posts"}, renewed.Foreign())
	require.ElementsMatch(t, []string{"messages", "likes/7", "by/ada", "rooms/a/posts"}, sub.TakeAll().Topics, "what the other has answered until now")

	testkit.Exec(t, url, `insert into likes (post) values (7)`)
	at := old.caughtUp(t)
	notice := sub.TakeAll()
	require.ElementsMatch(t, []string{"messages", "likes/7", "by/ada", "rooms/a/posts"}, notice.Topics)
	require.False(t, notice.Frontier.Less(at))
	require.True(t, old.Hub.Quarantined([]string{"messages"}), "nothing of it is kept")
	require.False(t, old.Hub.Quarantined([]string{"elsewhere"}))

	renewed.stop()
	old.await(t, "what both emit is trusted again", func() bool { return len(old.Foreign()) == 2 })
	old.caughtUp(t)
	require.False(t, old.Hub.Quarantined([]string{"messages"}))
	require.Contains(t, sub.TakeAll().Topics, "messages", "once more at the end")
	require.ElementsMatch(t, []freshet.Pattern{"likes/*", "by/*"}, old.Foreign(), "pages of that version may be open")

	// Also of a node that never met it alive.
	old.stop()
	again := start(t, url, with(one)).ready(t)
	require.ElementsMatch(t, []freshet.Pattern{"likes/*", "by/*"}, again.Foreign())
	since := again.caughtUp(t)
	testkit.Exec(t, url, `insert into likes (post) values (7)`)
	again.caughtUp(t)
	require.Equal(t, []string{"likes/7"}, subscribe(t, again, since, "messages", "likes/7").TakeAll().Topics)

	// Until somebody has run what doctor prints.
	left, err := setup.CheckLeftovers(testkit.Context(t), conn, one, "freshet")
	require.NoError(t, err)
	forget := left[len(left)-1]
	require.Contains(t, forget.Text, "likes/*")
	testkit.Exec(t, url, forget.SQL[0])
	again.await(t, "it is forgotten", func() bool { return len(again.Foreign()) == 0 })
}

// TestVersions_inOrder: a node holds what the other version tells before its streams
// pass that version's beginning, whenever its watchdog looks.
func TestVersions_inOrder(t *testing.T) {
	t.Parallel()
	url, one, two := twoVersions(t)
	old := start(t, url, with(one), func(c *wal.Config) { c.WatchInterval = time.Hour }).ready(t)
	deploy(t, testkit.Conn(t, url), two)
	start(t, url, with(two)).ready(t)
	old.caughtUp(t)
	require.Len(t, old.Foreign(), 4)
}

// TestVersions_records: a version that is a part of the next one leaves nothing behind
// once its nodes are gone.
func TestVersions_records(t *testing.T) {
	t.Parallel()
	url, one, _ := twoVersions(t)
	conn := testkit.Conn(t, url)
	count := func(sql string) (n int) {
		require.NoError(t, conn.QueryRow(testkit.Context(t), sql).Scan(&n))
		return n
	}
	const records = `select count(*) from freshet.fingerprint where source like 'contract/%'`
	old := start(t, url, with(one)).ready(t)
	require.Equal(t, 1, count(records))
	both := testkit.Contract(t, postsOne, likes)
	deploy(t, conn, both)
	start(t, url, with(both)).ready(t)
	require.Equal(t, 2, count(records), "a node of the first lives")
	old.stop()
	class, key := setup.VersionLock(one.Hash())
	require.Eventually(t, func() bool {
		return count(fmt.Sprintf(`select count(*) from pg_locks where locktype = 'advisory' and classid::bigint = %d and objid::bigint = %d`, class, uint32(key))) == 0
	}, testTimeout, testTick)
	start(t, url, with(both)).ready(t)
	require.Equal(t, 1, count(records))
}
