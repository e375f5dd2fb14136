package setup_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// TestApply_twoContracts: two versions of a service, whose contracts differ, set up
// one database in turns, as nodes do that start and start again while a new version
// is rolled out and taken back. None takes away what the other needs.
func TestApply_twoContracts(t *testing.T) {
	const bounded = `create table rooms (id int primary key, conversation varchar(60) not null, room varchar(60) not null, body text)`
	for name, c := range map[string]struct {
		ddl      string
		one, two []string
	}{
		"a column was renamed":          {bounded, []string{"a/{conversation}"}, []string{"a/{room}"}},
		"a template was added":          {bounded, []string{"a/{conversation}"}, []string{"a/{conversation}", "b/{room}"}},
		"another key":                   {bounded, []string{"a/{id}"}, []string{"a/{room}"}},
		"an index has one's columns":    {bounded + `; create unique index on rooms (room)`, []string{"a/{conversation}"}, []string{"a/{room}"}},
		"texts of any length":           {`create table rooms (id int primary key, conversation text, room text, body text)`, []string{"a/{conversation}"}, []string{"a/{room}"}},
		"the newer's are of any length": {`create table rooms (id int primary key, conversation varchar(60) not null, room text, body text)`, []string{"a/{conversation}"}, []string{"a/{room}"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, url := testkit.Context(t), database(t)
			conn, writer := testkit.Conn(t, url), testkit.Conn(t, url)
			testkit.Exec(t, url, c.ddl+`; insert into rooms values (1, 'a', 'a', 'x')`)
			one, two := programOf(t, "rooms", c.one...), programOf(t, "rooms", c.two...)
			apply := func(of *contract.Program) (shape string) {
				t.Helper()
				left, err := setup.ApplyAll(ctx, conn, of, "freshet", nil)
				require.NoError(t, err)
				require.Empty(t, setup.Fatal(left))
				_, err = writer.Exec(ctx, `update rooms set body = 'y'`)
				require.NoError(t, err)
				require.NoError(t, conn.QueryRow(ctx, `
select concat_ws(' ', relreplident, (select string_agg(indexrelid::regclass::text, ' ' order by indexrelid) from pg_index where indrelid = c.oid and indisreplident),
  (select string_agg(attname, ' ' order by attname) from pg_attribute where attrelid = c.oid and attnum = any(r.prattrs)))
from pg_class c join pg_publication_rel r on r.prrelid = c.oid where c.oid = 'rooms'::regclass`).Scan(&shape))
				return shape
			}
			apply(one)
			shape := apply(two)
			require.Empty(t, fatal(t, conn, one), "the older version's nodes go on")
			require.Equal(t, shape, apply(one), "and take nothing away when they start again")
			require.Equal(t, shape, apply(two))
		})
	}
}
