package systemtest_test

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// F1, F2, F36: a commit is held by synchronous replication, and others commit
// behind it. None of them is told, and a read at-least a later one waits as long
// as it may and ends as unavailable, never as an answer that lacks it. Strong
// reads go on and the node stays ready: failing every node would be an outage of
// our own. Once the commit is released, everything is told, the held one too.
func TestHeld_F1_F2_F36_behindAHeldCommit(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	postgres := testkit.NewServer(t, nil)
	database := postgres.Migrated(t)
	conn := testkit.Conn(t, database)
	local := testkit.WithParam(t, database, "synchronous_commit", "local")
	const maxWait = time.Second
	n := serve(t, local, "held", func(cfg *live.Config) { cfg.MaxWait = maxWait })
	c := newClients(t, n.url)
	m := c.mirror(t, "mirror", "7")
	requireConverged(t, ctx, conn, []*mirror{m})
	l := c.listen(t, []string{topicOf("7")}, nil)
	l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
	before := l.now().last

	testkit.HoldCommits(t, database)
	held := make(chan error, 1)
	holder, err := pgx.Connect(ctx, database)
	require.NoError(t, err)
	go func() {
		_, err := holder.Exec(ctx, `insert into messages (conversation, author, body) values ('7', 'sql', 'held')`)
		held <- err
	}()
	require.Eventually(t, func() bool {
		var waiting bool
		err := conn.QueryRow(ctx, `select exists (select from pg_stat_activity where wait_event = 'SyncRep')`).Scan(&waiting)
		return err == nil && waiting
	}, 30*time.Second, time.Millisecond)

	_, stamp, err := c.create(ctx, "7", "behind it")
	require.NoError(t, err)
	asked := time.Now()
	_, err = c.list(ctx, "7", stamp.Revision)
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
	require.GreaterOrEqual(t, time.Since(asked), maxWait, "it waited")
	require.NotNil(t, retryInfo(err))
	strong, err := c.list(ctx, "7", freshet.Revision{})
	require.NoError(t, err)
	require.Len(t, strong.Msg.GetMessages(), 1, "what is visible")
	ready, reason := c.readiness(t)
	require.True(t, ready, reason)
	require.Zero(t, l.now().notices, "nothing is told before it is visible")

	testkit.ReleaseCommits(t, database)
	require.NoError(t, <-held)
	require.NoError(t, holder.Close(context.WithoutCancel(ctx)))
	l.await(t, ctx, "both commits", func() bool { return before.Less(l.told[topicOf("7")]) })
	resp, err := c.list(ctx, "7", stamp.Revision)
	require.NoError(t, err)
	require.Len(t, resp.Msg.GetMessages(), 2)
	requireConverged(t, ctx, conn, []*mirror{m})
}
