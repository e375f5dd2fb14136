package setup_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// shape is a table of somebody's, and what becomes of it. The templates use its
// columns conversation and id.
type shape struct {
	name   string
	ddl    string // of the table messages
	broken string // done to it once it is published as it should be
	want   string // the identity that capture ends up with
	refuse string // or why it is refused
	writes string // that this shape has besides
	topics string // of the source; empty: the message service's
	since  int    // major version; 0: any
}

// Identities, as the catalog has them in the end.
const (
	byKey      = "default"
	byTheirs   = "index theirs"
	byProposed = "index freshet_identity_messages"
	byFull     = "full"
)

const (
	fixed            = `body text, id uuid not null, conversation varchar(60) not null`
	partitionedTable = `create table messages (%s) partition by hash (id);
create table messages_0 partition of messages for values with (modulus 2, remainder 0);
create table messages_1 partition of messages for values with (modulus 2, remainder 1)`
	addPublished = `create publication freshet for table messages with (publish_via_partition_root = true)`
)

var shapes = []shape{
	{name: "the key has the templates' columns", ddl: `create table messages (` + fixed + `, primary key (conversation, id))`, want: byKey},
	{name: "an index of the application's has them", ddl: `create table messages (` + fixed + `, primary key (id), constraint theirs unique (id, conversation))`, want: byTheirs},
	{name: "the key is there, the identity another", ddl: `create table messages (` + fixed + `, primary key (conversation, id)); alter table messages replica identity nothing`, want: byKey},
	{name: "a key, and a column of bounded length", ddl: `create table messages (` + fixed + `, primary key (id))`, want: byProposed},
	{name: "a key, and a column that an index bounds", ddl: `create table messages (body text, id uuid primary key, conversation text not null); create index on messages (conversation)`, want: byProposed},
	{name: "a key, and a column that a foreign key bounds", ddl: `create table parents (name text primary key); insert into parents values ('a'), ('b');
create table messages (body text, id uuid primary key, conversation text not null references parents)`, want: byProposed},
	{name: "a key, and texts of any length", ddl: `create table messages (body text, id uuid primary key, conversation text not null)`, want: byFull},
	{name: "texts that are too long together", ddl: `create table messages (body text, id uuid primary key, conversation varchar(900) not null)`, want: byFull},
	{name: "a nullable column", ddl: `create table messages (body text, id uuid primary key, conversation varchar(60))`, want: byFull},
	{name: "no key", ddl: `create table messages (body text, id uuid, conversation text)`, want: byFull},
	{name: "no key, and duplicates", ddl: `create table messages (` + fixed + `); insert into messages select 'x', gen_random_uuid(), 'a' from generate_series(1, 3); insert into messages select * from messages`, want: byFull},
	{name: "a unique index on a nullable column", ddl: `create table messages (body text, id uuid unique, conversation varchar(60) not null)`, want: byFull},
	{name: "a deferrable key", ddl: `create table messages (` + fixed + `, primary key (id) deferrable initially deferred)`, want: byFull},
	{name: "a partial index, and one on an expression", ddl: `create table messages (` + fixed + `); create unique index on messages (id, conversation) where body <> 'x'; create unique index on messages (id, lower(conversation))`, want: byFull},
	{name: "an index that includes the column", ddl: `create table messages (` + fixed + `); create unique index theirs on messages (id) include (conversation); alter table messages replica identity using index theirs`, want: byProposed},
	{name: "a proposed index whose making failed", ddl: `create table messages (` + fixed + `, primary key (id)); create index freshet_identity_messages on messages (body)`, want: byProposed},
	{name: "identity full", ddl: `create table messages (` + fixed + `, primary key (id)); alter table messages replica identity full`, want: byFull},
	{name: "generated columns", ddl: `create table messages (` + fixed + `, upper text generated always as (upper(body)) stored, primary key (id))`, want: byProposed},
	{name: "generated columns, and no key", ddl: `create table messages (` + fixed + `, upper text generated always as (upper(body)) stored)`, want: byFull},
	{name: "a generated column in the key", ddl: `create table messages (` + fixed + `, upper text generated always as (coalesce(upper(left(body, 20)), '')) stored, primary key (id, conversation, upper))`, want: byKey},
	{name: "virtual columns", since: 18, ddl: `create table messages (` + fixed + `, upper text generated always as (upper(body)), primary key (id))`, want: byProposed},
	{name: "virtual columns, and no key", since: 18, ddl: `create table messages (` + fixed + `, upper text generated always as (upper(body)))`, refuse: "virtual generated columns"},

	{name: "templates without the key", topics: "conversations/{conversation}/messages", ddl: `create table messages (` + fixed + `, primary key (id))`, want: byProposed},
	{name: "templates without columns", topics: "messages", ddl: `create table messages (body text, id uuid primary key, conversation text)`, want: byKey},
	{name: "templates without columns, and no key", topics: "messages", ddl: `create table messages (body text, id uuid, conversation text)`, want: byFull},

	// What the application does once we have set up its table.
	{name: "full later", ddl: `create table messages (` + fixed + `, primary key (id))`, broken: `alter table messages replica identity full`, want: byFull},
	{name: "another key later", ddl: `create table messages (body text, id uuid not null, conversation varchar(60) not null, number int generated always as identity, primary key (conversation, id))`,
		broken: `alter table messages drop constraint messages_pkey, add primary key (conversation, number)`, want: byProposed},
	{name: "no key later", ddl: `create table messages (` + fixed + `, primary key (conversation, id))`, broken: `alter table messages drop constraint messages_pkey`, want: byFull},
	{name: "their index dropped later", ddl: `create table messages (` + fixed + `, primary key (id), constraint theirs unique (id, conversation))`, broken: `alter table messages drop constraint theirs`, want: byProposed},
	{name: "a generated column later, under full", ddl: `create table messages (` + fixed + `); alter table messages replica identity full`,
		broken: `alter table messages add upper text generated always as (upper(body)) stored`, want: byFull},
	{name: "a column may be NULL later", ddl: `create table messages (body text, id uuid primary key, conversation varchar(60) not null, constraint theirs unique (id, conversation))`,
		broken: `alter table messages drop constraint theirs, alter conversation drop not null`, want: byFull},
	{name: "published by somebody, without an identity", ddl: `create table messages (` + fixed + `)`, broken: addPublished, want: byFull},
	{name: "published by somebody, inserts only", ddl: `create table messages (` + fixed + `); create table keyless (id int)`,
		broken: `create publication freshet for table messages, keyless with (publish = 'insert')`, refuse: "UPDATE and DELETE would fail on"},

	// Others publish the table as well.
	{name: "another publication has a column list", ddl: `create table messages (` + fixed + `, primary key (id)); create publication other for table messages (id, body)`, refuse: "another publication has a column list"},
	{name: "another publication has a wide column list", ddl: `create table messages (` + fixed + `, primary key (id)); create publication other for table messages (conversation, id)`, want: byProposed},
	{name: "another publication has a row filter", ddl: `create table messages (` + fixed + `, primary key (id)); create publication other for table messages where (id is not null)`, want: byProposed},
	{name: "another publication has all tables", ddl: `create table messages (` + fixed + `, primary key (id)); create publication other for all tables`, want: byProposed},
	{name: "a filter that needs full", ddl: `create table messages (` + fixed + `, primary key (id)); alter table messages replica identity full; create publication other for table messages where (body <> 'x')`, want: byFull},
	{name: "ours has all tables", ddl: `create table messages (` + fixed + `, primary key (id))`, broken: `create publication freshet for all tables with (publish_via_partition_root = true)`, want: byProposed},

	// Partitions have identities of their own, and come and go.
	{name: "partitions, the key has the columns", ddl: fmt.Sprintf(partitionedTable, fixed+`, primary key (id, conversation)`), want: byKey},
	{name: "partitions, the key lacks a column", ddl: fmt.Sprintf(partitionedTable, fixed+`, primary key (id)`), want: "index freshet_identity_messages_0"},
	{name: "partitions without a key", ddl: fmt.Sprintf(partitionedTable, fixed), refuse: "has no primary key",
		writes: `alter table messages detach partition messages_1; drop table messages_1; create table messages_1 partition of messages for values with (modulus 2, remainder 1)`},
	{name: "a partition that is full", ddl: fmt.Sprintf(partitionedTable, fixed+`, primary key (id, conversation)`), broken: `alter table messages_1 replica identity full`, want: byKey},
	{name: "a new partition", ddl: fmt.Sprintf(partitionedTable, fixed+`, primary key (id, conversation)`), want: byKey,
		broken: `alter table messages detach partition messages_1; drop table messages_1; create table messages_1 partition of messages for values with (modulus 2, remainder 1)`},

	// Refused, and not to be published.
	{name: "a child", ddl: `create table messages (` + fixed + `, primary key (conversation, id)); create table child () inherits (messages)`, refuse: "inherits from the source",
		writes: `insert into child values ('x', gen_random_uuid(), 'a'); update child set body = 'y'; delete from child`},
}

