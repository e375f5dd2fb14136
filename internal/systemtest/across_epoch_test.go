package systemtest_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// catchUp opens a stream, and returns what it tells before ready. The stream ends
// then.
func (c *clients) catchUp(t testing.TB, ctx context.Context, topics []string, opts ...client.StreamOption) (told []string, resets []client.Reset) {
	t.Helper()
	changed := map[string]bool{}
	err := c.freshet.Stream(ctx, topics, func(e client.Event) error {
		switch e := e.(type) {
		case client.Invalidate:
			for _, topic := range e.Topics {
				changed[topic] = true
			}
		case client.Reset:
			resets = append(resets, e)
		case client.Ready:
			return errDone
		}
		return nil
	}, opts...)
	require.ErrorIs(t, err, errDone)
	return slices.Sorted(maps.Keys(changed)), resets
}

// resuming are clients of a server that send this id with each stream.
func resuming(t testing.TB, url, id string) *clients {
	t.Helper()
	c, err := client.New(url, client.WithHTTPClient(transport(t, false)), client.WithHeader("Last-Event-ID", id))
	require.NoError(t, err)
	return &clients{freshet: c}
}

// F13, G2, G4 across nodes: an id that one node has given is as good at another: it
// brings what has changed since and nothing else, and so does a since for each
// topic; at a node that was started later, too, out of the window. Past epochs and
// the future are answered by a reset everywhere. After a crash of Postgres all nodes
// come to one and the same epoch, and what one stamps in it is understood by all.
func TestAcross_resume(t *testing.T) {
	t.Parallel()
	binary, ctx := program(t), testkit.Context(t)
	postgres := testkit.NewServer(t, nil)
	database := postgres.Migrated(t)
	nodes := startNodes(t, binary, database, 2)
	a, b := newClients(t, nodes[0].url), newClients(t, nodes[1].url)
	topics := []string{topicOf("7"), topicOf("8"), topicOf("9")}
	follows := a.listen(t, topics, nil)
	follows.await(t, ctx, "ready", func() bool { return len(follows.ready) > 0 })
	create := func(at *clients, conversation string) freshet.Revision {
		t.Helper()
		_, stamp, err := at.create(ctx, conversation, "hi")
		require.NoError(t, err)
		return stamp.Revision
	}
	first := create(b, "8")
	follows.await(t, ctx, "the first write", func() bool { return !follows.told[topicOf("8")].Less(first) })
	id := follows.now().last // of node a's stream
	second := create(b, "7")
	third := create(a, "9")

	everywhere := []*child{nodes[0], nodes[1], serveChild(t, binary, database, "freshet")}
	for i, n := range everywhere {
		c := newClients(t, n.url)
		// So that the node has come as far as what is to be told.
		_, err := c.list(ctx, "9", third)
		require.NoError(t, err)
		told, resets := resuming(t, n.url, id.String()).catchUp(t, ctx, topics)
		require.Empty(t, resets, "node %d", i)
		require.Equal(t, []string{topicOf("7"), topicOf("9")}, told, "node %d", i)
		told, resets = c.catchUp(t, ctx, topics, client.WithSinceByTopic(map[string]freshet.Revision{
			topicOf("7"): second, topicOf("8"): id, topicOf("9"): second,
		}))
		require.Empty(t, resets, "node %d", i)
		require.Equal(t, []string{topicOf("9")}, told, "node %d", i)
		for name, other := range map[string]freshet.Revision{
			"an ended epoch": {Epoch: id.Epoch - 1, Position: id.Position},
			"a coming epoch": {Epoch: id.Epoch + 1, Position: id.Position},
			"the future":     {Epoch: id.Epoch, Position: id.Position + 1<<40},
		} {
			_, resets = resuming(t, n.url, other.String()).catchUp(t, ctx, topics)
			require.Len(t, resets, 1, "%s, node %d", name, i)
		}
	}

	postgres.Kill()
	postgres.Restart(t)
	begun := map[freshet.Epoch]bool{}
	for _, n := range everywhere {
		c := newClients(t, n.url)
		l := c.listen(t, topics, nil)
		l.await(t, ctx, "a stream of the next epoch", func() bool { return id.Epoch < l.last.Epoch })
		begun[l.now().last.Epoch] = true
		_, resets := resuming(t, n.url, id.String()).catchUp(t, ctx, topics)
		require.Len(t, resets, 1)
		_, err := c.list(ctx, "7", id)
		require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err), "%v", err)
	}
	require.Len(t, begun, 1, "all nodes serve one epoch")
	follows.await(t, ctx, "the reset", func() bool { return len(follows.resets) > 0 })
	after := create(a, "7")
	for _, n := range everywhere {
		answer, err := newClients(t, n.url).list(ctx, "7", after)
		require.NoError(t, err)
		require.Len(t, answer.Msg.GetMessages(), 2)
	}
}

