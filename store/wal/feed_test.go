package wal_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
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

// TestFeed_expect: whoever registered a transaction before its COMMIT learns
// its revision and its topics, before the frontier moves to it.
func TestFeed_expect(t *testing.T) {
	url := database(t)
	var ours atomic.Uint32
	var expecting atomic.Pointer[<-chan freshet.Commit]
	before := make(chan int, 1)
	feed := startOn(t, url, newSink(), func(c *wal.Config) {
		c.BeforeTold = func(xid uint32, _ freshet.Commit) {
			if xid == ours.Load() { // others are of the quarantine
				before <- len(*expecting.Load())
			}
		}
	}).live(t)
	conn := testkit.Conn(t, url)
	ctx, cancel := context.WithTimeout(testkit.Context(t), testTimeout)
	defer cancel()
	tx, err := conn.Begin(ctx)
	require.NoError(t, err)
	var id string
	require.NoError(t, tx.QueryRow(ctx, insertMessage, "7", "hello").Scan(&id))
	var xid uint64
	require.NoError(t, tx.QueryRow(ctx, `select pg_current_xact_id()::text::bigint`).Scan(&xid))
	expected, forget := feed.Expect(xid)
	defer forget()
	expecting.Store(&expected)
	ours.Store(uint32(xid))
	_, forgotten := feed.Expect(xid + 1)
	forgotten()
	require.NoError(t, tx.Commit(ctx))
	select {
	case n := <-before:
		require.Equal(t, 1, n, "the sink is about to know of it, and whoever expects it doesn't")
	case <-ctx.Done():
		require.FailNow(t, "the commit never came")
	}
	select {
	case c := <-expected:
		require.Equal(t, topicsOf("7", id), sorted(c.Topics...))
		require.NoError(t, feed.Wait(ctx, c.Revision))
	case <-ctx.Done():
		require.Fail(t, "the commit never came")
	}
}

// BeforeTold is told of a commit while the sink doesn't know of it: nobody can have
// refetched by then.
func TestFeed_beforeTold(t *testing.T) {
	url := database(t)
	type told struct {
		xid    uint32
		commit freshet.Commit
		known  freshet.Revision // to the sink
	}
	before := make(chan told, 100)
	to := newSink()
	feed := startOn(t, url, to, func(c *wal.Config) {
		c.BeforeTold = func(xid uint32, commit freshet.Commit) { before <- told{xid, commit, to.Frontier()} }
	}).live(t)
	conn := testkit.Conn(t, url)
	ctx, cancel := context.WithTimeout(testkit.Context(t), testTimeout)
	defer cancel()
	tx, err := conn.Begin(ctx)
	require.NoError(t, err)
	var id string
	require.NoError(t, tx.QueryRow(ctx, insertMessage, "7", "hello").Scan(&id))
	var xid uint32
	require.NoError(t, tx.QueryRow(ctx, `select pg_current_xact_id()::text::bigint`).Scan(&xid))
	require.NoError(t, tx.Commit(ctx))
	for {
		select {
		case b := <-before:
			if b.xid != xid {
				continue // of the quarantine
			}
			require.Equal(t, topicsOf("7", id), sorted(b.commit.Topics...))
			require.True(t, b.known.Less(b.commit.Revision), "the sink knows of it already")
			require.NoError(t, feed.Wait(ctx, b.commit.Revision))
			return
		case <-ctx.Done():
			require.FailNow(t, "the commit never came")
		}
	}
}

// TestNew_refuses names the field that is wrong.
func TestNew_refuses(t *testing.T) {
	good := wal.Config{URL: "postgres://", Program: program(), Sink: newSink()}
	for name, spoil := range map[string]func(*wal.Config){
		"no database URL":   func(c *wal.Config) { c.URL = "" },
		"no contract":       func(c *wal.Config) { c.Program = nil },
		"no sink":           func(c *wal.Config) { c.Sink = nil },
		"can't name a slot": func(c *wal.Config) { c.Slot = "freshet; drop table" },
	} {
		c := good
		spoil(&c)
		_, err := wal.New(c)
		require.ErrorContains(t, err, name)
	}
	_, err := wal.New(good)
	require.NoError(t, err)
}
