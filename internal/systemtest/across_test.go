package systemtest_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server/intercept"
)

// fleet is some nodes on one database, each with a way to the WAL that a test can
// freeze.
type fleet struct {
	database string
	urls     []string
	feeds    []*testkit.Proxy
}

func startFleet(t testing.TB, n int, change func(*live.Config)) *fleet {
	t.Helper()
	f := &fleet{database: testkit.Migrated(t)}
	for range n {
		feed := testkit.NewProxy(t, f.database)
		started := serve(t, f.database, "fleet", func(c *live.Config) {
			c.CaptureURL = feed.URL()
			if change != nil {
				change(c)
			}
		})
		f.urls, f.feeds = append(f.urls, started.url), append(f.feeds, feed)
	}
	return f
}

// G1 across nodes: the stream comes from A, the refetch lands on B. Each notice is at
// once followed by a read at-least its revision at another node, which has kept the
// answer from before: the row that is told of is in it. A node that has not come that
// far waits, or refuses; so does one whose feed is frozen.
func TestAcross_G1_F36_noticeOfOneReadAtAnother(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	f := startFleet(t, 3, func(c *live.Config) { c.MaxWait = 500 * time.Millisecond })
	conn := testkit.Conn(t, f.database)
	var nodes []*clients
	var listeners []*listener
	for _, url := range f.urls {
		c := newClients(t, url)
		l := c.listen(t, []string{topicOf("7")}, nil, client.WithThrottle(0))
		l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
		nodes, listeners = append(nodes, c), append(listeners, l)
	}
	written := 0
	insert := func() {
		t.Helper()
		_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ('7', 'sql', 'hi')`)
		require.NoError(t, err)
		written++
	}
	// told writes, and returns what a node says of it.
	told := func(at int) freshet.Revision {
		t.Helper()
		l := listeners[at]
		before := l.now().told[topicOf("7")]
		insert()
		l.await(t, ctx, "the notice", func() bool { return before.Less(l.told[topicOf("7")]) })
		return l.now().told[topicOf("7")]
	}
	for range 200 / slowdown {
		at := rand.IntN(3)
		rev := told(at)
		for _, other := range []int{(at + 1) % 3, (at + 2) % 3} {
			resp, err := nodes[other].list(ctx, "7", rev)
			require.NoError(t, err)
			require.Len(t, resp.Msg.GetMessages(), written, "told by node %d up to %v, read at node %d", at, rev, other)
			stamp, err := freshet.ParseRevision(resp.Header().Get(intercept.HeaderRevision))
			require.NoError(t, err)
			require.False(t, stamp.Less(rev))
		}
	}

	f.feeds[1].Pause()
	before := listeners[1].now().last
	rev := told(0)
	_, err := nodes[1].list(ctx, "7", rev)
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "what it keeps is older: %v", err)
	resp, err := nodes[1].list(ctx, "7", freshet.Revision{})
	require.NoError(t, err)
	require.Len(t, resp.Msg.GetMessages(), written, "a strong read goes to the database")
	require.True(t, before.Less(rev), "and it knows no better")
	f.feeds[1].Resume()
	listeners[1].await(t, ctx, "the notice", func() bool { return before.Less(listeners[1].told[topicOf("7")]) })
	resp, err = nodes[1].list(ctx, "7", rev)
	require.NoError(t, err)
	require.Len(t, resp.Msg.GetMessages(), written)
	for _, l := range listeners {
		require.Empty(t, l.now().resets)
	}
}

// G5 across nodes: what is written at one is in a read at-least the write's stamp at
// any other, while the others' feeds are frozen now and then: then a read waits, and
// in the end refuses, but shows nothing older.
func TestAcross_G5_writesAreReadBackAtAnother(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	f := startFleet(t, 3, func(c *live.Config) { c.MaxWait = 200 * time.Millisecond })
	var nodes []*clients
	for _, url := range f.urls {
		nodes = append(nodes, newClients(t, url))
	}
	ends := make(chan struct{})
	background(t, func(ctx context.Context) {
		for {
			feed := f.feeds[rand.IntN(len(f.feeds))]
			feed.Pause()
			wait(ctx, rand.N(400*time.Millisecond))
			feed.Resume()
			select {
			case <-ends:
				return
			case <-ctx.Done():
				return
			case <-time.After(rand.N(100 * time.Millisecond)):
			}
		}
	})
	const workers, writes = 8, 480 / slowdown
	var refused atomic.Int64
	var group errgroup.Group
	for i := range workers {
		conversation := fmt.Sprint("c", i%3) // some share one: answers are shared and kept
		group.Go(func() error {
			for n := 0; n < writes/workers || refused.Load() == 0; n++ { // few are enough where each takes long
				at, other := nodes[rand.IntN(3)], nodes[rand.IntN(3)]
				name, stamp, err := at.create(ctx, conversation, "hi")
				if err != nil {
					return fmt.Errorf("write: %w", err)
				}
				for {
					found, err := other.holds(ctx, conversation, name, stamp)
					if connect.CodeOf(err) == connect.CodeUnavailable {
						refused.Add(1)
						continue // its feed is frozen
					}
					if err != nil || !found {
						return fmt.Errorf("%s, created at %v: found %v, %w", name, stamp.Revision, found, err)
					}
					break
				}
				if _, err := other.messages.DeleteMessage(ctx, connect.NewRequest(&messagesv1.DeleteMessageRequest{Name: name})); err != nil {
					return fmt.Errorf("delete: %w", err) // or a page is full
				}
			}
			return nil
		})
	}
	err := group.Wait()
	close(ends)
	require.NoError(t, err)
	t.Logf("%d writes or more read back at another node, which refused %d times", writes, refused.Load())
}

// wait waits, for as long as ctx lasts.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// G2 across nodes: a stream that one node told up to some id goes on at another, by
// Last-Event-ID and by since_by_topic: just what has changed since is told there, and
// nothing is reset.
func TestAcross_G2_resumesAtAnother(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	f := startFleet(t, 3, nil)
	conn := testkit.Conn(t, f.database)
	insert := func(conversation string) {
		t.Helper()
		_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ($1, 'sql', 'hi')`, conversation)
		require.NoError(t, err)
	}
	topics := []string{topicOf("1"), topicOf("2"), topicOf("3")}
	// stream returns what a node tells until a conversation is told of, and the last id.
	stream := func(at int, until string, opts ...client.StreamOption) (told []string, last freshet.Revision) {
		t.Helper()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		caughtUp := false
		err := newClients(t, f.urls[at]).freshet.Stream(ctx, topics, func(e client.Event) error {
			switch e := e.(type) {
			case client.Reset:
				return fmt.Errorf("a reset: %v", e)
			case client.Invalidate:
				last = e.Revision
				told = append(told, e.Topics...)
			case client.Ready:
				last, caughtUp = e.Revision, true
			}
			if caughtUp && (until == "" || slices.Contains(told, topicOf(until))) {
				cancel()
			}
			return nil
		}, opts...)
		require.ErrorIs(t, err, context.Canceled)
		slices.Sort(told)
		return slices.Compact(told), last
	}
	const rounds = 30
	exact := 0
	_, last := stream(0, "")
	for range rounds {
		at := rand.IntN(3)
		changed := fmt.Sprint(1 + rand.IntN(3))
		insert(changed)
		since := last
		var told []string
		told, last = stream(at, changed, client.WithSince(since))
		if len(told) == 1 {
			exact++
		}

		// Of each topic what its reader holds, from different nodes: just one is behind.
		revs := map[string]freshet.Revision{topics[0]: last, topics[1]: last, topics[2]: last}
		revs[topicOf(changed)] = since
		if told, _ = stream((at+1)%3, changed, client.WithSinceByTopic(revs)); len(told) == 1 {
			exact++
		}
	}
	// A node that is a second behind tells more; on a busy machine one may be.
	require.Greater(t, exact, rounds, "of %d", 2*rounds)
}

