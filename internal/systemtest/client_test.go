package systemtest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/intercept"
)

// clients are many clients of one server.
type clients struct {
	url      string
	streams  *http.Client // HTTP/1.1: a connection each
	messages messagesv1connect.MessageServiceClient
	freshet  *client.Client
	asked    *asked
}

// asked counts the requests at-least a revision.
type asked struct {
	mu        sync.Mutex
	requests  int
	different map[string]bool
}

func (a *asked) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests, a.different = 0, map[string]bool{}
}

func (a *asked) counts() (requests, different int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests, len(a.different)
}

// count sees every request as it leaves.
func (a *asked) count(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if rev := req.Header().Get(intercept.HeaderAtLeast); rev != "" {
			a.mu.Lock()
			a.requests++
			a.different[fmt.Sprint(rev, " ", req.Spec().Procedure, " ", req.Any())] = true
			a.mu.Unlock()
		}
		return next(ctx, req)
	}
}

func newClients(t testing.TB, url string) *clients {
	t.Helper()
	return newClientsVia(t, url, url)
}

// newClientsVia makes clients whose RPCs take a way of their own.
func newClientsVia(t testing.TB, url, rpcs string, interceptors ...connect.Interceptor) *clients {
	t.Helper()
	streams := transport(t, false)
	c, err := client.New(url, client.WithHTTPClient(streams), client.WithBackoff(50*time.Millisecond, time.Second))
	require.NoError(t, err)
	count := &asked{different: map[string]bool{}}
	return &clients{
		url: url, streams: streams, freshet: c, asked: count,
		messages: messagesv1connect.NewMessageServiceClient(transport(t, true), rpcs,
			connect.WithInterceptors(client.NewInterceptor(), connect.UnaryInterceptorFunc(count.count)),
			connect.WithInterceptors(interceptors...)),
	}
}

func topicOf(conversation string) string { return "conversations/" + conversation + "/messages" }

// list reads a conversation, at-least rev or strongly when it is zero.
func (c *clients) list(ctx context.Context, conversation string, rev freshet.Revision) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	return c.messages.ListMessages(client.AtLeast(client.Strong(ctx), rev),
		connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/" + conversation, PageSize: 1000}))
}

// create writes by RPC.
func (c *clients) create(ctx context.Context, conversation, body string) (string, client.Stamp, error) {
	var stamp client.Stamp
	resp, err := c.messages.CreateMessage(client.CaptureStamp(ctx, &stamp), connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/" + conversation, Message: &messagesv1.Message{Author: "rpc", Body: body},
	}))
	if err != nil {
		return "", stamp, err
	}
	return resp.Msg.GetMessage().GetName(), stamp, nil
}

// mirror is a client that keeps one conversation on its screen, by the client
// rule.
type mirror struct {
	name         string
	conversation string
	query        *client.Query[messagesv1.ListMessagesRequest, messagesv1.ListMessagesResponse]
}

// mirror starts one; it runs until the test's end.
func (c *clients) mirror(t testing.TB, name, conversation string) *mirror {
	t.Helper()
	query, err := client.NewQuery(c.freshet, c.messages.ListMessages,
		&messagesv1.ListMessagesRequest{Parent: "conversations/" + conversation, PageSize: 1000})
	require.NoError(t, err)
	m := &mirror{name: name, conversation: conversation, query: query}
	background(t, func(ctx context.Context) { _ = m.query.Run(ctx) })
	return m
}

