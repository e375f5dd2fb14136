package systemtest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/intercept"
)

// F86, F3, G4, G6: a standby that lacks the last commits is promoted, under two
// programs that know both servers, with clients that have seen those commits, and read
// all the while. The old primary is killed; or it stays up, and others go on writing
// there. A new epoch begins, everybody is told, and nobody keeps what is gone: not the
// clients, nor what the programs had kept, nor a validator of a GET. No answer of the
// new epoch is of the old primary.
func TestFailover_F86_lostCommits(t *testing.T) {
	t.Parallel()
	for name, dies := range map[string]bool{"killed": true, "stays up": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testLostCommits(t, dies)
		})
	}
}

func testLostCommits(t *testing.T, dies bool) {
	t.Helper()
	ctx := testkit.Context(t)
	postgres := testkit.NewServer(t, nil)
	database := postgres.Migrated(t)
	standby := postgres.Standby(t)
	promoted := standby.URL(t, database)
	nodes := startNodes(t, program(t), withStandby(t, database, standby), 2)
	writer := newClients(t, nodes[0].url)
	_, _, err := writer.create(ctx, "7", "kept")
	require.NoError(t, err)
	there := testkit.Conn(t, promoted)
	require.Eventually(t, func() bool {
		have, err := truth(ctx, there, "7")
		return err == nil && len(have) == 1
	}, time.Minute, time.Millisecond)
	standby.Detach(t)

	_, stamp, err := writer.create(ctx, "7", "phantom")
	require.NoError(t, err)
	old := stamp.Revision
	var mirrors []*mirror
	var listeners []*listener
	var judges []*judge
	for _, n := range nodes {
		c := newClients(t, n.url)
		m := c.mirror(t, n.url, "7")
		shows(t, ctx, m, 2)
		l := c.listen(t, []string{topicOf("7")}, nil)
		l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
		j := &judge{old: old.Epoch}
		background(t, func(ctx context.Context) { j.read(ctx, c) })
		mirrors, listeners, judges = append(mirrors, m), append(listeners, l), append(judges, j)
	}
	status, tag, body := getList(t, nodes[1].url, "7", old, "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "phantom")

	if dies {
		postgres.Kill()
	}
	standby.Promote(t)
	if !dies {
		testkit.Exec(t, database, `insert into messages (conversation, author, body) values ('7', 'sql', 'phantom too')`)
	}
	for _, l := range listeners {
		l.await(t, ctx, "a reset", func() bool { return len(l.resets) > 0 })
		require.Greater(t, l.now().resets[0].Revision.Epoch, old.Epoch)
	}
	testkit.Exec(t, promoted, `insert into messages (conversation, author, body) values ('7', 'sql', 'after')`)
	requireConverged(t, ctx, testkit.Conn(t, promoted), mirrors)
	for i, n := range nodes {
		c := newClients(t, n.url)
		_, err := c.list(ctx, "7", old)
		require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err), "a revision of the old epoch: %v", err)
		status, _, body := getList(t, n.url, "7", freshet.Revision{}, tag)
		require.Equal(t, http.StatusOK, status)
		require.NotContains(t, body, "phantom")
		require.Contains(t, body, "after")
		require.Eventually(t, func() bool { return judges[i].later.Load() > 10 }, time.Minute, time.Millisecond)
		require.Empty(t, judges[i].fault.Load())
		require.Len(t, listeners[i].now().resets, 1, "one for the failover")
	}
	_, _, err = writer.create(ctx, "7", "written on")
	require.NoError(t, err)
	requireConverged(t, ctx, testkit.Conn(t, promoted), mirrors)
}

