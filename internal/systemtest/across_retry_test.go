package systemtest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// createOnce sends one creation with its idempotency key.
func (c *clients) createOnce(ctx context.Context, conversation, key string) (string, client.Stamp, error) {
	var stamp client.Stamp
	resp, err := c.messages.CreateMessage(client.CaptureStamp(ctx, &stamp), connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/" + conversation, RequestId: key,
		Message: &messagesv1.Message{Author: "rpc", Body: key},
	}))
	if err != nil {
		return "", stamp, err
	}
	return resp.Msg.GetMessage().GetName(), stamp, nil
}

// withKey is how many rows have an idempotency key, and the name of one.
func withKey(t *testing.T, ctx context.Context, conn *pgx.Conn, key string) (n int, name string) {
	t.Helper()
	require.NoError(t, conn.QueryRow(ctx, `select count(*), coalesce(min('conversations/' || conversation || '/messages/' || id), '') from messages where request_id = $1`, key).Scan(&n, &name))
	return n, name
}

// F46, F37, G5: a node has committed a creation, and is killed by SIGKILL before it has
// answered. Its client sends it again, by the same key, to another node: which answers
// with the message that is there, creates none, and with a stamp at which a third node
// shows it; and it has been told.
func TestAcross_F46_retriedAfterItsNodeWasKilled(t *testing.T) {
	t.Parallel()
	binary, ctx := program(t), testkit.Context(t)
	database := testkit.NewServer(t, nil).Migrated(t)
	others := startNodes(t, binary, database, 2)
	// An answer is held back until reads find what it did. A node whose feed is frozen has
	// done it, and answers nobody.
	feed := testkit.NewProxy(t, database)
	dying := serveChild(t, binary, database, "freshet", "--capture-url", feed.URL(), "--max-settle=1m", "--max-lag=2m")
	conn := testkit.Conn(t, database)
	l := newClients(t, others[1].url).listen(t, []string{topicOf("7")}, nil)
	l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })

	feed.Pause()
	key, answered := uuid.NewString(), make(chan error, 1)
	first := newClients(t, dying.url)
	go func() {
		_, _, err := first.createOnce(ctx, "7", key)
		answered <- err
	}()
	require.Eventually(t, func() bool { n, _ := withKey(t, ctx, conn, key); return n == 1 }, 30*time.Second, time.Millisecond, "committed")
	select {
	case err := <-answered:
		require.FailNow(t, "it was answered", "%v", err)
	default:
	}
	dying.kill()
	require.True(t, unanswered(<-answered))

	second := newClients(t, others[0].url)
	name, stamp, err := second.createOnce(ctx, "7", key)
	require.NoError(t, err)
	n, there := withKey(t, ctx, conn, key)
	require.Equal(t, 1, n)
	require.Equal(t, there, name)
	third := newClients(t, others[1].url)
	requireShown(t, ctx, third, name, stamp)
	l.await(t, ctx, "the notice", func() bool { return !l.told[topicOf("7")].Less(l.ready[0]) && l.notices > 0 })

	// The same while its commit is held by synchronous replication: done, and visible to
	// nobody. A retry waits for it as long as it may; once it is visible it is answered with it.
	testkit.HoldCommits(t, database)
	key = uuid.NewString()
	go func() {
		_, _, err := second.createOnce(ctx, "8", key)
		answered <- err
	}()
	require.Eventually(t, func() bool {
		var waiting bool
		err := conn.QueryRow(ctx, `select exists (select from pg_stat_activity where wait_event = 'SyncRep')`).Scan(&waiting)
		return err == nil && waiting
	}, 30*time.Second, time.Millisecond)
	others[0].kill()
	require.True(t, unanswered(<-answered))
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, _, err = third.createOnce(short, "8", key)
	require.Contains(t, []connect.Code{connect.CodeDeadlineExceeded, connect.CodeUnavailable}, connect.CodeOf(err), "%v", err)
	testkit.ReleaseCommits(t, database)
	name, stamp, err = third.createOnce(ctx, "8", key)
	require.NoError(t, err)
	n, there = withKey(t, ctx, conn, key)
	require.Equal(t, 1, n)
	require.Equal(t, there, name)
	requireShown(t, ctx, third, name, stamp)
}

