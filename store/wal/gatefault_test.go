package wal_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
)

// ownDatabase is a prepared database on a server of the test's own.
func ownDatabase(t *testing.T, settings map[string]string) (*testkit.Server, string) {
	t.Helper()
	server := testkit.NewServer(t, settings)
	url := server.Database(t)
	require.NoError(t, prepare(testkit.Context(t), url))
	return server, url
}

// configure changes a setting of the whole server, and waits until it holds.
func configure(t *testing.T, url, setting, value string) {
	t.Helper()
	ctx := testkit.Context(t)
	conn := testkit.Conn(t, url)
	_, err := conn.Exec(ctx, `set synchronous_commit = local`)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "alter system set "+setting+" = '"+value+"'")
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `select pg_reload_conf()`)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		var now string
		return conn.QueryRow(ctx, `select current_setting($1)`, setting).Scan(&now) == nil && now == value
	}, testTimeout, time.Millisecond)
}

// insertHeld starts an insert whose COMMIT is held by synchronous replication,
// and returns a channel that says when it came back.
func insertHeld(t *testing.T, url, conversation, body string) <-chan error {
	t.Helper()
	conn, err := pgx.Connect(testkit.Context(t), url)
	require.NoError(t, err)
	back := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		defer conn.Close(ctx)
		_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ($1, 'ada', $2)`, conversation, body)
		back <- err
	}()
	return back
}

func count(t *testing.T, url, conversation string) (n int) {
	t.Helper()
	require.NoError(t, testkit.Conn(t, url).QueryRow(testkit.Context(t),
		`select count(*) from messages where conversation = $1`, conversation).Scan(&n))
	return n
}

// TestGate_F1_heldCommitIsNotTold: a commit that is flushed, and so on the
// stream, but invisible to others is not told; once released it is, and a read
// then contains it.
func TestGate_F1_heldCommitIsNotTold(t *testing.T) {
	t.Parallel()
	_, url := ownDatabase(t, nil)
	feed := start(t, url).live(t)
	testkit.HoldCommits(t, url)
	before := feed.caughtUp(t)
	misses := feed.Stats().GateMisses
	back := insertHeld(t, url, "held", "one")

	feed.awaitStats(t, "the commit waits in the gate", func(s wal.Stats) bool { return s.Waiting > 0 && s.GateMisses > misses+20 })
	require.Zero(t, count(t, url, "held"), "the row is invisible")
	require.Empty(t, feed.all(), "told before visible")
	require.NoError(t, feed.Ready(), "a held commit doesn't fail readiness")

	testkit.ReleaseCommits(t, url)
	require.NoError(t, <-back)
	commit := feed.awaitTopic(t, "conversations/held/messages")
	require.True(t, before.Less(commit.Revision))
	require.Equal(t, 1, count(t, url, "held"))
}

// TestGate_F2_laterCommitWaitsForAnEarlierOne: a later commit becomes visible
// before an earlier one. The frontier doesn't pass the earlier one, so that no
// response is stamped above it and lacks its rows.
func TestGate_F2_laterCommitWaitsForAnEarlierOne(t *testing.T) {
	t.Parallel()
	_, url := ownDatabase(t, nil)
	feed := start(t, url).live(t)
	testkit.HoldCommits(t, url)
	feed.caughtUp(t)
	misses := feed.Stats().GateMisses
	back := insertHeld(t, url, "first", "one")
	feed.awaitStats(t, "the first commit waits in the gate", func(s wal.Stats) bool { return s.Waiting > 0 && s.GateMisses > misses })
	held := feed.Frontier()

	testkit.Exec(t, testkit.WithParam(t, url, "synchronous_commit", "local"),
		`insert into messages (conversation, author, body) values ('second', 'bob', 'two')`)
	require.Equal(t, 1, count(t, url, "second"), "the later commit is visible")
	require.Zero(t, count(t, url, "first"), "the earlier one is not")
	misses = feed.Stats().GateMisses
	feed.awaitStats(t, "both wait", func(s wal.Stats) bool { return s.Waiting >= 2 && s.GateMisses > misses+20 })
	require.Empty(t, feed.all())
	require.Equal(t, held, feed.Frontier())

	testkit.ReleaseCommits(t, url)
	require.NoError(t, <-back)
	second := feed.awaitTopic(t, "conversations/second/messages")
	first := feed.awaitTopic(t, "conversations/first/messages")
	require.True(t, first.Revision.Less(second.Revision), "told in the order of the WAL")
}
