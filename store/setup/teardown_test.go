package setup_test

import (
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// TestTeardown drops slot and publication, but not under a running node,
// whatever slot it reads; unless it is told to.
func TestTeardown(t *testing.T) {
	url := database(t)
	slot := slotOf(t, url)
	feed := follow(t, url, url).live(t)
	conn := testkit.Conn(t, url)
	ctx := testkit.Context(t)
	left := func() (slots, publications int) {
		require.NoError(t, conn.QueryRow(ctx, `
select (select count(*) from pg_replication_slots where database = current_database()), (select count(*) from pg_publication)`).Scan(&slots, &publications))
		return slots, publications
	}
	second := follow(t, url, url).live(t)
	second.stop()
	require.Eventually(t, func() bool { slots, _ := left(); return slots == 2 }, testTimeout, testTick, "a node takes its slot with it")
	for _, name := range []string{slot, "another_slot"} {
		var used *setup.InUseError
		require.ErrorAs(t, teardown(t, conn, name, false), &used)
		require.Contains(t, used.Error(), "stop every `freshet serve`")
		require.Len(t, used.Nodes, 1, "by where they run")
		require.Regexp(t, ": (slot "+slot+" with pid \\d+, )?slot "+slot+"_[0-9a-f]{8} with pid \\d+, \\d other connections$", used.Nodes[0], "it may be moving the one that stays")
		slots, publications := left()
		require.Equal(t, 2, slots, "the one that stays, and the node's")
		require.Equal(t, 1, publications, "the publication of a node that lives")
	}
	feed.stop()
	require.Eventually(t, func() bool { return teardown(t, conn, slot, false) == nil }, testTimeout, testTick)
	slots, publications := left()
	require.Zero(t, slots+publications)
	require.NoError(t, teardown(t, conn, slot, false), "twice is fine")

	_, err := setup.Apply(ctx, conn, program(), "freshet")
	require.NoError(t, err)
	feed = follow(t, url, url).live(t)
	require.NoError(t, teardown(t, conn, slot, true))
	slots, publications = left()
	require.Zero(t, slots+publications, "by force, under the node")
	feed.await(t, "the node isn't ready", func() bool { return feed.Ready() != nil })
}

// TestTeardown_anotherReader: whoever reads the slot counts, whatever it calls
// itself.
func TestTeardown_anotherReader(t *testing.T) {
	url := database(t)
	slot := slotOf(t, url)
	conn := testkit.Conn(t, url)
	ctx := testkit.Context(t)
	reader := testkit.Conn(t, testkit.WithParam(t, url, "replication", "database")).PgConn()
	_, err := pglogrepl.CreateReplicationSlot(ctx, reader, slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{})
	require.NoError(t, err)
	require.NoError(t, pglogrepl.StartReplication(ctx, reader, slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'freshet'"},
	}))
	var used *setup.InUseError
	require.ErrorAs(t, teardown(t, conn, slot, false), &used)
	require.NoError(t, teardown(t, conn, slot, true))
}

// TestTeardown_stoppedNode: a node that is stopped, its slot kept, has the
// publication when it comes back.
func TestTeardown_stoppedNode(t *testing.T) {
	url := database(t)
	slot, other := slotOf(t, url), slotOf(t, url)+"_2"
	conn := testkit.Conn(t, url)
	ctx := testkit.Context(t)
	testkit.Exec(t, url, `select pg_create_logical_replication_slot($1, 'pgoutput'), pg_create_logical_replication_slot($2, 'pgoutput')`, slot, other)
	left := func() (publication bool) {
		require.NoError(t, conn.QueryRow(ctx, `select exists (select from pg_publication)`).Scan(&publication))
		return publication
	}
	var used *setup.InUseError
	require.ErrorAs(t, teardown(t, conn, slot, false), &used)
	require.Contains(t, used.Error(), "pg_drop_replication_slot('"+other+"')", "the way out")
	require.True(t, left())
	for _, p := range used.Idle {
		testkit.Exec(t, url, p.SQL[0])
	}
	require.NoError(t, teardown(t, conn, slot, false))
	require.False(t, left())

	_, err := setup.Apply(ctx, conn, program(), "freshet")
	require.NoError(t, err)
	testkit.Exec(t, url, `select pg_create_logical_replication_slot($1, 'pgoutput'), pg_create_logical_replication_slot($2, 'pgoutput')`, slot, other)
	removed, err := setup.Teardown(ctx, conn, slot, "freshet", true)
	require.NoError(t, err)
	require.Equal(t, setup.Removed{Slot: true, NeededBy: []string{"slot " + other}}, removed, "by force")
	require.True(t, left(), "it has its publication when it comes back")
	removed, err = setup.Teardown(ctx, conn, other, "freshet", false)
	require.NoError(t, err)
	require.Equal(t, setup.Removed{Slot: true, Publication: true, NeededBy: []string{}}, removed)
	require.False(t, left())
}

