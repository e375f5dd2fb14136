package wal_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
	"github.com/freshet-dev/freshet/store/wal"
)

// slotsOf counts the window's slot and its copies, and says where the window begins.
func slotsOf(t *testing.T, url string) (windows, copies int, position uint64) {
	t.Helper()
	slot, ctx := slotOf(t, url), testkit.Context(t)
	conn, err := pgx.Connect(ctx, url) // testkit's would stay open, and it is asked often
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	require.NoError(t, conn.QueryRow(ctx, `
select count(*) filter (where slot_name = $1), count(*) filter (where temporary and slot_name ~ $2),
  coalesce(max((confirmed_flush_lsn - '0/0')::bigint) filter (where slot_name = $1), 0)
from pg_replication_slots where database = current_database()`, slot, setup.CopiesOf(slot)).Scan(&windows, &copies, &position))
	return windows, copies, position
}

// Nodes that share a slot and not the publication: the second one to come, and doctor, say so.
func TestNodes_ofTwoPublications(t *testing.T) {
	ctx, url, log := testkit.Context(t), database(t), new(testkit.Buffer)
	testkit.Exec(t, url, `create publication theirs for table messages with (publish_via_partition_root = true)`)
	start(t, url).live(t)
	conn, slot := testkit.Conn(t, url), slotOf(t, url)
	found, err := setup.CheckNodes(ctx, conn, slot, "freshet")
	require.NoError(t, err)
	require.Empty(t, found)
	found, err = setup.CheckNodes(ctx, conn, slot, "theirs")
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.True(t, found[0].Warning)
	require.Contains(t, found[0].Text, `follow by the publication "freshet"`)

	start(t, url, func(c *wal.Config) { c.Publication, c.Logger = "theirs", log.Logger() }).live(t)
	require.Contains(t, log.String(), `follow by the publication \"freshet\"`)
}

// keepers counts the nodes that keep the window.
func keepers(nodes []*running) (n int) {
	for _, node := range nodes {
		if node.Stats().Keeper {
			n++
		}
	}
	return n
}

// startNodes starts some at once, each through what through says of its number.
func startNodes(t *testing.T, n int, through func(i int) string, adjust ...func(*wal.Config)) []*running {
	t.Helper()
	nodes := make([]*running, n)
	for i := range nodes {
		url := through(i)
		slot := slotOf(t, url)
		nodes[i] = start(t, url, append([]func(*wal.Config){func(c *wal.Config) { c.Slot = slot }}, adjust...)...)
	}
	for _, node := range nodes {
		node.live(t)
	}
	return nodes
}

// told waits until each of nodes has told of a message that is written now.
func told(t *testing.T, url, conversation string, nodes ...*running) {
	t.Helper()
	testkit.Exec(t, url, `insert into messages (conversation, author, body) values ($1, 'a', 'b')`, conversation)
	for _, node := range nodes {
		node.awaitTopic(t, "conversations/"+conversation+"/messages")
	}
}

// messages are the commits of messages that a node has told. (All topics of a source
// are told to whoever was live when another node began.)
func messages(node *running) []freshet.Commit {
	all := slices.DeleteFunc(node.all(), func(c freshet.Commit) bool { return len(c.Topics) == 0 })
	for i := range all {
		all[i].Topics = sorted(all[i].Topics...)
	}
	return all
}

// TestNodes_atOnce: several nodes begin at the same time on a database that has no
// slot: one slot is made, one epoch begins, each serves from a copy of its own, one
// keeps the window; and all tell the same commits at the same revisions.
func TestNodes_atOnce(t *testing.T) {
	url := database(t)
	conn := testkit.Conn(t, url)
	nodes := startNodes(t, 4, func(int) string { return url })
	windows, copies, _ := slotsOf(t, url)
	require.Equal(t, []int{1, 4}, []int{windows, copies})
	require.Eventually(t, func() bool { return keepers(nodes) == 1 }, testTimeout, testTick)
	for i := range 50 {
		testkit.Exec(t, url, `insert into messages (conversation, author, body) values ($1, 'a', 'b')`, fmt.Sprint(i))
	}
	for _, node := range nodes {
		node.awaitTopic(t, "conversations/49/messages")
		require.Equal(t, messages(nodes[0]), messages(node))
		require.Equal(t, nodes[0].Frontier().Epoch, node.Frontier().Epoch)
		require.Zero(t, node.Stats().Sessions)
		require.Zero(t, node.Stats().Slots)
	}
	here := nodes[0].caughtUp(t).Position
	require.Eventually(t, func() bool {
		var behind int
		err := conn.QueryRow(testkit.Context(t), `select count(*) from pg_replication_slots where temporary and slot_name ~ $1 and (confirmed_flush_lsn - '0/0')::bigint < $2`,
			setup.CopiesOf(slotOf(t, url)), here).Scan(&behind)
		return err == nil && behind == 0
	}, testTimeout, testTick, "a copy keeps no more than its node hasn't read")
	for _, node := range nodes[1:] {
		node.stop()
	}
	require.Eventually(t, func() bool {
		_, copies, _ := slotsOf(t, url)
		return copies == 1
	}, testTimeout, testTick, "a node leaves nothing behind")
	told(t, url, "after", nodes[0])
	require.Zero(t, nodes[0].Stats().Sessions)
}

