package wal_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// hostile is what a role without any rights can put into the WAL, and how many of
// it are logical messages that aren't for us.
var hostile = []struct {
	sql     string
	ignored uint64
}{
	{`select pg_logical_emit_message(%s, repeat('x', 5000), 'y')`, 1},
	{`select pg_logical_emit_message(%s, repeat('x', 4080 + i), 'y') from generate_series(-30, 30) i`, 61}, // around the filter's cut
	{`select pg_logical_emit_message(%s, repeat('x', 20000000), repeat('y', 20000000))`, 1},
	{`select pg_logical_emit_message(%s, 'freshet', repeat('y', 5000000))`, 1},
	{`select pg_logical_emit_message(%s, 'freshet', repeat('y', 4080 + i)) from generate_series(-30, 30) i`, 61},
	{`select pg_logical_emit_message(%s, '', '')`, 1},
	{`select pg_logical_emit_message(%s, 'freshet', '')`, 1},
	{`select pg_logical_emit_message(%s, 'freshet', '\x00ff80c328'::bytea)`, 1}, // not UTF-8
	{`select pg_logical_emit_message(%s, 'freshet', '\x' || repeat('00', 300))`, 1},
	{`select pg_logical_emit_message(%s, 'freshet.source', '\xff'::bytea)`, 1},
	{`select pg_logical_emit_message(%s, 'FRESHET', 'messages')`, 1},
	{`select pg_logical_emit_message(%s, 'freshet.' || chr(1) || chr(955) || chr(128512), 'messages')`, 1},
	{`select pg_logical_emit_message(%s, 'freshet.nudge', repeat('x', 100000))`, 0},
	{`select pg_logical_emit_message(%s, 'freshet', 'a' || chr(i)) from generate_series(1, 31) i`, 31}, // control characters
	{`select pg_logical_emit_message(%s, 'x', 'y') from generate_series(1, 20000) i`, 20000},
	{`do $$ begin for i in 1..500 loop begin
  perform pg_logical_emit_message(%s, 'x', 'y'); raise exception ''; exception when others then null; end; end loop; end $$`, 0},
	{`do $$ begin perform pg_logical_emit_message(%s, 'freshet', 'reports/undone'); rollback; perform pg_current_xact_id(); end $$`, 0},
	{`begin; create temp table t (x text); insert into t values ('y'); select pg_logical_emit_message(%s, 'x', 'y'); commit; drop table t`, 1},
}

// TestCapture_F74_poison (F45): whatever a role without rights writes into the
// WAL, commits go on being told, no session ends over it, and it is counted.
func TestCapture_F74_poison(t *testing.T) {
	t.Parallel()
	target := database(t)
	u, err := url.Parse(target)
	require.NoError(t, err)
	role := slotOf(t, target) + "_nobody" // roles are the server's
	testkit.Exec(t, target, `create role `+role+` login`)
	t.Cleanup(func() { testkit.Exec(t, target, `drop role `+role) })
	u.User = url.User(role)
	feed := start(t, target).live(t)
	ctx := testkit.Context(t)
	for _, transactional := range []string{"true", "false"} {
		for i, h := range hostile {
			attacker, err := pgx.Connect(ctx, u.String())
			require.NoError(t, err)
			before := feed.Stats().Ignored
			_, err = attacker.PgConn().Exec(ctx, fmt.Sprintf(h.sql, transactional)).ReadAll()
			require.NoError(t, err, h.sql)
			require.NoError(t, attacker.Close(ctx))
			conversation := fmt.Sprintf("after-%s-%d", transactional, i)
			testkit.Exec(t, target, `insert into messages (conversation, author, body) values ($1, 'a', 'b')`, conversation)
			feed.awaitTopic(t, "conversations/"+conversation+"/messages")
			if transactional == "true" { // an undone one outside of a transaction isn't undone
				require.Equal(t, h.ignored, feed.Stats().Ignored-before, h.sql)
			}
		}
	}
	require.Zero(t, feed.Stats().Sessions, "no session was lost over it")
	require.Len(t, feed.all(), 2*len(hostile), "nothing of it was told")

	// After a restart the window is replayed.
	feed.stop()
	again := start(t, target).live(t)
	testkit.Exec(t, target, `insert into messages (conversation, author, body) values ('restarted', 'a', 'b')`)
	again.awaitTopic(t, "conversations/restarted/messages")
	require.Zero(t, again.Stats().Sessions)
}

// TestCapture_F74_lockedByAnybody: advisory locks are everybody's, in one name
// space per database. Holding one, whatever its key, doesn't keep the feed from
// its epoch.
func TestCapture_F74_lockedByAnybody(t *testing.T) {
	t.Parallel()
	url := database(t)
	conn := testkit.Conn(t, url)
	const once = 0x66726573_68657401 // under which the epoch was written
	_, err := conn.Exec(testkit.Context(t), `select pg_advisory_lock($1)`, int64(once))
	require.NoError(t, err)
	start(t, url).live(t)
}
