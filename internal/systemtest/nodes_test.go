package systemtest_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// startNodes starts n programs at once, with the same flags but for the port, and
// returns once all are ready.
func startNodes(t testing.TB, binary, database string, n int, args ...string) []*child {
	t.Helper()
	nodes := make([]*child, n)
	started := make([]chan struct{}, n)
	for i := range nodes {
		nodes[i] = newChild(t, binary, database, "freshet", args...)
		ready, err := nodes[i].launch()
		require.NoError(t, err)
		t.Cleanup(nodes[i].kill)
		started[i] = ready
	}
	for i, ready := range started {
		select {
		case <-ready:
		case <-nodes[i].ended:
			require.FailNow(t, "a node did not get ready")
		case <-testkit.Context(t).Done():
			require.FailNow(t, "a node did not get ready in time")
		}
	}
	settled(t, nodes...)
	return nodes
}

// settled waits until nothing is in quarantine at programs that have begun. It is at
// first, for as long as transactions run that were there before, those of other tests
// too; streams are told all their topics meanwhile, written or not, and nothing is kept.
func settled(t testing.TB, nodes ...*child) {
	t.Helper()
	ctx := testkit.Context(t)
	for _, n := range nodes {
		c := newClients(t, n.url)
		require.Eventually(t, func() bool {
			var stamp client.Stamp
			if _, err := c.list(client.CaptureStamp(ctx, &stamp), "settled", freshet.Revision{}); err != nil {
				return false
			}
			again, err := c.list(ctx, "settled", stamp.Revision)
			return err == nil && again.Header().Get("Freshet-Cache") == "hit"
		}, time.Minute, 10*time.Millisecond)
	}
}

// insertFlushed writes a message by SQL, and returns a revision that holds it.
func insertFlushed(t *testing.T, ctx context.Context, conn *pgx.Conn) freshet.Revision {
	t.Helper()
	var epoch freshet.Epoch
	var position uint64
	_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ('7', 'sql', 'hi')`)
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(ctx, `select epoch, (pg_current_wal_flush_lsn() - '0/0')::bigint from freshet.incarnation`).Scan(&epoch, &position))
	return freshet.Revision{Epoch: epoch, Position: position}
}

// listenToAll returns a client of each node, and its stream, which is live.
func listenToAll(t *testing.T, ctx context.Context, nodes []*child) (all []*clients, listeners []*listener) {
	t.Helper()
	for _, n := range nodes {
		c := newClients(t, n.url)
		l := c.listen(t, []string{topicOf("7")}, nil)
		l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
		all, listeners = append(all, c), append(listeners, l)
	}
	return all, listeners
}

// F36, F37: three programs start at once on an empty database, with the same flags
// but for the port. One is killed, one is paused for longer than its connections
// last; the others' streams notice nothing. Who was paused and wakes serves nothing
// stale and tells nothing wrong; who was killed comes back; and what is left in the
// database is the window, and one copy for each that lives.
func TestNodes_F37_killedAndPaused(t *testing.T) {
	t.Parallel()
	binary, ctx := program(t), testkit.Context(t)
	postgres := testkit.NewServer(t, nil)
	database := postgres.Database(t)
	nodes := startNodes(t, binary, database, 3)
	conn := testkit.Conn(t, database)
	copies := func(want int) {
		t.Helper()
		require.Eventually(t, func() bool {
			var windows, copies int
			err := conn.QueryRow(ctx, `select count(*) filter (where slot_name = 'freshet'), count(*) filter (where temporary) from pg_replication_slots`).Scan(&windows, &copies)
			return err == nil && windows == 1 && copies == want
		}, 30*time.Second, 20*time.Millisecond)
	}
	copies(3)
	clients, listeners := listenToAll(t, ctx, nodes)
	wrote := 0
	tell := func(to ...*listener) freshet.Revision {
		t.Helper()
		before := make([]freshet.Revision, len(to))
		for i, l := range to {
			before[i] = l.now().told[topicOf("7")]
		}
		at := insertFlushed(t, ctx, conn)
		wrote++
		for i, l := range to {
			l.await(t, ctx, "the notice", func() bool { return before[i].Less(l.told[topicOf("7")]) })
		}
		return at
	}
	tell(listeners...)

	nodes[0].kill()
	tell(listeners[1:]...)
	copies(2)
	nodes[0].start(t)
	tell(listeners...) // the client has reconnected

	// Kept by the second node, before it is paused.
	_, err := clients[1].list(ctx, "7", listeners[1].now().last)
	require.NoError(t, err)
	paused := nodes[1].cmd.Process
	require.NoError(t, paused.Signal(syscall.SIGSTOP))
	defer func() { _ = paused.Signal(syscall.SIGCONT) }()
	at := tell(listeners[0], listeners[2])
	_, stamp, err := clients[2].create(ctx, "7", "while the other is paused")
	require.NoError(t, err)
	wrote++
	copies(2) // what it kept of the WAL is let go of
	require.NoError(t, paused.Signal(syscall.SIGCONT))
	for _, rev := range []freshet.Revision{stamp.Revision, {}, at} {
		answer, err := clients[1].list(ctx, "7", rev)
		if err != nil { // it may not know yet whether it can
			require.Contains(t, []connect.Code{connect.CodeUnavailable, connect.CodeDeadlineExceeded}, connect.CodeOf(err), err)
			continue
		}
		require.Len(t, answer.Msg.GetMessages(), wrote)
	}
	listeners[1].await(t, ctx, "the notice that it has missed", func() bool { return !listeners[1].told[topicOf("7")].Less(stamp.Revision) })
	tell(listeners...)
	copies(3)
	for i, l := range listeners {
		h := l.now()
		require.Empty(t, h.resets)
		if i == 2 {
			require.Len(t, h.ready, 1, "the third one's stream was never interrupted")
		}
		answer, err := clients[i].list(ctx, "7", h.last)
		require.NoError(t, err)
		require.Len(t, answer.Msg.GetMessages(), wrote)
	}
}
