package wal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
)

// TestFailover_slot: from PostgreSQL 17 on the window may be a failover slot, which
// somebody has made by hand and which the standby keeps in step with. It survives the
// promotion, and goes on to be the window: none is made. A standby that
// synchronized_standby_slots names and that isn't there holds up the window, and nothing
// else.
func TestFailover_slot(t *testing.T) {
	t.Parallel()
	majors := testkit.Majors(t)
	major := majors[len(majors)-1]
	require.GreaterOrEqual(t, major, 17, "npm's package brings it")
	ctx := testkit.Context(t)
	server := testkit.NewServerOf(t, major, nil)
	primary := server.Database(t)
	require.NoError(t, prepare(ctx, primary))
	slot := slotOf(t, primary)
	testkit.Exec(t, primary, `select pg_create_logical_replication_slot($1, 'pgoutput', failover => true), pg_create_physical_replication_slot('standby', true)`, slot)
	standby := server.Standby(t)
	promoted := standby.URL(t, primary)
	testkit.Exec(t, promoted, `alter system set hot_standby_feedback = on`)
	testkit.Exec(t, promoted, `alter system set primary_slot_name = 'standby'`)
	var info string
	there := testkit.Conn(t, promoted)
	require.NoError(t, there.QueryRow(ctx, `select current_setting('primary_conninfo')`).Scan(&info))
	_, err := there.Exec(ctx, `alter system set primary_conninfo = '`+strings.ReplaceAll(info+" dbname=postgres", "'", "''")+`'`)
	require.NoError(t, err)
	testkit.Exec(t, promoted, `alter system set sync_replication_slots = on`)
	testkit.Exec(t, promoted, `select pg_reload_conf()`)

	feed := start(t, withHost(t, primary, standby), func(c *wal.Config) { c.WindowAge = time.Second }).live(t)
	tell := func(url, conversation string) {
		t.Helper()
		feed.forget()
		testkit.Exec(t, url, `insert into messages (conversation, author, body) values ($1, 'a', 'b')`, conversation)
		feed.awaitTopic(t, "conversations/"+conversation+"/messages")
	}
	feed.awaitWithin(t, time.Minute, "the standby keeps the slot in step", func() bool {
		var synced bool
		tell(primary, "step")
		err := there.QueryRow(ctx, `select exists (select from pg_replication_slots where slot_name = $1 and synced and not temporary)`, slot).Scan(&synced)
		return err == nil && synced
	})

	configure(t, primary, "synchronized_standby_slots", "gone")
	moves := feed.Stats().Moves
	for range 20 {
		tell(primary, "gone")
	}
	require.NoError(t, feed.Ready())
	require.LessOrEqual(t, feed.Stats().Moves, moves+1, "the window waits for it")
	configure(t, primary, "synchronized_standby_slots", "standby")
	// It has new marks to move to only while something is written, and how many of
	// its moves were under way before is not known.
	feed.await(t, "the window moves on", func() bool {
		tell(primary, "back")
		return feed.Stats().Moves > moves+1
	})

	before := feed.caughtUp(t)
	server.Kill()
	standby.Promote(t)
	feed.awaitWithin(t, time.Minute, "the promoted standby is served, in a new epoch", func() bool {
		return feed.Frontier().Epoch > before.Epoch && feed.Ready() == nil
	})
	subscription, err := feed.Subscribe([]string{"conversations/7/messages"}, since(before))
	require.NoError(t, err)
	defer subscription.Close()
	require.True(t, subscription.Take().Reset)
	tell(promoted, "after")
	var failover bool
	require.NoError(t, there.QueryRow(ctx, `select failover and synced from pg_replication_slots where slot_name = $1`, slot).Scan(&failover))
	require.True(t, failover, "it is the slot that the standby kept in step")
	moves = feed.Stats().Moves
	feed.await(t, "it is moved on", func() bool {
		tell(promoted, "later")
		return feed.Stats().Moves > moves
	})
}
