package wal_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
)

type commit = freshet.Commit

const insertMessage = `insert into messages (conversation, author, body) values ($1, 'ada', $2) returning id::text`

func topicsOf(conversation, id string) []string {
	return []string{
		"conversations/-/messages",
		"conversations/" + conversation + "/messages",
		"conversations/" + conversation + "/messages/" + id,
		"messages",
	}
}

func sorted(topics ...string) []string {
	topics = slices.Clone(topics)
	slices.Sort(topics)
	return slices.Compact(topics)
}

// TestFeed_tellsOldAndNewRows (F4, in part): whoever writes, each change names
// the topics of the row as it was and as it is.
func TestFeed_tellsOldAndNewRows(t *testing.T) {
	url := database(t)
	feed := start(t, url).live(t)
	conn := testkit.Conn(t, url)
	ctx := testkit.Context(t)

	var id string
	require.NoError(t, conn.QueryRow(ctx, insertMessage, "7", "hello").Scan(&id))
	feed.caughtUp(t)
	commits := feed.all()
	require.Len(t, commits, 1)
	require.Equal(t, topicsOf("7", id), sorted(commits[0].Topics...))

	_, err := conn.Exec(ctx, `update messages set conversation = '8' where id = $1`, id)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `update messages set body = repeat('x', 10000) where id = $1`, id)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `delete from messages where id = $1`, id)
	require.NoError(t, err)
	feed.caughtUp(t)
	commits = feed.all()
	require.Len(t, commits, 4)
	require.Equal(t, sorted(append(topicsOf("7", id), topicsOf("8", id)...)...), sorted(commits[1].Topics...), "a move names both")
	require.Equal(t, topicsOf("8", id), sorted(commits[2].Topics...))
	require.Equal(t, topicsOf("8", id), sorted(commits[3].Topics...), "a delete names the old")
	require.True(t, slices.IsSortedFunc(commits, func(a, b commit) int { return a.Revision.Compare(b.Revision) }))
}

// TestFeed_readAfterNotice (G1): each of 1,000 commits is visible when told.
func TestFeed_readAfterNotice(t *testing.T) {
	url := database(t)
	feed := start(t, url).live(t)
	ctx := testkit.Context(t)
	writer, reader := testkit.Conn(t, url), testkit.Conn(t, url)
	for i := range 1000 {
		var id string
		require.NoError(t, writer.QueryRow(ctx, insertMessage, "7", fmt.Sprint(i)).Scan(&id))
		commit := feed.awaitTopic(t, "conversations/7/messages/"+id)
		require.NoError(t, feed.Wait(ctx, commit.Revision))
		var there bool
		require.NoError(t, reader.QueryRow(ctx, `select exists (select from messages where id = $1)`, id).Scan(&there))
		require.Truef(t, there, "commit %d was told before it was visible", i)
	}
}