// TestNodes_F37_keeperGone: the keeper is killed, paused or cut off from the
// database. The others don't notice, and one of them keeps the window. When it comes
// back it goes on where it was, with nothing told twice, or wrongly.
func TestNodes_F37_keeperGone(t *testing.T) {
	for name, c := range map[string]struct{ away, back func(*testkit.Proxy) }{
		"cut off":            {(*testkit.Proxy).Refuse, (*testkit.Proxy).Resume},
		"paused":             {(*testkit.Proxy).Pause, (*testkit.Proxy).Resume},
		"its packets vanish": {(*testkit.Proxy).Silence, func(*testkit.Proxy) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := database(t)
			proxy := testkit.NewProxy(t, url)
			short := func(c *wal.Config) { c.WindowAge = time.Second }
			first := start(t, proxy.URL(), short, func(c *wal.Config) { c.MaxLag = time.Second }).live(t)
			first.awaitStats(t, "the first node is the keeper", func(s wal.Stats) bool { return s.Keeper })
			others := startNodes(t, 2, func(int) string { return url }, short)
			told(t, url, "before", append(others, first)...)
			require.Zero(t, keepers(others))
			horizon := first.Horizon()

			if name == "cut off" {
				proxy.Cut()
			}
			c.away(proxy)
			testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('meanwhile', 'a', 'b')`)
			for _, other := range others {
				other.awaitTopic(t, "conversations/meanwhile/messages")
			}
			first.await(t, "another node keeps the window", func() bool { return keepers(others) == 1 })
			first.await(t, "it knows that it isn't current", func() bool { return first.Ready() != nil && first.Lag() > time.Second })
			at := others[0].Frontier().Position
			first.await(t, "the window is moved on", func() bool { _, _, position := slotsOf(t, url); return position >= at })

			c.back(proxy)
			first.awaitWithin(t, time.Minute, "it is back", func() bool { return first.Ready() == nil })
			told(t, url, "after", append(others, first)...)
			for _, other := range others {
				require.Zero(t, other.Stats().Sessions)
				require.NoError(t, other.Ready())
				require.True(t, slices.IsSortedFunc(other.all(), func(a, b freshet.Commit) int { return a.Revision.Compare(b.Revision) }))
			}
			require.True(t, slices.IsSortedFunc(first.all(), func(a, b freshet.Commit) int { return a.Revision.Compare(b.Revision) }))
			// It was away for longer than the window, which has begun anew without it; or it
			// has missed nothing.
			if first.Horizon() == horizon {
				first.awaitTopic(t, "conversations/meanwhile/messages")
			} else {
				require.True(t, horizon.Less(first.Floor([]string{"conversations/meanwhile/messages"})))
			}
			first.awaitStats(t, "there is one slot of each", func(wal.Stats) bool {
				windows, copies, _ := slotsOf(t, url)
				return windows == 1 && copies == 3
			})
		})
	}
}

// TestNodes_keeperSilent: only the keeper's connection falls silent. Capture goes on
// without an interruption, and the window is kept again.
func TestNodes_keeperSilent(t *testing.T) {
	t.Parallel()
	url := database(t)
	proxy := testkit.NewProxy(t, url)
	node := start(t, proxy.URL(), func(c *wal.Config) { c.WindowAge = time.Second }).live(t)
	node.awaitStats(t, "it keeps the window", func(s wal.Stats) bool { return s.Moves > 0 })
	proxy.SilenceNewest(1)
	told(t, url, "meanwhile", node)
	node.awaitWithin(t, time.Minute, "it has found out", func() bool { return !node.Stats().Keeper })
	// One move is enough, and all that can be asked for: the server is that of other tests
	// too, and after a move that had much of their WAL to reread the keeper rests long.
	moves := node.Stats().Moves
	node.awaitWithin(t, time.Minute, "it keeps the window again", func() bool {
		testkit.Exec(t, url, `select pg_logical_emit_message(true, 'test', '')`) // else there is nothing to be moved
		return node.Stats().Keeper && node.Stats().Moves > moves
	})
	require.Zero(t, node.Stats().Sessions)
}

// TestNodes_windowIsKept: while no node lives the window stays where it is, and
// whoever starts begins there; while one lives, it is moved on, also where the
// database is idle for itself, and by a node that wasn't there before.
func TestNodes_windowIsKept(t *testing.T) {
	t.Parallel()
	_, url := ownDatabase(t, nil) // its transaction would hold up the slots of others
	short := func(c *wal.Config) { c.WindowAge, c.WindowBytes = time.Hour, 256<<10 }
	node := start(t, url, short).live(t)
	node.stop()
	_, _, before := slotsOf(t, url)
	bulk := func() {
		testkit.Exec(t, url, `insert into messages (conversation, author, body) select 'bulk', 'a', string_agg(md5(i::text || j::text), '') from generate_series(1, 200) i, generate_series(1, 50) j group by i`)
	}
	bulk()
	_, _, after := slotsOf(t, url)
	require.Equal(t, before, after, "nobody lives")

	nodes := startNodes(t, 2, func(int) string { return url }, short)
	require.Equal(t, before, nodes[1].Horizon().Position, "it began where the window does")
	for _, node := range nodes {
		at := node.caughtUp(t).Position
		node.await(t, "the window is moved on", func() bool {
			bulk()
			_, _, position := slotsOf(t, url)
			return position >= at
		})
		node.awaitStats(t, "all know how far it is", func(s wal.Stats) bool { return s.Confirmed >= at })
		node.stop() // and the next one goes on
	}

	// What the window was moved past is known to be visible: nobody waits for those who
	// write just then.
	tx := begin(t, url)
	again := start(t, url)
	again.await(t, "it serves beside an open transaction", func() bool { return !again.Frontier().IsZero() })
	require.NoError(t, tx.Rollback(testkit.Context(t)))
}

// TestNodes_slotDropped: somebody drops the window's slot under living nodes: one of
// them makes it anew out of its own, at once, though a transaction is open.
func TestNodes_slotDropped(t *testing.T) {
	t.Parallel()
	_, url := ownDatabase(t, nil) // its transaction would hold up the slots of others
	nodes := startNodes(t, 3, func(int) string { return url })
	tx := begin(t, url)
	dropSlot(t, url, slotOf(t, url))
	nodes[0].await(t, "the slot is there again", func() bool { windows, _, _ := slotsOf(t, url); return windows == 1 })
	late := start(t, url).live(t)
	told(t, url, "after", append(nodes, late)...)
	for _, node := range nodes {
		require.Zero(t, node.Stats().Sessions)
	}
	require.NoError(t, tx.Rollback(testkit.Context(t)))

	// Not where the database isn't set up any more.
	late.stop()
	testkit.Exec(t, url, `drop publication freshet`)
	dropSlot(t, url, slotOf(t, url))
	looks := nodes[0].Stats().Looks
	nodes[0].awaitStats(t, "the nodes have looked again", func(s wal.Stats) bool { return s.Looks > looks+5 || s.Sessions > 0 })
	windows, _, _ := slotsOf(t, url)
	require.Zero(t, windows)
}

// TestNodes_publicationMadeAnew: no node can decode what was written between a
// publication and the next one of its name. They make one slot together, and none
// drops what another has made.
func TestNodes_publicationMadeAnew(t *testing.T) {
	t.Parallel()
	_, url := ownDatabase(t, nil)
	nodes := startNodes(t, 3, func(int) string { return url })
	testkit.Exec(t, url, `drop publication freshet; insert into messages (conversation, author, body) values ('c', 'a', 'b');
create publication freshet for table messages (id, conversation) with (publish_via_partition_root = true)`)
	for _, node := range nodes {
		if serverVersion(t, url) < 180000 {
			node.awaitStats(t, "it was cut off", func(s wal.Stats) bool { return s.Sessions > 0 })
		}
		node.await(t, "ready again", func() bool { return node.Ready() == nil && len(node.Quarantined()) == 0 })
	}
	told(t, url, "after", nodes...)
	made := uint64(0)
	for _, node := range nodes {
		made += node.Stats().Slots
	}
	require.LessOrEqual(t, made, uint64(1+len(nodes)-1), "each at most once, and none another's")
}

// TestNodes_lockOfSomebodyElse: the advisory locks are everybody's. Whoever holds them
// costs nodes some time, and nothing else.
func TestNodes_lockOfSomebodyElse(t *testing.T) {
	t.Parallel()
	url := database(t)
	slot := slotOf(t, url)
	conn := testkit.Conn(t, url)
	for _, key := range wal.LockKeys(slot) {
		_, err := conn.Exec(testkit.Context(t), `select pg_advisory_lock($1, $2)`, wal.LockClass, key)
		require.NoError(t, err)
	}
	log := new(testkit.Buffer)
	node := start(t, url, func(c *wal.Config) { c.WindowAge, c.Logger = time.Second, log.Logger() })
	node.awaitWithin(t, time.Minute, "it serves", func() bool { return node.Ready() == nil && !node.Frontier().IsZero() })
	require.True(t, log.Contains("somebody holds the advisory lock"))
	require.True(t, log.Contains(fmt.Sprintf("pids=[%d]", conn.PgConn().PID())))
	told(t, url, "one", node)
	node.awaitWithin(t, time.Minute, "the window is moved on", func() bool {
		testkit.Exec(t, url, `select pg_logical_emit_message(true, 'test', '')`)
		return node.Stats().Moves > 1 && !node.Stats().Keeper
	})
	require.True(t, log.Contains("was not moved on by whoever holds the advisory lock"))
}

// TestNodes_ofTheEarlierVersion: a node of an earlier version streams from the slot
// itself. A node of this one copies it meanwhile, leaves it alone, and keeps it as
// its window once the other is gone.
func TestNodes_ofTheEarlierVersion(t *testing.T) {
	everyMajor(t, func(t *testing.T, server *testkit.Server, _ int) {
		url := server.Template(t, "wal", prepare)
		slot := slotOf(t, url)
		stop := streamFrom(t, url, slot)
		testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('before', 'a', 'b')`)
		log := new(testkit.Buffer)
		nodes := startNodes(t, 2, func(int) string { return url }, func(c *wal.Config) { c.WindowAge, c.Logger = time.Second, log.Logger() })
		told(t, url, "beside", nodes...)
		_, _, before := slotsOf(t, url)
		stop()
		nodes[0].await(t, "the slot is the window, and kept", func() bool { _, _, position := slotsOf(t, url); return position > before })
		told(t, url, "after", nodes...)
		for _, node := range nodes {
			require.Zero(t, node.Stats().Sessions)
			require.Zero(t, node.Stats().Slots)
		}
		require.NotContains(t, log.String(), "could not be kept")
	})
}

// TestNodes_F41_allWait: several nodes begin on a slot that was made beside a commit
// which is held, and none serves before that shows: also those that didn't make it.
func TestNodes_F41_allWait(t *testing.T) {
	t.Parallel()
	_, url := ownDatabase(t, nil)
	var nodes []*running
	back := besideAHeldCommit(t, url, func() {
		for range 3 {
			nodes = append(nodes, start(t, url))
		}
	})
	var all sync.WaitGroup
	for _, node := range nodes {
		all.Go(func() {
			node.awaitStats(t, "the feed looks whether it may serve", func(s wal.Stats) bool { return s.GateQueries > 100 })
		})
	}
	all.Wait()
	for _, node := range nodes {
		require.True(t, node.Frontier().IsZero(), "a stamp was given while a commit below it is invisible")
		require.False(t, node.Stats().Keeper, "it could move nothing, and has to leave that to others")
	}
	require.Zero(t, count(t, url, "held"))
	testkit.ReleaseCommits(t, url)
	require.NoError(t, <-back)
	for _, node := range nodes {
		node.live(t)
	}
	require.Equal(t, 1, count(t, url, "held"))
}
