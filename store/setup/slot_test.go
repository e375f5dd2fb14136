package setup_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// checkSlot returns what CheckSlot finds, as text and one by one.
func checkSlot(t *testing.T, url, slot string) (string, []setup.Problem) {
	t.Helper()
	conn, err := pgx.Connect(testkit.Context(t), url)
	require.NoError(t, err)
	problems, err := setup.CheckSlot(testkit.Context(t), conn, slot)
	require.NoError(t, err)
	require.NoError(t, conn.Close(testkit.Context(t)))
	return (&setup.Error{Problems: problems}).Error(), problems
}

// mend runs what was printed, as a person would.
func mend(t *testing.T, url string, problems []setup.Problem) {
	t.Helper()
	for _, p := range problems {
		for _, sql := range p.SQL {
			testkit.Exec(t, url, sql)
		}
	}
}

// TestCheckSlot_noneFree: slots and walsenders are as many as the server was
// started with. A feed that gets none says what to run, and the SQL mends it.
func TestCheckSlot_noneFree(t *testing.T) {
	t.Parallel()
	server, url := ownDatabase(t, map[string]string{"max_replication_slots": "1", "max_wal_senders": "1"})
	slot := slotOf(t, url)
	testkit.Exec(t, url, `select pg_create_physical_replication_slot('another')`)
	text, found := checkSlot(t, url, slot)
	require.Len(t, found, 1, text)
	require.Contains(t, text, "the replication slots are taken (1 of max_replication_slots = 1), and a node needs one to stay, and one for its copy")
	feed := follow(t, url, url)
	feed.await(t, "readiness says why", func() bool {
		return strings.Contains(feed.Ready().Error(), "alter system set max_replication_slots = 5;")
	})
	mend(t, url, found)
	server.Restart(t)
	feed.live(t)
	feed.stop()

	config, err := pgconn.ParseConfig(url)
	require.NoError(t, err)
	config.RuntimeParams["replication"] = "true"
	var sender *pgconn.PgConn
	require.Eventually(t, func() bool { // the feed's walsender has gone
		sender, err = pgconn.ConnectConfig(testkit.Context(t), config)
		return err == nil
	}, testTimeout, testTick)
	_, err = sender.Exec(testkit.Context(t), "IDENTIFY_SYSTEM").ReadAll()
	require.NoError(t, err)
	text, found = checkSlot(t, url, slot)
	require.Contains(t, text, "all walsenders are taken (1 of max_wal_senders = 1)")
	require.Contains(t, text, "no node lives that moves the replication slot", "a warning that goes with it")
	mend(t, url, found)
	require.NoError(t, sender.Close(testkit.Context(t)))
	server.Restart(t)
	follow(t, url, url).live(t)
	_, found = checkSlot(t, url, slot)
	require.Empty(t, found)
}

// TestCheckSlot_ofOthers: a slot of that name that isn't ours is left alone, and it is
// said whose it is.
func TestCheckSlot_ofOthers(t *testing.T) {
	url, another := database(t), testkit.Database(t)
	slot := slotOf(t, url)
	drop := func() { testkit.Exec(t, url, `select pg_drop_replication_slot($1)`, slot) }
	refused := func(whose string) {
		t.Helper()
		_, found := checkSlot(t, url, slot)
		require.Len(t, found, 1)
		require.Equal(t, fmt.Sprintf("the replication slot %q %s, and a server has one of a name: choose another name (server.Config.Slot, --slot)", slot, whose), found[0].Text)
		require.Empty(t, found[0].SQL, "nobody is told to drop what may be somebody's")
	}
	testkit.Exec(t, url, `select pg_create_physical_replication_slot($1)`, slot)
	refused("is a physical one")
	drop()
	testkit.Exec(t, another, `select pg_create_logical_replication_slot($1, 'pgoutput')`, slot)
	config, err := pgx.ParseConfig(another)
	require.NoError(t, err)
	whose := fmt.Sprintf("belongs to the database %q and the plugin pgoutput", config.Database)
	refused(whose)
	feed := follow(t, url, url)
	feed.await(t, "readiness says why", func() bool { return strings.Contains(feed.Ready().Error(), whose) })
	drop()
	feed.live(t)
}

// TestCheckSlot_warnings: what serve copes with, and somebody should know.
func TestCheckSlot_warnings(t *testing.T) {
	t.Parallel()
	server, url := ownDatabase(t, map[string]string{"max_prepared_transactions": "2", "max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "wal_keep_size": "0"})
	slot := slotOf(t, url)
	testkit.Exec(t, url, `begin; create table prepared (id int); prepare transaction 'it''s mine'`)
	text, found := checkSlot(t, url, slot)
	require.Len(t, found, 1)
	require.True(t, found[0].Warning)
	require.NotEmpty(t, found[0].By, "somebody's transaction isn't rolled back by a pipe into psql")
	require.Contains(t, text, `rollback prepared 'it''s mine';`)
	mend(t, url, found)
	_, found = checkSlot(t, url, slot)
	require.Empty(t, found)

	feed := follow(t, url, url).live(t)
	feed.stop()
	for range 4 {
		testkit.Exec(t, url, `select pg_switch_wal() from (select pg_logical_emit_message(true, 'other', repeat('x', 100000))) x`)
	}
	testkit.Exec(t, url, `checkpoint`)
	text, found = checkSlot(t, url, slot)
	require.Len(t, found, 1, text)
	require.True(t, found[0].Warning)
	require.Contains(t, text, "has lost its WAL")
	mend(t, url, found)
	server.Restart(t)
	follow(t, url, url).live(t)
}

// TestCheckSlot_nodes: each node needs a slot and a walsender for its copy, and when all
// connect anew a second one for a moment; the window's slot is one more.
func TestCheckSlot_nodes(t *testing.T) {
	t.Parallel()
	server, url := ownDatabase(t, map[string]string{"max_replication_slots": "5", "max_wal_senders": "2"})
	slot := slotOf(t, url)
	others := 0
	another := func() {
		others++
		testkit.Exec(t, url, `select pg_create_physical_replication_slot($1)`, "another"+strconv.Itoa(others))
	}
	follow(t, url, url).live(t)
	another()
	_, found := checkSlot(t, url, slot)
	require.Empty(t, found, "one node, and 3 of 5 slots are taken")

	follow(t, url, url).live(t)
	text, found := checkSlot(t, url, slot)
	require.Len(t, found, 2, text)
	require.Contains(t, text, "1 replication slots are free (max_replication_slots = 5), and 2 nodes follow the database")
	require.True(t, found[0].Warning, "they serve")
	require.Equal(t, []string{"alter system set max_replication_slots = 8;"}, found[0].SQL)
	require.Contains(t, text, "all walsenders are taken (2 of max_wal_senders = 2)")
	require.False(t, found[1].Warning, "another node could not")
	require.Equal(t, []string{"alter system set max_wal_senders = 4;"}, found[1].SQL)

	another()
	text, found = checkSlot(t, url, slot)
	require.Len(t, found, 2, text)
	require.Contains(t, text, "the replication slots are taken (5 of max_replication_slots = 5), and a node needs one for its copy:")
	require.False(t, found[0].Warning)
	require.Equal(t, []string{"alter system set max_replication_slots = 8;"}, found[0].SQL)

	mend(t, url, found)
	server.Restart(t)
	third := follow(t, url, url).live(t)
	third.await(t, "all three are back", func() bool {
		text, found = checkSlot(t, url, slot)
		return strings.Contains(text, "2 replication slots are free (max_replication_slots = 8), and 3 nodes")
	})
	require.Len(t, found, 1, text)
}
