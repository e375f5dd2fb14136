package setup_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// TestCheck_refusesTables: what capture can't follow is refused aloud, and by
// name, with what to do instead (F50, F56). Setup leaves it unpublished.
func TestCheck_refusesTables(t *testing.T) {
	const keyed = `conversation text not null, id uuid not null, primary key (conversation, id)`
	column := func(of string) string {
		return `create table messages (conversation ` + of + ` not null, id uuid not null, primary key (conversation, id))`
	}
	for name, c := range map[string]struct{ ddl, text string }{
		"a view":              {`create table rows (` + keyed + `); create view messages as select * from rows`, "but a view: name the tables that it reads"},
		"a materialized view": {`create table rows (` + keyed + `); create materialized view messages as select * from rows`, "REFRESH isn't in the stream"},
		"a foreign table": {`create extension file_fdw; create server files foreign data wrapper file_fdw;
create foreign table messages (conversation text, id uuid) server files options (filename '/dev/null')`, "but a foreign one"},
		"an unlogged table": {`create unlogged table messages (` + keyed + `)`, "its changes aren't in the WAL"},
		"a child":           {`create table messages (` + keyed + `); create table child () inherits (messages)`, `the table "public"."child" inherits from the source "public"."messages"`},
		"a child of a child": {`create table messages (` + keyed + `); create table child () inherits (messages); create schema other; create table other.grandchild () inherits (child)`,
			`the table "other"."grandchild" inherits from the source`},
		"an unlogged partition": {`create table messages (` + keyed + `) partition by hash (id); create unlogged table part partition of messages for values with (modulus 1, remainder 0)`,
			`the partition "public"."part" of "public"."messages" is unlogged`},
		"a foreign partition": {`create extension file_fdw; create server files foreign data wrapper file_fdw; create table messages (conversation text not null, id uuid not null) partition by hash (id);
create foreign table part partition of messages for values with (modulus 1, remainder 0) server files options (filename '/dev/null')`,
			`the partition "public"."part" of "public"."messages" is a foreign table`},
		"a partition of a published table": {`create table roots (` + keyed + `) partition by hash (id); create table messages partition of roots for values with (modulus 1, remainder 0);
create publication freshet for table roots with (publish_via_partition_root = true)`, "is told under that table's name alone"},
		"a partition while all tables are published": {`create table roots (` + keyed + `) partition by hash (id); create table messages partition of roots for values with (modulus 1, remainder 0);
create publication freshet for all tables with (publish_via_partition_root = true)`, "is told under that table's name alone"},

		"a nondeterministic collation": {`create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); ` + column(`text collate ci`),
			`column "conversation" of "public"."messages" has the nondeterministic collation "ci"`},
		"citext":                {`create schema other; create extension citext with schema other; ` + column(`other.citext`), "has the type other.citext; topic templates take text, varchar, uuid, smallint, integer, bigint, boolean, date, enums and domains over these: values of it are equal that differ in case"},
		"char(n)":               {column(`char(3)`), "has the type character(n); topic templates take text, varchar, uuid, smallint, integer, bigint, boolean, date, enums and domains over these: values of it are equal that differ in trailing blanks"},
		"a domain over char(n)": {`create domain code as char(3); ` + column(`code`), "has the type code (a domain over character); topic templates take text, varchar, uuid, smallint, integer, bigint, boolean, date, enums and domains over these: values of it are equal that differ in trailing blanks"},
		"a domain over a nondeterministic collation": {`create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); create domain folded as text collate ci; ` + column(`folded`), `has the nondeterministic collation "ci"`},
		"a domain over a domain over numeric":        {`create domain n as numeric; create domain m as n; ` + column(`m`), "has the type m (a domain over numeric)"},
		"timestamptz":                                {column(`timestamptz`), "has the type timestamptz; topic templates take"},
		"bytea":                                      {column(`bytea`), "has the type bytea; topic templates take"},
		"an array of enums":                          {`create type state as enum ('on', 'off'); ` + column(`state[]`), "has the type state[]; topic templates take"},
		"a type of one's own":                        {`create type pair as (a int, b int); ` + column(`pair`), "has the type pair; topic templates take"},
		"numeric":                                    {column(`numeric`), "has the type numeric; topic templates take"},
		"an array":                                   {column(`text[]`), "has the type text[]; topic templates take"},
		"a generated column":                         {`create table messages (x text, conversation text generated always as (x) stored, id uuid primary key)`, "is generated: it isn't in the WAL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := database(t)
			testkit.Exec(t, url, `drop publication freshet; drop table messages`)
			testkit.Exec(t, url, c.ddl)
			conn := testkit.Conn(t, url)
			ctx := testkit.Context(t)
			left, err := setup.Apply(ctx, conn, program(), "freshet")
			require.NoError(t, err)
			require.Contains(t, (&setup.Error{Problems: left}).Error(), c.text)
			for _, p := range fatal(t, conn) {
				require.Equal(t, "public.messages", p.Source)
			}
			var published bool
			require.NoError(t, conn.QueryRow(ctx, `select exists (select from pg_publication_rel where prrelid = 'messages'::regclass)`).Scan(&published))
			require.False(t, published)
		})
	}
}