// statements of the application. What fails before we come may fail after; what
// passed must pass.
var statements = []string{
	`truncate messages`,
	`insert into messages (id, conversation, body) values ('00000000-0000-4000-8000-000000000001', 'a', 'x')`,
	`insert into messages (id, conversation, body) values ('00000000-0000-4000-8000-000000000002', 'a', 'the second of a conversation')`,
	`insert into messages (id, conversation, body) values ('00000000-0000-4000-8000-000000000001', 'a', 'a duplicate')`,
	`insert into messages (id, conversation, body) values ('00000000-0000-4000-8000-000000000003', null, 'without')`,
	`insert into messages (id, conversation, body) values (null, 'a', 'without')`,
	// Six kilobytes that no compression makes fit into an index.
	`insert into messages (id, conversation, body) select '00000000-0000-4000-8000-000000000004', string_agg(md5(i::text), ''), 'long' from generate_series(1, 200) i`,
	`insert into messages (id, conversation, body) select '00000000-0000-4000-8000-000000000005', left(string_agg(chr(20000 + i * 7), ''), 880), 'long' from generate_series(1, 1000) i`,
	`insert into messages (id, conversation, body) values ('00000000-0000-4000-8000-000000000006', 'a', 'x') on conflict do nothing`,
	`insert into messages (id, conversation, body) values ('00000000-0000-4000-8000-000000000006', 'a', 'x') on conflict (id) do update set body = 'z'`,
	`update messages set body = body || '!'`,
	`update messages set conversation = 'b' where body like 'x%'`,
	`update messages set conversation = null where body like 'the%'`,
	// Two ids change places: a key that is checked at the end allows it.
	`update messages set id = case right(id::text, 1) when '1' then '00000000-0000-4000-8000-000000000002' else '00000000-0000-4000-8000-000000000001' end::uuid where right(id::text, 1) in ('1', '2')`,
	`update messages set id = '00000000-0000-4000-8000-000000000009' where right(id::text, 1) = '6'`,
	`delete from messages where body like 'x%'`,
	`delete from messages`,
	`insert into messages (id, conversation, body) values ('00000000-0000-4000-8000-000000000007', 'b', 'left')`,
}

