package setup_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// fatal returns the problems that keep capture from running, of the message
// service's contract unless it is given another.
func fatal(t *testing.T, conn *pgx.Conn, of ...*contract.Program) []setup.Problem {
	t.Helper()
	problems, err := setup.Check(testkit.Context(t), conn, append(of, program())[0], "freshet")
	require.NoError(t, err)
	var found []setup.Problem
	for _, p := range problems {
		if !p.Warning {
			found = append(found, p)
		}
	}
	return found
}

// TestCheck_findsAndMends spoils a good set-up in every way that Check knows.
// Each is found, says what is wrong, and prints SQL that mends it.
func TestCheck_findsAndMends(t *testing.T) {
	const plain = `create table messages (id uuid primary key, conversation text not null, body text)`
	for _, c := range []struct {
		name string
		ddl  string // replaces the table, before set-up
		sql  string // spoils it
		text string
	}{
		{"publication missing", "", `drop publication freshet`, `the publication "freshet" is missing`},
		{"not via the root", "", `alter publication freshet set (publish_via_partition_root = false)`, "via the partition root"},
		{"deletes not published", "", `alter publication freshet set (publish = 'insert')`, "doesn't publish everything"},
		{"table not published", "", `alter publication freshet drop table messages`, "lacks the table"},
		{"row filter", "", `alter publication freshet set table messages (id, conversation) where (conversation <> 'x')`, "row filter"},
		{"column list too short", "", `alter publication freshet set table messages (id)`, "the publication's column list lacks one of these: every UPDATE and DELETE of the application fails"},
		{"column list lacks a template's column", "", `alter table messages replica identity default; alter publication freshet set table messages (id)`, "too few columns"},
		{"identity by primary key only", "", `alter table messages replica identity default`, "doesn't cover the columns conversation, id"},
		{"identity nothing", "", `alter table messages replica identity nothing`, "has no replica identity, and is published: every UPDATE and DELETE of the application fails"},
		{"identity full with a list", "", `alter table messages replica identity full`, "REPLICA IDENTITY FULL and the publication a column list"},
		{"no index that could serve", plain + `; create index on messages (conversation)`, `select 1`, "create unique index concurrently"},
		{"no index that could be made", plain, `select 1`, "replica identity full"},
		{"nullable column", `create table messages (id uuid primary key, conversation text, body text)`, `select 1`, "may be NULL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := database(t)
			conn := testkit.Conn(t, url)
			ctx := testkit.Context(t)
			if c.ddl != "" {
				_, err := conn.Exec(ctx, `drop table messages; `+c.ddl)
				require.NoError(t, err)
			}
			_, err := conn.Exec(ctx, c.sql)
			require.NoError(t, err)
			found := fatal(t, conn)
			require.NotEmpty(t, found)
			require.Contains(t, (&setup.Error{Problems: found}).Error(), c.text)

			runScript(t, conn, &setup.Error{Problems: found})
			require.Empty(t, fatal(t, conn))
			requireCaptures(t, url)
		})
	}
}

// runScript does as a person would who pastes what is printed into psql, which sends it
// a line at a time, and runs it once.
func runScript(t *testing.T, conn *pgx.Conn, printed *setup.Error) {
	t.Helper()
	_, script, _ := strings.Cut(printed.Error(), "\n")
	for line := range strings.Lines(script) {
		_, err := conn.Exec(testkit.Context(t), line)
		require.NoErrorf(t, err, "%s\nof %s", line, printed)
	}
}

// requireCaptures requires that a move and a delete name old topics.
func requireCaptures(t *testing.T, url string) {
	t.Helper()
	columns, values := "body", "'b'"
	var authors bool
	require.NoError(t, testkit.Conn(t, url).QueryRow(testkit.Context(t),
		`select exists (select from information_schema.columns where table_name = 'messages' and column_name = 'author')`).Scan(&authors))
	if authors {
		columns, values = "author, body", "'a', 'b'"
	}
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	commits := follow(t, url, url).live(t).told(t, func() {
		testkit.Exec(t, url, fmt.Sprintf(`insert into messages (id, conversation, %s) values ($1, 'one', %s)`, columns, values), id)
		testkit.Exec(t, url, `update messages set conversation = 'two' where id = $1`, id)
		testkit.Exec(t, url, `delete from messages where id = $1`, id)
	})
	require.Len(t, commits, 3)
	one, two := topicsOf("one", id), topicsOf("two", id)
	require.ElementsMatch(t, one, commits[0].Topics)
	require.ElementsMatch(t, slices.Compact(slices.Sorted(slices.Values(slices.Concat(one, two)))), commits[1].Topics)
	require.ElementsMatch(t, two, commits[2].Topics)
}

