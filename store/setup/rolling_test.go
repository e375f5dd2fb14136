package setup_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
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
		retired  string // the column that is dropped in the end
	}{
		"a column was renamed":          {bounded, []string{"a/{conversation}"}, []string{"a/{room}"}, "conversation"},
		"a template was added":          {bounded, []string{"a/{conversation}"}, []string{"a/{conversation}", "b/{room}"}, ""},
		"another key":                   {bounded, []string{"a/{id}"}, []string{"a/{room}"}, "conversation"},
		"an index has one's columns":    {bounded + `; create unique index on rooms (room)`, []string{"a/{conversation}"}, []string{"a/{room}"}, "conversation"},
		"texts of any length":           {`create table rooms (id int primary key, conversation text, room text, body text)`, []string{"a/{conversation}"}, []string{"a/{room}"}, "conversation"},
		"the newer's are of any length": {`create table rooms (id int primary key, conversation varchar(60) not null, room text, body text)`, []string{"a/{conversation}"}, []string{"a/{room}"}, "conversation"},
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

			// The older version is gone for good: what it needed goes, while the
			// application writes, and then its column.
			drop := func(of *contract.Program) {
				t.Helper()
				for range 2 {
					for _, p := range leftovers(t, conn, of) {
						for _, sql := range p.SQL {
							_, err := conn.Exec(ctx, sql)
							require.NoErrorf(t, err, "%s: %s", p.Text, sql)
							if conn.PgConn().TxStatus() == 'I' {
								_, err = writer.Exec(ctx, `update rooms set body = 'z'`)
								require.NoError(t, err, "after "+sql)
							}
						}
					}
				}
				require.Empty(t, leftovers(t, conn, of))
			}
			drop(two)
			require.Empty(t, fatal(t, conn, two))
			if c.retired != "" {
				_, err := writer.Exec(ctx, `alter table rooms drop column `+c.retired)
				require.NoError(t, err, "nothing depends on it")
			}
			apply(two)

			// And then the newer one, with its table.
			require.Len(t, leftovers(t, conn, program()), 1)
			drop(program())
			_, err := writer.Exec(ctx, `update rooms set body = 'z'`)
			require.NoError(t, err)
			var indexes int
			require.NoError(t, conn.QueryRow(ctx, `select count(*) from pg_indexes where indexname like 'freshet_identity_rooms%'`).Scan(&indexes))
			require.Zero(t, indexes)
		})
	}
}

// A version that was taken back needed REPLICA IDENTITY FULL: what remains to be done has
// the table as if that version had never been.
func TestCheckLeftovers_full(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), database(t)
	conn := testkit.Conn(t, url)
	testkit.Exec(t, url, `create table rooms (id int primary key, conversation varchar(60) not null, room text, body text); insert into rooms values (1, 'a', 'a', 'x')`)
	one, two := programOf(t, "rooms", "a/{conversation}"), programOf(t, "rooms", "a/{conversation}", "b/{room}")
	shape := func() (identity, columns string) {
		require.NoError(t, conn.QueryRow(ctx, `
select relreplident::text || coalesce(' ' || (select indexrelid::regclass::text from pg_index where indrelid = c.oid and indisreplident), ''),
  coalesce((select string_agg(attname, ' ' order by attname) from pg_attribute where attrelid = c.oid and attnum = any(r.prattrs)), 'all')
from pg_class c join pg_publication_rel r on r.prrelid = c.oid where c.oid = 'rooms'::regclass`).Scan(&identity, &columns))
		return identity, columns
	}
	apply := func(of *contract.Program) {
		left, err := setup.ApplyAll(ctx, conn, of, "freshet", nil)
		require.NoError(t, err)
		require.Empty(t, setup.Fatal(left))
	}
	apply(one)
	require.Empty(t, leftovers(t, conn, one))
	identity, columns := shape()
	apply(two)
	full, all := shape()
	require.Equal(t, []string{"f", "all"}, []string{full, all})
	require.Empty(t, leftovers(t, conn, two), "it needs that")

	found := leftovers(t, conn, one)
	require.Len(t, found, 1)
	require.Contains(t, found[0].Text, "REPLICA IDENTITY FULL")
	for _, sql := range found[0].SQL {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	testkit.Exec(t, url, `update rooms set body = 'y'; delete from rooms`)
	again, list := shape()
	require.Equal(t, []string{identity, columns}, []string{again, list})
	require.Empty(t, leftovers(t, conn, one))
	require.Empty(t, fatal(t, conn, one))
}

func leftovers(t *testing.T, conn *pgx.Conn, of *contract.Program) []setup.Problem {
	t.Helper()
	problems, err := setup.CheckLeftovers(testkit.Context(t), conn, of, "freshet")
	require.NoError(t, err)
	var found []setup.Problem
	for _, p := range problems {
		require.True(t, p.Warning)
		require.NotEmpty(t, p.By, "never run by whoever pipes it into psql")
		if !strings.Contains(p.Text, `"messages"`) { // every database of the test's has it
			found = append(found, p)
		}
	}
	return found
}

// Whose the database is shows by the publication: parts and roots of a source count.
func TestOtherContract(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Database(t)
	conn := testkit.Conn(t, url)
	rooms := programOf(t, "rooms", "a/{conversation}")
	for _, step := range []struct {
		sql  string
		want []string
	}{
		{`create table other (id int primary key); create table rooms (conversation text primary key) partition by list (conversation); create table part partition of rooms default`, nil},
		{`create publication freshet`, nil},
		{`alter publication freshet add table other`, []string{`"public"."other"`}},
		{`alter publication freshet add table part`, nil},
		{`alter publication freshet set table other, rooms`, nil},
	} {
		testkit.Exec(t, url, step.sql)
		tables, err := setup.OtherContract(ctx, conn, rooms, "freshet")
		require.NoError(t, err)
		require.Equal(t, step.want, tables, step.sql)
	}
	// Nobody is told to drop tables by the contract of somebody else.
	testkit.Exec(t, url, `alter publication freshet set table other`)
	left, err := setup.CheckLeftovers(ctx, conn, rooms, "freshet")
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.True(t, left[0].Warning)
	require.Empty(t, left[0].SQL)
	testkit.Exec(t, url, `alter publication freshet add table part`)
	left, err = setup.CheckLeftovers(ctx, conn, rooms, "freshet")
	require.NoError(t, err)
	require.Contains(t, left[0].SQL[0], `drop table "public"."other"`)
}

// A table that was swapped by a rename (gh-ost, blue-green) has left the publication; its
// database isn't somebody else's for that. It is where the table is another service's.
func TestOtherContract_swapped(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Migrated(t)
	conn := testkit.Conn(t, url)
	program := testkit.Program()
	for _, step := range []struct {
		sql  string
		want []string
	}{
		{`alter table messages rename to messages_old; create table messages (like messages_old including all);
		  create publication swapped for table messages_old`, []string{`"public"."messages_old"`}},
		{`insert into freshet.fingerprint values ('public.messages', 'followed')`, nil},
		{`create publication theirs for table messages`, []string{`"public"."messages_old"`}},
		{`drop publication theirs; drop table messages`, []string{`"public"."messages_old"`}},
	} {
		testkit.Exec(t, url, step.sql)
		tables, err := setup.OtherContract(ctx, conn, program, "swapped")
		require.NoError(t, err)
		require.Equal(t, step.want, tables, step.sql)
	}
}