// application runs the statements, and returns those that failed.
func (s *shape) application(ctx context.Context, conn *pgx.Conn) (failed map[string]error) {
	failed = make(map[string]error)
	all := statements
	if s.writes != "" {
		all = append(strings.Split(s.writes, "; "), all...)
	}
	for _, sql := range all {
		if _, err := conn.Exec(ctx, sql); err != nil {
			failed[sql] = err
		}
	}
	return failed
}

// TestApply_F85_writersPass: whatever the table is like, and whatever happened
// to it, every INSERT, UPDATE and DELETE that passed before we came passes after
// each thing that we run or print (F84, F85). In the end capture is right, or
// refused.
func TestApply_F85_writersPass(t *testing.T) {
	for _, major := range testkit.Majors(t) {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			server := testkit.NewServerOf(t, major, map[string]string{"fsync": "off"})
			url := server.Template(t, "migrated", testkit.Migrate)
			testkit.Exec(t, url, `drop table messages`)
			conn := testkit.Conn(t, url)
			for _, s := range shapes {
				if s.since > major {
					continue
				}
				t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
					s.run(t, url, conn, s.setUp)
					s.run(t, url, conn, s.applyAll)
				})
			}
		})
	}
}

// run has a table of this shape set up, by setUp, which calls pass whenever the
// application may write, and returns what is wrong in the end.
func (s *shape) run(t *testing.T, url string, conn *pgx.Conn,
	setUp func(t *testing.T, conn *pgx.Conn, of *contract.Program, pass func(when string)) []setup.Problem) {
	t.Helper()
	ctx := testkit.Context(t)
	of := program()
	if s.topics != "" {
		of = programOf(t, "messages", s.topics)
	}
	testkit.Exec(t, url, s.ddl)
	defer testkit.Exec(t, url, `drop publication if exists freshet; drop publication if exists other; drop table if exists messages, parents, child, keyless cascade`)
	before := s.application(ctx, conn)
	pass := func(when string) {
		t.Helper()
		for sql, err := range s.application(ctx, conn) {
			require.Contains(t, before, sql, "%s it fails: %v", when, err)
		}
	}
	left := setUp(t, conn, of, pass)
	if s.broken != "" {
		if strings.HasPrefix(s.broken, "create publication") {
			testkit.Exec(t, url, `drop publication if exists freshet; alter table messages replica identity default`)
		}
		testkit.Exec(t, url, s.broken)
		left = setUp(t, conn, of, pass)
	}
	if s.refuse != "" {
		require.Contains(t, (&setup.Error{Problems: left}).Error(), s.refuse)
		return
	}
	require.Empty(t, left)
	var identity string
	require.NoError(t, conn.QueryRow(ctx, `
select case relreplident when 'd' then 'default' when 'f' then 'full' when 'n' then 'nothing' else 'index ' || (
  select indexrelid::regclass::text from pg_index where indrelid = c.oid and indisreplident) end
from pg_class c where oid = coalesce(to_regclass('messages_0'), 'messages'::regclass)`).Scan(&identity))
	require.Equal(t, s.want, identity)
}