// TestCheck_beyondSQL: problems that a person has to think about.
func TestCheck_beyondSQL(t *testing.T) {
	for name, c := range map[string]struct{ sql, text string }{
		"no table":         {`drop table messages`, "doesn't exist"},
		"a view":           {`drop table messages; create view messages as select 1 as id, 'x' as conversation`, "not an ordinary, logged table"},
		"unlogged":         {`drop table messages; create unlogged table messages (id uuid primary key, conversation text)`, "not an ordinary, logged table"},
		"column missing":   {`drop table messages; create table messages (id uuid primary key)`, `has no column "conversation"`},
		"column generated": {`drop table messages; create table messages (id uuid primary key, x text, conversation text generated always as (x) stored)`, "is generated"},
		"column type":      {`drop table messages; create table messages (id timestamptz primary key, conversation text not null)`, `column "id" has the type`},
		"schema missing":   {`drop table freshet.incarnation`, "freshet migrate up"},
	} {
		t.Run(name, func(t *testing.T) {
			url := database(t)
			testkit.Exec(t, url, c.sql)
			found := fatal(t, testkit.Conn(t, url))
			require.NotEmpty(t, found)
			require.Contains(t, (&setup.Error{Problems: found}).Error(), c.text)
			feed := follow(t, url, url)
			feed.await(t, "readiness says why", func() bool { return strings.Contains(feed.Ready().Error(), c.text) })
		})
	}
}

// TestCheck_server checks what belongs to the server and the role.
func TestCheck_server(t *testing.T) {
	server := testkit.NewServer(t, map[string]string{"wal_level": "replica", "max_slot_wal_keep_size": "-1"})
	url := server.Database(t)
	require.NoError(t, prepare(testkit.Context(t), url), "what migrate can't mend it leaves, and says so")
	conn := testkit.Conn(t, url)
	problems, err := setup.Check(testkit.Context(t), conn, program(), "freshet")
	require.NoError(t, err)
	text := (&setup.Error{Problems: problems}).Error()
	require.Contains(t, text, "alter system set wal_level = 'logical'")
	require.Contains(t, text, "max_slot_wal_keep_size is unlimited")
}

// TestApply_supersetIsLeftAlone: more than the contract needs is accepted, so
// that two versions of a service can run side by side.
func TestApply_supersetIsLeftAlone(t *testing.T) {
	url := database(t)
	testkit.Exec(t, url, `create table other (id int primary key); alter publication freshet add table other;
alter publication freshet set table messages (id, conversation, author), other`)
	require.Empty(t, fatal(t, testkit.Conn(t, url)))
}

// TestApply_neverBreaksWriters: while the set-up of a table that lacks
// everything is mended step by step, an UPDATE and a DELETE of the application
// never fail.
func TestApply_neverBreaksWriters(t *testing.T) {
	url := database(t)
	testkit.Exec(t, url, `drop publication freshet; alter table messages replica identity default`)
	conn, writer := testkit.Conn(t, url), testkit.Conn(t, url)
	ctx := testkit.Context(t)
	write := func(when string) {
		_, err := writer.Exec(ctx, `insert into messages (conversation, author, body) values ('c', 'a', 'b')`)
		require.NoError(t, err, when)
		_, err = writer.Exec(ctx, `update messages set body = 'c'`)
		require.NoError(t, err, when)
		_, err = writer.Exec(ctx, `delete from messages`)
		require.NoError(t, err, when)
	}
	for range 10 {
		found := fatal(t, conn)
		if len(found) == 0 {
			write("in the end")
			return
		}
		for _, sql := range found[0].SQL {
			_, err := conn.Exec(ctx, sql)
			require.NoError(t, err)
			if conn.PgConn().TxStatus() == 'I' {
				write("after " + sql)
			}
		}
	}
	require.Fail(t, "not mended")
}

// failing keeps the errors of statements, each of which is in the server's log as well.
type failing struct {
	mu     sync.Mutex
	errors []error
}