// background runs f until the test's end.
func background(t testing.TB, f func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// rows of an answer, as `id body`.
func rows(answer *messagesv1.ListMessagesResponse) []string {
	out := []string{}
	for _, m := range answer.GetMessages() {
		out = append(out, m.GetName()+" "+m.GetBody())
	}
	return out
}

// truth is what Postgres holds. (`only` tells these statements from the
// server's.)
func truth(ctx context.Context, conn *pgx.Conn, conversation string) ([]string, error) {
	result, err := conn.Query(ctx, `select 'conversations/' || conversation || '/messages/' || id || ' ' || body
		from only messages where conversation = $1 order by create_time desc, id desc limit 1000`, conversation)
	if err != nil {
		return nil, err
	}
	out, err := pgx.CollectRows(result, pgx.RowTo[string])
	if out == nil {
		out = []string{}
	}
	return out, err
}

// converges waits until the mirror says that it is fresh and holds want; the
// error has the difference.
func (m *mirror) converges(ctx context.Context, want []string) error {
	var last client.Snapshot[messagesv1.ListMessagesResponse]
	for s := range m.query.Changes(ctx) {
		last = s
		if s.Fresh && s.Err == nil && cmp.Equal(want, rows(s.Value)) {
			return nil
		}
	}
	return fmt.Errorf("%s (fresh %v, at %v, error %v) differs from Postgres (-Postgres +client):\n%s",
		m.name, last.Fresh, last.Revision, fmt.Sprint(last.Err), cmp.Diff(want, rows(last.Value)))
}

// requireConverged holds every mirror against Postgres (G3).
func requireConverged(t testing.TB, ctx context.Context, conn *pgx.Conn, mirrors []*mirror) {
	t.Helper()
	var all error
	for _, m := range mirrors {
		want, err := truth(ctx, conn, m.conversation)
		require.NoError(t, err)
		all = errors.Join(all, m.converges(ctx, want))
	}
	require.NoError(t, all)
}

// listener records what a stream tells.
type listener struct {
	mu sync.Mutex // guards all below
	heard
	fault   string        // a broken promise
	gone    time.Time     // since when there has been no stream
	changed chan struct{} // closed at the next event
}

// heard is what a listener has heard so far.
type heard struct {
	told      map[string]freshet.Revision // topics, and the highest revision of each
	notices   int
	revisions map[freshet.Revision]bool // of notices: a long list comes in parts
	resets    []client.Reset
	lags      []time.Duration
	ready     []freshet.Revision // one per connection
	last      freshet.Revision   // the highest id
	ends      []client.Disconnected
	at        []time.Time     // of ends
	back      []time.Duration // from the first end to the next ready
}

// now is a copy.
func (l *listener) now() heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.heard
	h.ends, h.at, h.back = slices.Clone(h.ends), slices.Clone(h.at), slices.Clone(h.back)
	h.told, h.revisions = maps.Clone(h.told), maps.Clone(h.revisions)
	return h
}

// listen follows topics until the test's end. onInvalidate is called before the
// listener counts a notice; it may be nil.
func (c *clients) listen(t testing.TB, topics []string, onInvalidate func(context.Context, client.Invalidate), opts ...client.StreamOption) *listener {
	t.Helper()
	l := &listener{
		heard:   heard{told: map[string]freshet.Revision{}, revisions: map[freshet.Revision]bool{}},
		changed: make(chan struct{}),
	}
	background(t, func(ctx context.Context) {
		_ = c.freshet.Stream(ctx, topics, func(e client.Event) error {
			if e, ok := e.(client.Invalidate); ok && onInvalidate != nil {
				onInvalidate(ctx, e)
			}
			l.hear(e)
			return nil
		}, opts...)
	})
	return l
}

func (l *listener) hear(e client.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	advance := func(rev freshet.Revision) {
		if rev.Less(l.last) {
			l.fault = fmt.Sprintf("%T went back from %v to %v", e, l.last, rev)
		}
		l.last = rev
	}
	switch e := e.(type) {
	case client.Invalidate:
		l.notices++
		l.revisions[e.Revision] = true
		advance(e.Revision)
		for _, topic := range e.Topics {
			l.told[topic] = e.Revision
		}
	case client.Reset:
		l.resets = append(l.resets, e)
		advance(e.Revision)
	case client.Disconnected:
		l.ends, l.at = append(l.ends, e), append(l.at, time.Now())
		if l.gone.IsZero() {
			l.gone = time.Now()
		}
	case client.Ready:
		if !l.gone.IsZero() {
			l.back, l.gone = append(l.back, time.Since(l.gone)), time.Time{}
		}
		l.ready = append(l.ready, e.Revision)
		advance(e.Revision)
	case client.Frontier:
		l.lags = append(l.lags, e.Lag)
		advance(e.Revision)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// await waits until the listener has heard enough; enough may read its fields.
func (l *listener) await(t testing.TB, ctx context.Context, what string, enough func() bool) {
	t.Helper()
	for {
		l.mu.Lock()
		done, changed, fault := enough(), l.changed, l.fault
		l.mu.Unlock()
		require.Empty(t, fault)
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			require.FailNow(t, "a listener waited in vain for: "+what)
		}
	}
}