// TestCheck_refusesAllAtOnce: of a table, all that has to be mended is told in one run,
// not what comes to light after each.
func TestCheck_refusesAllAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		ddl   string
		texts []string
	}{
		"two types": {`create table messages (conversation char(3), id timestamptz primary key)`, []string{`column "conversation" has the type character(n)`, `column "id" has the type timestamptz`}},
		"generated, and a type": {`create table messages (x text, conversation text generated always as (x) stored, id timestamptz primary key)`,
			[]string{`column "conversation" of "public"."messages" is generated`, `column "id" has the type timestamptz`}},
		"generated, of a type that wouldn't do": {`create table messages (x int, conversation numeric generated always as (x) stored, id uuid primary key)`, []string{"is generated"}},
		"missing, and a type":                   {`create table messages (id timestamptz primary key)`, []string{`has no column "conversation"`, `column "id" has the type timestamptz`}},
		"unlogged, and a type":                  {`create unlogged table messages (conversation text, id timestamptz primary key)`, []string{"but unlogged", `column "id" has the type timestamptz`}},
		"a view, whatever its columns are":      {`create view messages as select now() as id`, []string{"but a view"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := database(t)
			testkit.Exec(t, url, `drop publication freshet; drop table messages`)
			testkit.Exec(t, url, c.ddl)
			var found []string
			for _, p := range fatal(t, testkit.Conn(t, url)) {
				if p.Source != "" {
					found = append(found, p.Text)
				}
			}
			require.Len(t, found, len(c.texts), found)
			for i, text := range c.texts {
				require.Contains(t, found[i], text)
			}
		})
	}
}

// TestCheck_refusesLater: the same, where it comes about later (F50).
func TestCheck_refusesLater(t *testing.T) {
	url := database(t)
	conn := testkit.Conn(t, url)
	require.Empty(t, fatal(t, conn))
	testkit.Exec(t, url, `create table child () inherits (messages)`)
	found := fatal(t, conn)
	require.Len(t, found, 1)
	require.Contains(t, found[0].Text, "inherits from the source")
	require.Empty(t, found[0].SQL, "its writes pass: there is nothing to be saved")
	testkit.Exec(t, url, `alter table child no inherit messages`)
	require.Empty(t, fatal(t, conn))
}

// TestCheck_F55_encoding: a database whose bytes have no meaning in UTF-8 is
// refused, one that can be converted isn't. (MULE_INTERNAL, which has no
// conversion, the server refuses by itself when we ask for UTF-8.)
func TestCheck_F55_encoding(t *testing.T) {
	for encoding, refused := range map[string]string{
		"SQL_ASCII":     "the database's encoding is SQL_ASCII, in which there is text that can't be converted to UTF-8",
		"WIN1252":       "the database's encoding is WIN1252, in which", // five bytes mean nothing
		"EUC_JP":        "the database's encoding is EUC_JP, in which",
		"MULE_INTERNAL": "conversion between UTF8 and MULE_INTERNAL is not supported",
		"LATIN1":        "", "UTF8": "",
	} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			server := testkit.Postgres(t)
			name := "encoded_" + encoding
			testkit.Exec(t, server.URL("postgres"), fmt.Sprintf(`create database %q encoding '%s' locale 'C' template template0`, name, encoding))
			t.Cleanup(func() { testkit.Exec(t, server.URL("postgres"), fmt.Sprintf(`drop database %q with (force)`, name)) })
			url := server.URL(name)
			if err := prepare(testkit.Context(t), url); err != nil {
				require.NotEmpty(t, refused, err)
				require.ErrorContains(t, err, refused)
				return
			}
			found := fatal(t, testkit.Conn(t, url))
			if refused == "" {
				require.Empty(t, found)
				return
			}
			require.NotEmpty(t, found)
			require.Contains(t, found[0].Text, refused)
		})
	}
}

// TestCheck_F74_everyTextConverts: in the encodings that are accepted there is no
// text that the walsender can't convert. (Of those with several bytes for a
// character, none is.)
func TestCheck_F74_everyTextConverts(t *testing.T) {
	conn := testkit.Conn(t, testkit.Postgres(t).URL("postgres"))
	rows, err := conn.Query(testkit.Context(t), `
select pg_encoding_to_char(i) from generate_series(0, 41) i where pg_encoding_max_length(i) = 1 and pg_encoding_to_char(i) <> ''`)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(names), 20)
	for _, name := range names {
		var total error
		for b := 1; b < 256 && total == nil; b++ {
			_, total = conn.Exec(testkit.Context(t), `select convert($1, $2, 'UTF8')`, []byte{byte(b)}, name)
		}
		require.Equalf(t, slices.Contains(setup.Encodings, name), total == nil, "%s: %v", name, total)
	}
}
