package systemtest_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server/intercept"
)

// forgetful is a Postgres that loses asynchronous commits when it crashes: its
// WAL writer sleeps as long as it can.
var forgetful = map[string]string{"wal_writer_delay": "10s", "autovacuum": "off"}

// F3, G4: a client reads a row whose commit was asynchronous, Postgres crashes,
// and the row has never been. A new epoch begins, the client is told to refetch
// all, and does not keep the phantom.
func TestCrash_F3_phantom(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	postgres := testkit.NewServer(t, forgetful)
	database := postgres.Migrated(t)
	// The feed has Postgres flush its WAL as soon as it can; held back, it
	// leaves time to crash.
	capture := testkit.NewProxy(t, database)
	n := serve(t, database, "f3", func(c *live.Config) { c.CaptureURL = capture.URL() })
	c := newClients(t, n.url)

	lost := 0
	for round := range 10 {
		conversation := fmt.Sprint("phantom-", round)
		l := c.listen(t, []string{topicOf(conversation)}, nil)
		l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
		before := l.now().last
		capture.Pause()
		testkit.Exec(t, database, `set synchronous_commit = off;
			insert into messages (conversation, author, body) values ('`+conversation+`', 'sql', 'phantom')`)
		m := c.mirror(t, conversation, conversation)
		shows(t, ctx, m, 1)
		postgres.Kill()
		postgres.Restart(t)
		capture.Resume()
		conn := testkit.Conn(t, database)
		want, err := truth(ctx, conn, conversation)
		require.NoError(t, err)
		if len(want) == 0 {
			lost++
		}
		// Without a new history nobody would ever tell of the row again.
		l.await(t, ctx, "a reset", func() bool { return len(l.resets) > 0 })
		require.Greater(t, l.now().resets[0].Revision.Epoch, before.Epoch)
		requireConverged(t, ctx, conn, []*mirror{m})
		if lost == 2 {
			return
		}
	}
	require.FailNow(t, "Postgres forgot no commit")
}

// shows waits until a mirror holds so many rows, fresh or not.
func shows(t testing.TB, ctx context.Context, m *mirror, rows int) {
	t.Helper()
	for s := range m.query.Changes(ctx) {
		if s.Value != nil && len(s.Value.GetMessages()) == rows {
			return
		}
	}
	require.FailNow(t, m.name+" did not show the rows")
}

// F34 (F3, G4): the phantom is in an answer that is on its way when the epoch
// changes, and arrives after the reset. It is dropped, not shown for a moment.
func TestCrash_F34_flightOverTheCrash(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	postgres := testkit.NewServer(t, forgetful)
	database := postgres.Migrated(t)
	capture := testkit.NewProxy(t, database)
	n := serve(t, database, "f34", func(c *live.Config) { c.CaptureURL = capture.URL() })
	way := testkit.NewProxy(t, strings.TrimPrefix(n.url, "http://"))
	var phantoms atomic.Int64 // answers with the phantom, as they arrive
	var epoch atomic.Uint32   // of the last of them
	c := newClientsVia(t, n.url, "http://"+way.Addr(), connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			resp, err := next(ctx, req)
			if err == nil && len(resp.Any().(*messagesv1.ListMessagesResponse).GetMessages()) > 0 {
				rev, _ := freshet.ParseRevision(resp.Header().Get(intercept.HeaderRevision))
				epoch.Store(uint32(rev.Epoch))
				phantoms.Add(1)
			}
			return resp, err
		}
	}))

	for round := range 10 {
		conversation := fmt.Sprint("flight-", round)
		m := c.mirror(t, conversation, conversation)
		shows(t, ctx, m, 0)
		l := c.listen(t, []string{topicOf(conversation)}, nil, client.WithThrottle(0))
		l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
		before := l.now().last

		// A read waits inside Postgres; what it will find is then held on its way.
		locker := testkit.Conn(t, database)
		_, err := locker.Exec(ctx, `begin; set local synchronous_commit = off; lock messages in access exclusive mode`)
		require.NoError(t, err)
		watcher := testkit.Conn(t, database)
		_, err = watcher.Exec(ctx, `select pg_logical_emit_message(true, 'freshet', $1)`, topicOf(conversation))
		require.NoError(t, err)
		busy := func(want bool) {
			t.Helper()
			require.Eventually(t, func() bool {
				var n int
				err := watcher.QueryRow(ctx, `select count(*) from pg_stat_activity where datname = current_database()
					and query ~ 'ListMessages' and state = 'active' and pid <> pg_backend_pid()`).Scan(&n)
				return err == nil && n > 0 == want
			}, 30*time.Second, time.Millisecond)
		}
		busy(true)
		way.Pause()
		capture.Pause()
		_, err = locker.Exec(ctx, `insert into messages (conversation, author, body) values ('`+conversation+`', 'sql', 'phantom'); commit`)
		require.NoError(t, err)
		busy(false)
		postgres.Kill()
		postgres.Restart(t)
		conn := testkit.Conn(t, database)
		want, err := truth(ctx, conn, conversation)
		require.NoError(t, err)
		capture.Resume()
		l.await(t, ctx, "a reset", func() bool { return len(l.resets) > 0 })
		if len(want) > 0 { // not forgotten: another round
			way.Resume()
			continue
		}
		require.Eventually(t, func() bool { return m.query.Latest().Revision.IsZero() }, 30*time.Second, time.Millisecond,
			"the mirror has heard of the reset: it knows nothing of its answer's age")
		arrived := phantoms.Load()
		way.Resume()
		for s := range m.query.Changes(ctx) {
			require.Empty(t, rows(s.Value), "the phantom is shown")
			if s.Fresh && s.Revision.Epoch > before.Epoch {
				break
			}
		}
		requireConverged(t, ctx, conn, []*mirror{m})
		if phantoms.Load() > arrived {
			require.Equal(t, uint32(before.Epoch), epoch.Load())
			return
		}
	}
	require.FailNow(t, "no answer with a phantom was on its way")
}

// F42: Postgres crashes and recovers, under a node that lives and while it is
// down: a new, higher epoch each time, and clients, those who were offline
// meanwhile too, end equal to Postgres.
func TestCrash_F42_recovery(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	postgres := testkit.NewServer(t, nil)
	database := postgres.Migrated(t)
	addr := live.FreeAddr(t)
	n := serve(t, database, "f42", at(addr))
	c := newClients(t, n.url)
	insert := func() {
		testkit.Exec(t, database, `insert into messages (conversation, author, body) values ('7', 'sql', 'hi')`)
	}
	insert()
	m := c.mirror(t, "who stays", "7")
	l := c.listen(t, []string{topicOf("7")}, nil)
	l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
	crash := func() {
		postgres.Kill()
		postgres.Restart(t)
		insert()
	}
	for round, crash := range []func(){
		crash,
		crash,
		func() {
			n.stop()
			crash()
			n = serve(t, database, "f42", at(addr))
		},
	} {
		requireConverged(t, ctx, testkit.Conn(t, database), []*mirror{m})
		before := l.now().last
		crash()
		l.await(t, ctx, "a reset", func() bool { return len(l.resets) > round })
		require.Len(t, l.now().resets, round+1, "one for each crash")
		require.Greater(t, l.now().resets[round].Revision.Epoch, before.Epoch)
		offline := c.listen(t, []string{topicOf("7")}, nil, client.WithSince(before))
		offline.await(t, ctx, "ready", func() bool { return len(offline.ready) > 0 })
		require.Len(t, offline.now().resets, 1, "who was offline is told")
		requireConverged(t, ctx, testkit.Conn(t, database), []*mirror{m})
	}
}