// requireShown reads a message at-least a stamp.
func requireShown(t *testing.T, ctx context.Context, c *clients, name string, stamp client.Stamp) {
	t.Helper()
	resp, err := c.get(ctx, name, stamp)
	require.NoError(t, err)
	require.Equal(t, name, resp.Msg.GetMessage().GetName())
}

func (c *clients) get(ctx context.Context, name string, stamp client.Stamp) (*connect.Response[messagesv1.GetMessageResponse], error) {
	return c.messages.GetMessage(client.AtLeast(ctx, stamp.Revision), connect.NewRequest(&messagesv1.GetMessageRequest{Name: name}))
}

// F46, F37, G5: the same at any moment: writers send each creation until it is answered,
// to whichever node lives, while each of three is killed by SIGKILL in turn. Each key has
// one row, that of the name that was answered, which another node shows at-least the
// answer's stamp; and queries end equal to Postgres.
func TestAcross_F46_retriedWhileNodesAreKilled(t *testing.T) {
	t.Parallel()
	binary, ctx := program(t), testkit.Context(t)
	database := testkit.Migrated(t)
	nodes := startNodes(t, binary, database, 3)
	conn := testkit.Conn(t, database)
	const writers, conversations, each = 12, 3, 240
	r := &retries{due: make(chan struct{}, len(nodes)*each), names: map[string]string{}}
	group, writing := errgroup.WithContext(ctx)
	var mirrors []*mirror
	for i := range writers {
		c, conversation := ofNodes(t, nodes), fmt.Sprint("c", i%conversations)
		if i < conversations {
			mirrors = append(mirrors, c.mirror(t, conversation, conversation))
		}
		readers := make([]*clients, len(nodes))
		for i, n := range nodes {
			readers[i] = newClients(t, n.url)
		}
		group.Go(func() error { return r.write(writing, c, conversation, readers) })
	}
	for i, n := range nodes {
		for range each {
			r.due <- struct{}{}
		}
		r.await(t, writing, i*each+each/4)
		n.kill() // while the rest is written
		r.await(t, writing, (i+1)*each)
		n.start(t)
	}
	close(r.due)
	require.NoError(t, group.Wait())
	require.Positive(t, r.again.Load(), "some were not answered")
	require.Positive(t, r.shown.Load(), "others were asked")

	there, written := map[string]string{}, 0
	rows, err := conn.Query(ctx, `select request_id::text, 'conversations/' || conversation || '/messages/' || id from messages`)
	require.NoError(t, err)
	var key, name string
	_, err = pgx.ForEachRow(rows, []any{&key, &name}, func() error {
		there[key] = name
		written++
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, len(nodes)*each, written, "each once")
	require.Equal(t, there, r.names)
	requireConverged(t, ctx, conn, mirrors)
	t.Logf("%d creations, sent again %d times; shown elsewhere %d times", written, r.again.Load(), r.shown.Load())
}

// retries are creations that are sent until they are answered.
type retries struct {
	due                chan struct{} // one for each to come; closed when there are no more
	done, again, shown atomic.Int64

	mu    sync.Mutex        // guards names
	names map[string]string // as answered, by key
}

// write does what is due. An answer that was lost is asked for again; whether the node had
// done it is not known.
func (r *retries) write(ctx context.Context, c *clients, conversation string, readers []*clients) error {
	for range r.due {
		key := uuid.NewString()
		name, stamp, err := c.createOnce(ctx, conversation, key)
		for ; unanswered(err) && ctx.Err() == nil; name, stamp, err = c.createOnce(ctx, conversation, key) {
			r.again.Add(1)
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.names[key] = name
		r.mu.Unlock()
		other := readers[int(r.done.Add(1))%len(readers)]
		if _, err := other.get(ctx, name, stamp); err == nil {
			r.shown.Add(1)
		} else if !unanswered(err) {
			return fmt.Errorf("%s, created at %v: %w", name, stamp.Revision, err)
		}
	}
	return nil
}

// unanswered reports whether an error says that nobody has answered, or could.
func unanswered(err error) bool {
	return err != nil && slices.Contains([]connect.Code{connect.CodeUnavailable, connect.CodeUnknown}, connect.CodeOf(err))
}

// await returns when as many have been done.
func (r *retries) await(t *testing.T, writing context.Context, done int) {
	t.Helper()
	require.Eventually(t, func() bool { return r.done.Load() >= int64(done) || writing.Err() != nil }, time.Minute, time.Millisecond)
}
