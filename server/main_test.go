package server_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// running is a server as users start it.
type running struct {
	url  string
	ctx  context.Context
	node *server.Node
	stop func() error // ends Run and returns what it returned; may be repeated
	http *http.Client // HTTP/2 without TLS
}

// start runs a server on a database, with the read audit on, and returns once
// it is ready. It serves messages unless changed.
func start(t *testing.T, database string, change func(*live.Config)) *running {
	t.Helper()
	r, ready, failed := launch(t, database, change)
	select {
	case r.url = <-ready:
	case err := <-failed:
		require.FailNow(t, "the server did not start", "%v", err)
	case <-r.ctx.Done():
		require.FailNow(t, "the server did not get ready")
	}
	// The end of a quarantine tells every topic: nothing that a test did.
	live.Settled(t, r.node)
	return r
}

func launch(t *testing.T, database string, change func(*live.Config)) (_ *running, ready <-chan string, failed <-chan error) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	s, ready, failed := live.Launch(t, database, func(c *live.Config) {
		c.AuditReads = intercept.AuditAll
		c.MaxWait = 20 * time.Second // whoever waits for it fails on its own deadline
		c.MaxSettle = 20 * time.Second
		if change != nil {
			change(c)
		}
	})
	t.Cleanup(transport.CloseIdleConnections)
	return &running{ctx: testkit.Context(t), node: s.Node, http: &http.Client{Transport: transport}, stop: s.Stop}, ready, failed
}

// refused runs a node to the error that it ends with.
func refused(t *testing.T, cfg server.Config) error {
	t.Helper()
	cfg = live.MessageConfig(cfg)
	cfg.Logger = testkit.Logger(t)
	node, err := server.New(cfg)
	require.NoError(t, err)
	return node.Run(testkit.Context(t))
}

func (r *running) client(options ...connect.ClientOption) messagesv1connect.MessageServiceClient {
	return messagesv1connect.NewMessageServiceClient(r.http, r.url, options...)
}

// request is a request at-least rev, or a strong one when it is zero.
func request[T any](message *T, rev freshet.Revision) *connect.Request[T] {
	req := connect.NewRequest(message)
	if !rev.IsZero() {
		req.Header().Set(intercept.HeaderAtLeast, rev.String())
	}
	return req
}

// stamp returns the revision of an answer.
func stamp(t *testing.T, header http.Header) freshet.Revision {
	t.Helper()
	rev, err := freshet.ParseRevision(header.Get(intercept.HeaderRevision))
	require.NoError(t, err, "stamp of %v", header)
	return rev
}

// errorStamp returns the revision of an error of that code.
func errorStamp(t *testing.T, code connect.Code, err error) freshet.Revision {
	t.Helper()
	return stamp(t, requireCode(t, code, err).Meta())
}

func requireCode(t *testing.T, code connect.Code, err error) *connect.Error {
	t.Helper()
	var cerr *connect.Error
	require.ErrorAs(t, err, &cerr)
	require.Equal(t, code, cerr.Code(), cerr.Error())
	return cerr
}

// follow subscribes and returns what comes after ready, without a throttle.
func (r *running) follow(t *testing.T, topics ...string) <-chan client.Invalidate {
	t.Helper()
	// Keep-alive connections of its own, so that goleak sees them closed.
	transport := new(http.Transport)
	c, err := client.New(r.url, client.WithHTTPClient(&http.Client{Transport: transport}))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(r.ctx)
	events := make(chan client.Invalidate, 4096)
	ready := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Stream(ctx, topics, func(e client.Event) error {
			switch e := e.(type) {
			case client.Ready:
				close(ready)
			case client.Invalidate:
				events <- e
			}
			return nil
		}, client.WithThrottle(0))
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		transport.CloseIdleConnections()
	})
	receive(t, r.ctx, ready)
	return events
}

func receive[T any](t *testing.T, ctx context.Context, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-ctx.Done():
		require.FailNow(t, "timed out")
		panic("unreachable")
	}
}

// insert writes a message by SQL, as people do, and returns its name.
func insert(t *testing.T, ctx context.Context, conn *pgx.Conn, conversation string) string {
	t.Helper()
	var id string
	err := conn.QueryRow(ctx, `insert into messages (conversation, author, body) values ($1, 'sql', 'hi') returning id::text`, conversation).Scan(&id)
	require.NoError(t, err)
	return "conversations/" + conversation + "/messages/" + id
}