// A validator of one node is good at each: 304 if and only if nothing has changed.
func TestAcross_conditionalGet(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	f := startFleet(t, 3, nil)
	writer := newClients(t, f.urls[2])
	at := func(node int, rev freshet.Revision, tag string) (status int, next string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.urls[node]+messagesv1connect.MessageServiceListMessagesProcedure+
			"?connect=v1&encoding=json&message="+url.QueryEscape(`{"parent":"conversations/7"}`), http.NoBody)
		require.NoError(t, err)
		req.Header.Set(intercept.HeaderAtLeast, rev.String())
		req.Header.Set("If-None-Match", tag)
		resp, err := writer.streams.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, resp.Header.Get("ETag")
	}
	tag := `"none"`
	for range 4 {
		_, stamp, err := writer.create(ctx, "7", "hi")
		require.NoError(t, err)
		status, next := at(0, stamp.Revision, tag)
		require.Equal(t, http.StatusOK, status)
		require.NotEqual(t, tag, next)
		for node := range f.urls {
			status, again := at(node, stamp.Revision, next)
			require.Equal(t, http.StatusNotModified, status, "node %d", node)
			require.Equal(t, next, again)
			status, _ = at(node, stamp.Revision, tag)
			require.Equal(t, http.StatusOK, status, "node %d", node)
		}
		tag = next
	}
}

