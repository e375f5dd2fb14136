package wal_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// F43, F49: Postgres refuses another type for a column that a publication lists, and
// docs/operations.md has the way to it, here of one column that is rewritten and one
// that isn't. Whoever follows topics of the table is told all of them, at a revision
// above every stamp given before, and rows after that by name, old and new.
func TestColumnType(t *testing.T) {
	t.Parallel()
	url := database(t)
	testkit.Exec(t, url, `
create table posts (id bigint generated always as identity primary key, room varchar(60) not null, shelf int not null, body text);
insert into posts (room, shelf) values ('before', 1)`)
	program := testkit.Contract(t, testkit.Source{Table: "posts", Topics: []string{"rooms/{room}", "shelves/{shelf}"}})
	conn := testkit.Conn(t, url)
	deploy(t, conn, program)
	feed := start(t, url, with(program)).live(t)

	var identity string
	const identityOf = "select relreplident::text || coalesce((select indexrelid::regclass::text from pg_index where indrelid = c.oid and indisreplident), '') from pg_class c where oid = 'posts'::regclass"
	require.NoError(t, conn.QueryRow(t.Context(), identityOf).Scan(&identity))
	for _, column := range []string{"room type varchar(200)", "shelf type bigint"} {
		_, err := conn.Exec(t.Context(), "alter table posts alter column "+column)
		require.ErrorContains(t, err, "used by a publication", "docs/operations.md says it is refused")
	}
	before := feed.caughtUp(t)
	feed.forget()
	testkit.Exec(t, url, `
begin;
set local lock_timeout = '1s';
lock table posts;
alter publication freshet drop table posts;
alter table posts alter column room type varchar(200), alter column shelf type bigint;
alter publication freshet add table posts (id, room, shelf);
commit`)
	feed.await(t, "all topics of the table", func() bool {
		return before.Less(feed.Horizon()) || slices.ContainsFunc(feed.all(), func(c freshet.Commit) bool {
			return before.Less(c.Revision) && slices.Contains(c.Floors, freshet.Pattern("rooms/*")) && slices.Contains(c.Floors, freshet.Pattern("shelves/*"))
		})
	})
	feed.live(t)
	var after string
	require.NoError(t, conn.QueryRow(t.Context(), identityOf).Scan(&after))
	require.Equal(t, identity, after, "the replica identity is what it was")

	feed.forget()
	long := strings.Repeat("x", 200)
	testkit.Exec(t, url, `update posts set room = '`+long+`', shelf = 3000000000`)
	feed.awaitTopic(t, "rooms/before")
	for _, topic := range []string{"rooms/" + long, "shelves/1", "shelves/3000000000"} {
		feed.awaitTopic(t, topic)
	}
}