// A primary that hangs, with calls under way, and a standby that is promoted in its place:
// those calls end, and others are served, when the node has gone over. Not when they
// have waited for as long as a call may: the list that hangs is what clients refetch.
func TestFailover_callsOfTheOldPrimary(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	postgres := testkit.NewServer(t, nil)
	database := postgres.Migrated(t)
	standby := postgres.Standby(t)
	promoted := standby.URL(t, database)
	node := startNodes(t, program(t), withStandby(t, database, standby), 1)[0]
	c := newClients(t, node.url)
	_, _, err := c.create(ctx, "7", "kept")
	require.NoError(t, err)
	there := testkit.Conn(t, promoted)
	require.Eventually(t, func() bool {
		have, err := truth(ctx, there, "7")
		return err == nil && len(have) == 1
	}, time.Minute, time.Millisecond)

	holder := testkit.Conn(t, database)
	_, err = holder.Exec(ctx, `begin; lock table messages in access exclusive mode`)
	require.NoError(t, err)
	var calls sync.WaitGroup
	calls.Go(func() { _, _ = c.list(ctx, "7", freshet.Revision{}) })
	for i := range 10 { // more than there are connections
		calls.Go(func() { _, _ = c.list(ctx, strconv.Itoa(100+i), freshet.Revision{}) })
		calls.Go(func() { _, _, _ = c.create(ctx, "8", "hangs") })
	}
	looker := testkit.Conn(t, database)
	require.Eventually(t, func() bool {
		var waiting int
		err := looker.QueryRow(ctx, `select count(*) from pg_stat_activity where application_name = 'freshet' and wait_event_type = 'Lock'`).Scan(&waiting)
		return err == nil && waiting >= 4
	}, time.Minute, 10*time.Millisecond)
	postgres.Freeze(t)
	standby.Promote(t)
	began := time.Now()

	require.Eventually(t, func() bool {
		if _, err := c.list(ctx, "7", freshet.Revision{}); err != nil {
			return false
		}
		_, _, err := c.create(ctx, "7", "after")
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	calls.Wait()
	t.Logf("served after %v", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), 20*time.Second, "less than the 30 s that a call may take")
}

// withStandby is a URL that names a server, of another URL, and its standby.
func withStandby(t testing.TB, database string, standby *testkit.Standby) string {
	t.Helper()
	at, err := url.Parse(database)
	require.NoError(t, err)
	q := at.Query()
	return testkit.WithParam(t, testkit.WithParam(t, testkit.WithParam(t, database,
		"host", q.Get("host")+","+standby.Host()), "port", q.Get("port")+","+standby.Port()), "target_session_attrs", "read-write")
}

// getList reads a conversation by GET.
func getList(t testing.TB, node, conversation string, atLeast freshet.Revision, tag string) (status int, etag, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, node+messagesv1connect.MessageServiceListMessagesProcedure+
		"?connect=v1&encoding=json&message="+url.QueryEscape(fmt.Sprintf(`{"parent":"conversations/%s"}`, conversation)), http.NoBody)
	require.NoError(t, err)
	if !atLeast.IsZero() {
		req.Header.Set(intercept.HeaderAtLeast, atLeast.String())
	}
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	resp, err := transport(t, false).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header.Get("ETag"), string(text)
}

// judge reads conversation 7 at one node without end, strongly and at-least what it has
// read, and holds each answer against its stamp.
type judge struct {
	old   freshet.Epoch
	later atomic.Int64 // answers of a later epoch
	fault atomic.Value // string
}

func (j *judge) read(ctx context.Context, c *clients) {
	var last freshet.Revision
	for strong := true; ctx.Err() == nil; strong = !strong {
		rev := last
		if strong {
			rev = freshet.Revision{}
		}
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		resp, err := c.list(bounded, "7", rev)
		cancel()
		if err != nil {
			last = freshet.Revision{}
			select {
			case <-time.After(20 * time.Millisecond): // it would be asked all the time
			case <-ctx.Done():
			}
			continue
		}
		header := resp.Header().Get(intercept.HeaderRevision)
		if header == "" { // a strong read without a feed: no claim, so nothing to judge
			continue
		}
		stamp, err := freshet.ParseRevision(header)
		if err == nil {
			last = stamp
		}
		has := func(body string) bool {
			return slices.ContainsFunc(resp.Msg.GetMessages(), func(m *messagesv1.Message) bool { return strings.HasPrefix(m.GetBody(), body) })
		}
		switch {
		case err != nil:
			j.fault.CompareAndSwap(nil, err.Error())
		case stamp.Epoch > j.old:
			j.later.Add(1)
			if has("phantom") || !has("kept") {
				j.fault.CompareAndSwap(nil, fmt.Sprintf("stamped %v, and of the old primary: %v", stamp, rows(resp.Msg)))
			}
		case has("after"):
			j.fault.CompareAndSwap(nil, fmt.Sprintf("stamped %v, and of the new primary: %v", stamp, rows(resp.Msg)))
		}
	}
}