// stopWalsender stops the walsender that a node streams from, at a moment at which
// it waits and so holds nothing that others need; and returns what lets it go on.
func stopWalsender(t testing.TB, ctx context.Context, conn *pgx.Conn, but int) (resume func()) {
	t.Helper()
	for {
		var pid int
		require.NoError(t, conn.QueryRow(ctx, `select active_pid from pg_replication_slots where temporary and active_pid <> $1`, but).Scan(&pid))
		require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
		resume = sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
		t.Cleanup(resume)
		var event *string
		require.NoError(t, conn.QueryRow(ctx, `select wait_event from pg_stat_activity where pid = $1`, pid).Scan(&event))
		if event != nil && strings.HasPrefix(*event, "WalSender") {
			return resume
		}
		resume()
	}
}

// F36 across nodes: a node's replication stream is held up. What it hasn't come to
// yet it never serves: a read at-least another node's stamp waits and ends as
// unavailable, also as a GET with the entity tag of an older answer, which it would
// otherwise call unchanged; and it is answered once the stream goes on. Strong reads
// see all. A stream that comes with an id above what the node has seen isn't reset,
// and is told what comes.
func TestAcross_F36_aNodeThatLags(t *testing.T) {
	t.Parallel()
	binary, ctx := program(t), testkit.Context(t)
	database := testkit.NewServer(t, nil).Migrated(t)
	conn := testkit.Conn(t, database)
	const maxWait = 500 * time.Millisecond
	other := serveChild(t, binary, database, "freshet")
	var but int
	require.NoError(t, conn.QueryRow(ctx, `select active_pid from pg_replication_slots where temporary`).Scan(&but))
	lags := serveChild(t, binary, database, "freshet", "--max-wait", maxWait.String(), "--max-lag=10m", "--heartbeat=1m")
	a, b := newClients(t, other.url), newClients(t, lags.url)
	topics := []string{topicOf("7"), topicOf("8")}
	there := b.listen(t, topics, nil)
	there.await(t, ctx, "ready", func() bool { return len(there.ready) > 0 })
	get := messagesv1connect.NewMessageServiceClient(transport(t, false), lags.url, connect.WithHTTPGet(), connect.WithInterceptors(client.NewInterceptor()))
	conditional := func(ctx context.Context, rev freshet.Revision, tag string) (string, error) {
		req := connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/7", PageSize: 1000})
		if tag != "" {
			req.Header().Set("If-None-Match", tag)
		}
		resp, err := get.ListMessages(client.AtLeast(ctx, rev), req)
		if err != nil {
			return "", err
		}
		return resp.Header().Get("Etag"), nil
	}

	// The node gives up a stream that is silent for five seconds, and copies the slot
	// anew. On a machine that is so slow it may then have come further than this test;
	// what it serves has to be right then, and the test tries again.
	lagged := false
	written := 0
	for !lagged {
		_, stamp, err := a.create(ctx, "7", "before")
		require.NoError(t, err)
		written++
		tag, err := conditional(ctx, stamp.Revision, "")
		require.NoError(t, err)
		_, err = conditional(ctx, stamp.Revision, tag)
		require.True(t, connect.IsNotModifiedError(err), "%v", err)
		there.await(t, ctx, "what came before", func() bool { return !there.told[topicOf("7")].Less(stamp.Revision) })

		resume := stopWalsender(t, ctx, conn, but)
		before := there.now().told
		_, stamp, err = a.create(ctx, "7", "not seen there yet")
		require.NoError(t, err)
		written++
		asked := time.Now()
		answer, err := b.list(ctx, "7", stamp.Revision)
		if lagged = err != nil; lagged {
			require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
			require.GreaterOrEqual(t, time.Since(asked), maxWait, "it waited")
		} else {
			require.Len(t, answer.Msg.GetMessages(), written)
		}
		changed, err := conditional(ctx, stamp.Revision, tag)
		require.False(t, connect.IsNotModifiedError(err))
		if lagged = lagged && err != nil; !lagged {
			require.NotEqual(t, tag, changed)
		}
		strong, err := b.list(ctx, "7", freshet.Revision{})
		require.NoError(t, err)
		require.Len(t, strong.Msg.GetMessages(), written)
		changed, err = conditional(client.Strong(ctx), freshet.Revision{}, tag)
		require.NoError(t, err, "it isn't unchanged")
		require.NotEqual(t, tag, changed)
		_, resets := resuming(t, lags.url, stamp.Revision.String()).catchUp(t, ctx, topics)
		require.Empty(t, resets)
		joins := b.listen(t, topics, nil, client.WithSince(stamp.Revision))
		joins.await(t, ctx, "ready", func() bool { return len(joins.ready) > 0 })

		resume()
		there.await(t, ctx, "what it had missed", func() bool { return before[topicOf("7")].Less(there.told[topicOf("7")]) })
		answer, err = b.list(ctx, "7", there.now().told[topicOf("7")])
		require.NoError(t, err)
		require.Len(t, answer.Msg.GetMessages(), written)
		_, stamp, err = a.create(ctx, "8", "afterwards")
		require.NoError(t, err)
		for _, l := range []*listener{there, joins} {
			l.await(t, ctx, "what came afterwards", func() bool { return !l.told[topicOf("8")].Less(stamp.Revision) })
			require.Empty(t, l.now().resets)
		}
	}
}