// TestTeardown_amongOthers: the publication is of all slots. Who takes down one of them
// takes nothing from the nodes of another, by force neither; and where nodes read it
// that would make it anew, it stays as well.
func TestTeardown_amongOthers(t *testing.T) {
	url := database(t)
	slot, other := slotOf(t, url), slotOf(t, url)+"_2"
	conn := testkit.Conn(t, url)
	ctx := testkit.Context(t)
	feed := follow(t, url, url).live(t)
	testkit.Exec(t, url, `select pg_create_logical_replication_slot($1, 'pgoutput')`, other)
	var used *setup.InUseError
	require.ErrorAs(t, teardown(t, conn, other, false), &used)

	removed, err := setup.Teardown(ctx, conn, other, "freshet", true)
	require.NoError(t, err)
	require.True(t, removed.Slot)
	require.False(t, removed.Publication)
	require.Regexp(t, "^slot "+slot+"( with pid \\d+)?$", removed.NeededBy[0], "whether or not the node is moving it just now")
	require.Regexp(t, "^slot "+slot+"_[0-9a-f]{8} with pid ", removed.NeededBy[1])
	write := func() {
		testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('7', 'a', 'b')`)
	}
	require.Len(t, feed.told(t, write), 1, "its nodes go on")

	testkit.Exec(t, url, `select pg_create_logical_replication_slot($1, 'pgoutput')`, other)
	require.ErrorAs(t, teardown(t, conn, slot, true), &used)
	require.Regexp(t, "slot "+slot+"_[0-9a-f]{8} with pid ", used.Error())
	require.Len(t, feed.told(t, write), 1, "so do these: nothing was changed")
	testkit.Exec(t, url, `select pg_drop_replication_slot($1)`, other)
	removed, err = setup.Teardown(ctx, conn, slot, "freshet", true)
	require.NoError(t, err)
	require.Equal(t, setup.Removed{Slot: true, Publication: true, NeededBy: []string{}}, removed)
}

// teardown is Teardown, but for what it says.
func teardown(t *testing.T, conn *pgx.Conn, slot string, force bool) error {
	_, err := setup.Teardown(testkit.Context(t), conn, slot, "freshet", force)
	return err
}

// TestOrphans: a slot that nobody reads holds WAL back, whatever its name.
func TestOrphans(t *testing.T) {
	url := database(t)
	testkit.Exec(t, url, `select pg_create_logical_replication_slot($1, 'pgoutput')`, slotOf(t, url)+"_2")
	testkit.Exec(t, testkit.Database(t), `select pg_create_logical_replication_slot($1, 'pgoutput')`, slotOf(t, url)+"_elsewhere")
	text, found := checkSlot(t, url, slotOf(t, url))
	require.Len(t, found, 1, text)
	require.True(t, found[0].Warning)
	require.Contains(t, text, "nobody reads the replication slot \""+slotOf(t, url)+"_2\"")
	require.NotEmpty(t, found[0].By, "it may be another program's")
	mend(t, url, found)
	_, found = checkSlot(t, url, slotOf(t, url))
	require.Empty(t, found)
}
