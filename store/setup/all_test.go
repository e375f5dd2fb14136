package setup_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// keyed is a table for whose identity an index is proposed.
const keyed = `create table messages (body text, id uuid primary key, conversation varchar(60) not null)`

// replaced is a database of the test's own in which ddl has made the table
// messages, and nothing is set up.
func replaced(t *testing.T, ddl string) string {
	t.Helper()
	url := testkit.Migrated(t)
	testkit.Exec(t, url, `drop table messages`)
	testkit.Exec(t, url, ddl)
	return url
}

// applyingAll runs ApplyAll on a connection of its own. steps are what it tells,
// until it ends.
func applyingAll(t *testing.T, url string) (steps <-chan string, end func() ([]setup.Problem, error)) {
	t.Helper()
	ctx, conn := testkit.Context(t), testkit.Conn(t, url)
	told := make(chan string, 100)
	var left []setup.Problem
	var err error
	go func() {
		defer close(told)
		left, err = setup.ApplyAll(ctx, conn, program(), "freshet", func(step string) { told <- step })
	}()
	return told, func() ([]setup.Problem, error) {
		for range told { //nolint:revive // until it is closed
		}
		return left, err
	}
}

// await waits for a step with this text.
func await(t *testing.T, steps <-chan string, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(testkit.Context(t), testTimeout)
	defer cancel()
	var all []string
	for {
		select {
		case step, more := <-steps:
			all = append(all, step)
			if strings.Contains(step, text) {
				return
			}
			require.True(t, more, "%q is not among %q", text, all)
		case <-ctx.Done():
			require.Fail(t, "it never came", "%q is not among %q", text, all)
		}
	}
}

// writing is a transaction that has written to the table and goes on, until it is
// ended.
func writing(t *testing.T, url string) pgx.Tx {
	t.Helper()
	tx, err := testkit.Conn(t, url).Begin(testkit.Context(t))
	require.NoError(t, err)
	_, err = tx.Exec(testkit.Context(t), `insert into messages values ('b', gen_random_uuid(), 'c')`)
	require.NoError(t, err)
	return tx
}

// TestApplyAll_F85_besideWriters: the making of an index waits for a transaction
// that is open, and nobody who writes waits for it.
func TestApplyAll_F85_besideWriters(t *testing.T) {
	url := replaced(t, keyed)
	ctx := testkit.Context(t)
	open := writing(t, url)
	steps, end := applyingAll(t, url)
	await(t, steps, "create unique index")

	// It waits, and somebody who comes after it writes.
	watcher := testkit.Conn(t, url)
	require.Eventually(t, func() bool {
		var waits bool
		err := watcher.QueryRow(ctx, `select exists (select from pg_stat_activity where query like 'create unique index%' and wait_event_type = 'Lock')`).Scan(&waits)
		return err == nil && waits
	}, testTimeout, testTick)
	writer := testkit.Conn(t, url)
	_, err := writer.Exec(ctx, `set lock_timeout = '2s'`)
	require.NoError(t, err)
	write := func() {
		for _, sql := range []string{`insert into messages values ('b', gen_random_uuid(), 'c')`, `update messages set body = 'c'`, `delete from messages`} {
			_, err := writer.Exec(ctx, sql)
			require.NoError(t, err, sql)
		}
	}
	for range 20 {
		write()
	}
	require.NoError(t, open.Rollback(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err = end()
	}()
	for ended := false; !ended; {
		write()
		select {
		case <-done:
			ended = true
		default:
		}
	}
	require.NoError(t, err)
	require.Empty(t, fatal(t, testkit.Conn(t, url)))
	write()

	// What it changed of its session is as before.
	var timeouts string
	conn := testkit.Conn(t, testkit.WithParam(t, url, "statement_timeout", "7s"))
	_, err = setup.ApplyAll(ctx, conn, program(), "freshet", nil)
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(ctx, `select current_setting('statement_timeout')`).Scan(&timeouts))
	require.Equal(t, "7s", timeouts)
}

// TestApplyAll_statementTimeout: a role whose statements are to be short makes an
// index all the same, however long that takes.
func TestApplyAll_statementTimeout(t *testing.T) {
	url := replaced(t, keyed)
	open := writing(t, url)
	steps, end := applyingAll(t, testkit.WithParam(t, testkit.WithParam(t, url, "statement_timeout", "300ms"), "lock_timeout", "300ms"))
	await(t, steps, "create unique index concurrently")
	_, err := testkit.Conn(t, url).Exec(testkit.Context(t), `select pg_sleep(0.5)`) // longer than that
	require.NoError(t, err)
	require.NoError(t, open.Rollback(testkit.Context(t)))
	left, err := end()
	require.NoError(t, err)
	require.Empty(t, setup.Fatal(left))
}

// TestApplyAll_turns: one doesn't drop the index that another is making.
func TestApplyAll_turns(t *testing.T) {
	url := replaced(t, keyed)
	open := writing(t, url)
	first, endFirst := applyingAll(t, url)
	await(t, first, "create unique index concurrently")
	second, endSecond := applyingAll(t, url)
	await(t, second, "waiting for somebody else")
	require.NoError(t, open.Rollback(testkit.Context(t)))
	for _, end := range []func() ([]setup.Problem, error){endFirst, endSecond} {
		left, err := end()
		require.NoError(t, err)
		require.Empty(t, setup.Fatal(left))
	}
	require.Empty(t, fatal(t, testkit.Conn(t, url)))
}

// TestApplyAll_ofOthers: what the role may not run is neither tried nor hidden, and
// the server's settings are for somebody to decide.
func TestApplyAll_ofOthers(t *testing.T) {
	t.Parallel()
	server := testkit.NewServer(t, map[string]string{"fsync": "off", "max_slot_wal_keep_size": "-1"})
	url := server.Migrated(t)
	testkit.Exec(t, url, `drop table messages; create role someone; grant create on schema public to someone`)
	testkit.Exec(t, url, keyed+`; create role app login; grant usage on schema public to app`)
	left, err := setup.ApplyAll(testkit.Context(t), testkit.Conn(t, as(t, url, "app")), program(), "freshet", func(step string) {
		require.Fail(t, "it may run nothing", step)
	})
	require.NoError(t, err)
	require.Contains(t, (&setup.Error{Problems: left}).Error(), "-- to be run by the owner of \"public\".\"messages\"")

	left, err = setup.ApplyAll(testkit.Context(t), testkit.Conn(t, url), program(), "freshet", nil)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Contains(t, left[0].Text, "max_slot_wal_keep_size is unlimited")
}

// TestApply_undoneAnew: what is undone in another way each time ends Apply as well.
func TestApply_undoneAnew(t *testing.T) {
	url := database(t)
	testkit.Exec(t, url, `alter publication freshet drop table messages; create sequence number;
create function undo() returns event_trigger language plpgsql as $$
declare turn int;
begin
  if current_query() like '%add table%' then
    turn := nextval('number');
    execute format('alter table messages add column c%1$s int not null default 0, add constraint k%1$s unique (conversation, id, c%1$s)', turn);
    execute format('alter table messages replica identity using index k%s', turn);
  end if;
end $$;
create event trigger undo on ddl_command_end when tag in ('ALTER PUBLICATION') execute function undo()`)
	ctx, cancel := context.WithTimeout(testkit.Context(t), testTimeout)
	defer cancel()
	_, err := setup.Apply(ctx, testkit.Conn(t, url), program(), "freshet")
	require.ErrorContains(t, err, fmt.Sprintf("%d things were mended, and there is always another", 8))
}
