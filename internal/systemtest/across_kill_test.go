package systemtest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// ofNodes is a client that knows all nodes by their addresses.
func ofNodes(t testing.TB, nodes []*child) *clients {
	t.Helper()
	var others []string
	for _, n := range nodes[1:] {
		others = append(others, n.url)
	}
	// A stream has lasted if it was there for the first wait: here, whatever comes
	// between two kills.
	c, err := client.New(nodes[0].url, client.WithNodes(others...), client.WithHTTPClient(transport(t, false)), client.WithBackoff(time.Millisecond, time.Second))
	require.NoError(t, err)
	return &clients{freshet: c, messages: messagesv1connect.NewMessageServiceClient(c.HTTPClient(), nodes[0].url,
		connect.WithInterceptors(c.Interceptor()))}
}

// F37, G2, G3: each of three nodes in turn is killed by SIGKILL, with streams open and
// while writers write. Its streams go on at another node without a wait, and nothing
// is lost: everybody is told of every row that was written, without a reset; and the
// queries, whose reads go along, end equal to Postgres.
func TestAcross_F37_killedUnderStreams(t *testing.T) {
	t.Parallel()
	binary, ctx := program(t), testkit.Context(t)
	database := testkit.Migrated(t)
	nodes := startNodes(t, binary, database, 3)
	conn := testkit.Conn(t, database)
	const streams, writes = 24, 300
	var rows, topics []string
	for range writes {
		id := uuid.NewString()
		rows, topics = append(rows, id), append(topics, topicOf("7")+"/"+id)
	}
	var listeners []*listener
	var mirrors []*mirror
	for i := range streams {
		c := ofNodes(t, nodes)
		listeners = append(listeners, c.listen(t, topics, nil))
		if i%8 == 0 {
			mirrors = append(mirrors, c.mirror(t, fmt.Sprint("mirror ", i), "7"))
		}
	}
	for _, l := range listeners {
		l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
	}
	next := 0
	due := make(chan struct{}, writes)
	w := write(t, ctx, database, func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		select {
		case <-due:
		case <-ctx.Done():
			return false, ctx.Err()
		}
		_, err := conn.Exec(ctx, `insert into messages (id, conversation, author, body) values ($1, '7', 'sql', 'hi')`, rows[next])
		next++
		return next < len(rows), err
	})
	for _, n := range nodes {
		for range writes / len(nodes) {
			due <- struct{}{}
		}
		w.more(t, ctx, writes/12)
		n.kill() // while the rest is written
		for _, l := range listeners {
			l.await(t, ctx, "all so far, at another node", func() bool { return l.gone.IsZero() && len(l.told) >= int(w.written.Load()) })
		}
		n.start(t)
	}
	w.end(t, ctx)

	var back []time.Duration
	for _, l := range listeners {
		l.await(t, ctx, "every row", func() bool { return len(l.told) == writes })
		heard := l.now()
		require.Empty(t, heard.resets)
		for _, end := range heard.ends {
			require.Zero(t, end.Retry, "%v", heard.ends)
		}
		back = append(back, heard.back...)
	}
	require.NotEmpty(t, back)
	slices.Sort(back)
	t.Logf("%d streams were elsewhere after %v at the median, %v at most", len(back), back[len(back)/2].Round(time.Millisecond), back[len(back)-1].Round(time.Millisecond))
	require.Less(t, back[len(back)-1], 20*time.Second, "two seconds, on a machine that has nothing else to do")
	requireConverged(t, ctx, conn, mirrors)
}