func (f *failing) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (f *failing) TraceQueryEnd(_ context.Context, _ *pgx.Conn, end pgx.TraceQueryEndData) {
	if end.Err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.errors = append(f.errors, end.Err)
	}
}

// TestApply_concurrently: nodes that start at once set up the same database, and
// neither a node nor one of its statements fails for it.
func TestApply_concurrently(t *testing.T) {
	url := database(t)
	ctx := testkit.Context(t)
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	var failed failing
	config.Tracer = &failed
	for range 3 {
		testkit.Exec(t, url, `drop publication freshet; alter table messages replica identity default`)
		var nodes errgroup.Group
		for range 6 {
			conn, err := pgx.ConnectConfig(ctx, config.Copy())
			require.NoError(t, err)
			nodes.Go(func() error {
				_, err := setup.Apply(ctx, conn, program(), "freshet")
				return errors.Join(err, conn.Close(ctx))
			})
		}
		require.NoError(t, nodes.Wait())
		require.Empty(t, failed.errors)
		require.Empty(t, fatal(t, testkit.Conn(t, url)))
	}
	var held bool
	require.NoError(t, testkit.Conn(t, url).QueryRow(ctx, `select not pg_try_advisory_lock($1)`, setup.MendLock).Scan(&held))
	require.False(t, held, "the turn was given back")
}

// TestApply_turnThatHangs: whoever has the turn and hangs keeps nobody from starting.
func TestApply_turnThatHangs(t *testing.T) {
	url := database(t)
	ctx := testkit.Context(t)
	testkit.Exec(t, url, `drop publication freshet`)
	hangs := testkit.Conn(t, url)
	_, err := hangs.Exec(ctx, `select pg_advisory_lock($1)`, setup.MendLock)
	require.NoError(t, err)
	defer setup.SetMendPatience(time.Millisecond)()
	left, err := setup.Apply(ctx, testkit.Conn(t, url), program(), "freshet")
	require.NoError(t, err)
	require.Empty(t, setup.Fatal(left))
}

// TestApply_undone: a mend that doesn't take ends Setup, which would run it for
// ever.
func TestApply_undone(t *testing.T) {
	url := database(t)
	testkit.Exec(t, url, `alter publication freshet drop table messages;
create function undo() returns event_trigger language plpgsql as $$
begin
  if current_query() like '%add table%' and current_setting('undo.done', true) is distinct from 'yes' then
    perform set_config('undo.done', 'yes', true);
    execute 'alter publication freshet drop table messages';
  end if;
end $$;
create event trigger undo on ddl_command_end when tag in ('ALTER PUBLICATION') execute function undo()`)
	_, err := setup.Apply(testkit.Context(t), testkit.Conn(t, url), program(), "freshet")
	require.ErrorContains(t, err, `the publication "freshet" lacks the table "public"."messages": it was mended, and is there again`)
}

// TestApply_F85_lock: while a transaction holds the table, Setup doesn't make
// those wait who come after it: it waits for a moment at a time, and says so in
// the end.
func TestApply_F85_lock(t *testing.T) {
	url := database(t)
	ctx := testkit.Context(t)
	testkit.Exec(t, url, `alter table messages replica identity default`)
	holder, writer := testkit.Conn(t, url), testkit.Conn(t, url)
	tx, err := holder.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `select from messages`)
	require.NoError(t, err)

	done := make(chan error, 1)
	conn := testkit.Conn(t, url)
	go func() {
		_, err := setup.Apply(ctx, conn, program(), "freshet")
		done <- err
	}()
	// A statement that came just behind it waits until it gives up: no longer.
	_, err = writer.Exec(ctx, `set lock_timeout = '5s'`)
	require.NoError(t, err)
	for waiting := true; waiting; {
		_, err := writer.Exec(ctx, `insert into messages (conversation, author, body) values ('7', 'a', 'b')`)
		require.NoError(t, err)
		select {
		case err := <-done:
			require.ErrorContains(t, err, "transactions that are open hold the table's lock")
			waiting = false
		default:
		}
	}
	require.NoError(t, tx.Rollback(ctx))
	_, err = setup.Apply(ctx, conn, program(), "freshet")
	require.NoError(t, err)
	require.Empty(t, fatal(t, conn))
}