// spread is a balancer without stickiness: each request goes to another node.
type spread []*url.URL

func (s spread) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Host = s[rand.IntN(len(s))].Host
	req.Host = req.URL.Host
	return http.DefaultTransport.RoundTrip(req)
}

// G3 across nodes: clients whose stream is at one node, and each of whose reads lands
// at a random one, while everybody writes everywhere and feeds are frozen in turn. In
// each pause all clients hold what Postgres does.
func TestAcross_G3_clientsConverge(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	f := startFleet(t, 3, func(c *live.Config) { c.MaxWait = 500 * time.Millisecond })
	conn := testkit.Conn(t, f.database)
	var balancer spread
	for _, node := range f.urls {
		at, err := url.Parse(node)
		require.NoError(t, err)
		balancer = append(balancer, at)
	}
	reads := messagesv1connect.NewMessageServiceClient(&http.Client{Transport: balancer}, "http://fleet",
		connect.WithInterceptors(client.NewInterceptor()))
	var mirrors []*mirror
	for i := range 12 {
		c := newClients(t, f.urls[i%3])
		c.messages = reads
		mirrors = append(mirrors, c.mirror(t, fmt.Sprintf("stream at node %d", i%3), fmt.Sprint(i%4)))
	}
	for round := range 3 {
		var group errgroup.Group
		for writer := range 3 {
			conn := testkit.Conn(t, f.database)
			group.Go(func() error {
				for range 60 / slowdown {
					conversation := fmt.Sprint(rand.IntN(4))
					var err error
					switch rand.IntN(4) {
					case 0:
						_, err = conn.Exec(ctx, `insert into messages (conversation, author, body) values ($1, 'sql', 'hi')`, conversation)
					case 1:
						_, err = conn.Exec(ctx, `update messages set body = body || '!' where id = (select id from messages where conversation = $1 limit 1)`, conversation)
					case 2:
						_, err = conn.Exec(ctx, `delete from messages where id = (select id from messages where conversation = $1 order by id limit 1)`, conversation)
					default:
						_, err = reads.CreateMessage(ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
							Parent: "conversations/" + conversation, Message: &messagesv1.Message{Author: "rpc", Body: "hi"},
						}))
					}
					if err != nil {
						return fmt.Errorf("writer %d: %w", writer, err)
					}
				}
				return nil
			})
		}
		frozen := f.feeds[round%3]
		frozen.Pause()
		err := group.Wait()
		frozen.Resume()
		require.NoError(t, err)
		requireConverged(t, ctx, conn, mirrors)
	}
	var left int
	require.NoError(t, conn.QueryRow(ctx, `select count(*) from messages`).Scan(&left))
	require.Positive(t, left)
}
