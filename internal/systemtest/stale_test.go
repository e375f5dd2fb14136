package systemtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server/intercept"
)

// readiness asks /readyz.
func (c *clients) readiness(t testing.TB) (ready bool, reason string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, c.url+"/readyz", http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Accept", "application/json")
	resp, err := c.streams.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct {
		Ready  bool
		Reason string
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Equal(t, answer.Ready, resp.StatusCode == http.StatusOK)
	return answer.Ready, answer.Reason
}

// frozen is a server whose feed a test can freeze.
func frozen(t testing.TB, slot string, change func(*live.Config)) (database string, feed *testkit.Proxy, c *clients) {
	t.Helper()
	database = testkit.Migrated(t)
	feed = testkit.NewProxy(t, database)
	n := serve(t, database, slot, func(cfg *live.Config) {
		cfg.CaptureURL = feed.URL()
		if change != nil {
			change(cfg)
		}
	})
	return database, feed, newClients(t, n.url)
}

// F20, G9: the feed is frozen while the process lives. Readiness fails and
// says why; clients are told at once, long before the next heartbeat; kept
// answers stop; a read at-least what the node doesn't hold yet ends as
// unavailable within MaxWait, never as an older answer; strong reads go on. All
// is well again when the feed comes back, without a reset.
func TestStale_F20_feedFrozen(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	const maxWait = time.Second
	database, feed, c := frozen(t, "f20", func(cfg *live.Config) {
		cfg.Heartbeat = time.Minute
		cfg.MaxWait = maxWait
	})
	conn := testkit.Conn(t, database)
	_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ('7', 'sql', 'hi')`)
	require.NoError(t, err)
	m := c.mirror(t, "mirror", "7")
	requireConverged(t, ctx, conn, []*mirror{m})
	l := c.listen(t, []string{topicOf("7")}, nil)
	l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
	before := l.now().last
	kept, err := c.list(ctx, "7", before)
	require.NoError(t, err)
	require.Equal(t, "hit", kept.Header().Get(intercept.HeaderCache))

	feed.Pause()
	began := time.Now()
	_, stamp, err := c.create(ctx, "7", "not told yet")
	require.NoError(t, err, "a committed write is never reported as failed")
	asked := time.Now()
	_, err = c.list(ctx, "7", stamp.Revision)
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
	require.Less(t, time.Since(asked), maxWait+5*time.Second, "a bound, and the slack of a busy machine")
	require.NotNil(t, retryInfo(err))

	l.await(t, ctx, "news of the lag", func() bool { return len(l.lags) > 0 && l.lags[len(l.lags)-1] >= 5*time.Second })
	t.Logf("told of the lag after %v", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), 30*time.Second, "within two heartbeats, and long before the next")
	// Readiness goes by what is decoded, the notice by what is proven fresh, which
	// is older by up to a probe.
	var reason string
	require.Eventually(t, func() bool {
		var ready bool
		ready, reason = c.readiness(t)
		return !ready
	}, 5*time.Second, 10*time.Millisecond)
	require.NotEmpty(t, reason)
	t.Logf("not ready: %s", reason)
	resp, err := c.list(ctx, "7", before)
	require.NoError(t, err)
	require.Equal(t, "miss", resp.Header().Get(intercept.HeaderCache), "no kept answer")
	strong, err := c.list(ctx, "7", l.now().last)
	require.NoError(t, err)
	require.Len(t, strong.Msg.GetMessages(), 2)
	require.Eventually(t, func() bool { return !m.query.Latest().Fresh }, 30*time.Second, time.Millisecond, "the client knows")

	feed.Resume()
	l.await(t, ctx, "the end of the lag", func() bool { return l.lags[len(l.lags)-1] < 5*time.Second })
	require.Eventually(t, func() bool { ready, _ := c.readiness(t); return ready }, 30*time.Second, 10*time.Millisecond)
	l.await(t, ctx, "what was written meanwhile", func() bool { return before.Less(l.told[topicOf("7")]) })
	require.Empty(t, l.now().resets)
	_, err = c.list(ctx, "7", stamp.Revision)
	require.NoError(t, err)
	requireConverged(t, ctx, conn, []*mirror{m})
}

func retryInfo(err error) *errdetails.RetryInfo {
	cerr, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return nil
	}
	for _, d := range cerr.Details() {
		if value, err := d.Value(); err == nil {
			if info, ok := value.(*errdetails.RetryInfo); ok {
				return info
			}
		}
	}
	return nil
}

// F46, G5: mutations that change nothing saw something all the same: a commit
// that the feed has not told yet. Their stamp makes a later read contain it,
// though the answers from before that commit are still kept.
func TestStale_F46_mutationsThatSawMoreThanWasTold(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	database, feed, c := frozen(t, "f46", func(cfg *live.Config) {
		cfg.MaxWait = 200 * time.Millisecond
		cfg.MaxLag = time.Minute // kept answers are what could be wrong here
	})
	conn := testkit.Conn(t, database)
	get := func(ctx context.Context, name string) (*connect.Response[messagesv1.GetMessageResponse], error) {
		return c.messages.GetMessage(ctx, connect.NewRequest(&messagesv1.GetMessageRequest{Name: name}))
	}
	for range 5 {
		name, created, err := c.create(ctx, "7", "to be deleted by somebody")
		require.NoError(t, err)
		_, err = get(client.AtLeast(ctx, created.Revision), name)
		require.NoError(t, err)
		before, err := c.list(ctx, "8", created.Revision)
		require.NoError(t, err)

		feed.Pause()
		request := uuid.NewString()
		_, err = conn.Exec(ctx, `delete from messages where id = split_part($1, '/', 4)::uuid`, name)
		require.NoError(t, err)
		_, err = conn.Exec(ctx, `insert into messages (conversation, author, body, request_id) values ('8', 'ada', 'once', $1)`, request)
		require.NoError(t, err)
		kept, err := get(client.AtLeast(ctx, created.Revision), name)
		require.NoError(t, err, "the message is still kept, and may be told to who asks for no more")
		require.Equal(t, "hit", kept.Header().Get(intercept.HeaderCache))

		var deleted, retried client.Stamp
		_, err = c.messages.DeleteMessage(client.CaptureStamp(ctx, &deleted), connect.NewRequest(&messagesv1.DeleteMessageRequest{Name: name}))
		require.Equal(t, connect.CodeNotFound, connect.CodeOf(err))
		_, err = c.messages.CreateMessage(client.CaptureStamp(ctx, &retried), connect.NewRequest(&messagesv1.CreateMessageRequest{
			Parent: "conversations/8", RequestId: request, Message: &messagesv1.Message{Author: "ada", Body: "once"},
		}))
		require.NoError(t, err)
		_, err = get(client.AtLeast(ctx, deleted.Revision), name)
		require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "not the kept answer")
		_, err = c.list(ctx, "8", retried.Revision)
		require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "not the kept answer")

		feed.Resume()
		require.Eventually(t, func() bool {
			_, err = get(client.AtLeast(ctx, deleted.Revision), name)
			return connect.CodeOf(err) != connect.CodeUnavailable
		}, 30*time.Second, time.Millisecond)
		require.Equal(t, connect.CodeNotFound, connect.CodeOf(err))
		after, err := c.list(ctx, "8", retried.Revision)
		require.NoError(t, err)
		require.Len(t, after.Msg.GetMessages(), len(before.Msg.GetMessages())+1)
	}
}

// F9, F25: nothing is written but to another table and another database of the
// same Postgres, so nothing comes down the stream; no-op mutations and reads
// at-least their stamp are prompt all the same.
func TestStale_F9_F25_writesElsewhere(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	database := testkit.Migrated(t)
	n := serve(t, database, "f9", nil)
	c := newClients(t, n.url)
	elsewhere := testkit.Database(t)
	for _, url := range []string{database, elsewhere} {
		testkit.Exec(t, url, `create table elsewhere (id int)`)
	}
	here, there := testkit.Conn(t, database), testkit.Conn(t, elsewhere)
	began := time.Now()
	for range 50 {
		_, err := here.Exec(ctx, `insert into elsewhere values (1)`)
		require.NoError(t, err)
		_, err = there.Exec(ctx, `insert into elsewhere values (1)`)
		require.NoError(t, err)
		var stamp client.Stamp
		_, err = c.messages.DeleteMessage(client.CaptureStamp(ctx, &stamp), connect.NewRequest(&messagesv1.DeleteMessageRequest{
			Name: "conversations/7/messages/01890a5d-ac96-774b-bcce-b302099a8057",
		}))
		require.Equal(t, connect.CodeNotFound, connect.CodeOf(err))
		_, err = c.list(ctx, "7", stamp.Revision)
		require.NoError(t, err)
	}
	t.Logf("%v each", (time.Since(began) / 50).Round(time.Microsecond))
}