// setUp does what a deployment does: it lets Setup run, and then runs what is
// printed, until nothing is left that SQL mends. After each the application must
// be able to write.
func (s *shape) setUp(t *testing.T, conn *pgx.Conn, of *contract.Program, pass func(when string)) []setup.Problem {
	t.Helper()
	ctx := testkit.Context(t)
	_, err := setup.Apply(ctx, conn, of, "freshet")
	require.NoError(t, err)
	pass("after what Setup does")
	for range 4 {
		found := fatal(t, conn, of)
		printed := 0
		for _, p := range found {
			require.Empty(t, p.By, "a superuser may do everything")
			for _, sql := range p.SQL {
				_, err := conn.Exec(ctx, sql)
				require.NoError(t, err, "%s: %s", p.Text, sql)
				if conn.PgConn().TxStatus() == 'I' {
					pass("after " + sql)
				}
				printed++
			}
		}
		if printed == 0 {
			return found
		}
	}
	require.Fail(t, "it is printed again and again", "%v", fatal(t, conn, of))
	return nil
}

// applyAll has ApplyAll do all of that.
func (s *shape) applyAll(t *testing.T, conn *pgx.Conn, of *contract.Program, pass func(when string)) []setup.Problem {
	t.Helper()
	ctx := testkit.Context(t)
	own, err := pgx.ConnectConfig(ctx, conn.Config()) // pass, called in between, needs conn
	require.NoError(t, err)
	defer func() { _ = own.Close(ctx) }()
	steps := 0
	_, err = setup.ApplyAll(ctx, own, of, "freshet", func(step string) {
		if steps++; steps > 1 { // what is broken already is mended first
			pass("before " + step)
		}
	})
	require.NoError(t, err)
	pass("after what ApplyAll does")
	found := fatal(t, conn, of)
	for _, p := range found {
		require.Empty(t, p.SQL, "a superuser may do everything")
	}
	return found
}
