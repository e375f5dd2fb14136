package server_test

import (
	"context"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/messages"
)

// slowly serves messages, but for lists, each of which says that it is under way
// and then waits.
type slowly struct {
	messagesv1connect.MessageServiceHandler
	underWay chan struct{}
	release  chan struct{}
}

func (s slowly) ListMessages(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	s.underWay <- struct{}{}
	select {
	case <-s.release:
	case <-ctx.Done():
	}
	return s.MessageServiceHandler.ListMessages(ctx, req)
}

// byName has the name that a request carries stand for who sent it.
func byName(r *http.Request) (server.Principal, error) {
	return server.Principal{Issuer: "test", Subject: r.Header.Get("X-Name")}, nil
}

// busy is a server whose lists take as long as the test wants.
type busy struct {
	*running
	t       *testing.T
	service slowly
	ended   chan error
}

func startBusy(t *testing.T, change func(*live.Config)) *busy {
	t.Helper()
	b := &busy{t: t, service: slowly{underWay: make(chan struct{}), release: make(chan struct{})}, ended: make(chan error, 10)}
	b.running = start(t, testkit.Migrated(t), func(c *live.Config) {
		c.Authenticate = byName
		c.Handler = func(node *server.Node) (string, http.Handler) {
			b.service.MessageServiceHandler = messages.New(node.DB())
			return messagesv1connect.NewMessageServiceHandler(b.service, node.HandlerOptions()...)
		}
		change(c)
	})
	return b
}

func (b *busy) call(name, conversation string, options ...connect.ClientOption) error {
	req := connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/" + conversation})
	req.Header().Set("X-Name", name)
	_, err := b.client(options...).ListMessages(b.ctx, req)
	return err
}

// begin returns when a call is under way.
func (b *busy) begin(name, conversation string) {
	b.t.Helper()
	go func() { b.ended <- b.call(name, conversation) }()
	select {
	case <-b.service.underWay:
	case err := <-b.ended:
		require.FailNow(b.t, "it ended", "%v", err)
	}
}

func (b *busy) refused(code connect.Code, err error) {
	b.t.Helper()
	var said *connect.Error
	require.ErrorAs(b.t, err, &said)
	require.Equal(b.t, code, said.Code())
	require.Equal(b.t, "1", said.Meta().Get("Retry-After"))
}

// finish lets n calls end, which have to succeed.
func (b *busy) finish(n int) {
	b.t.Helper()
	close(b.service.release)
	for range n {
		require.NoError(b.t, <-b.ended, "what was under way is answered")
	}
}

var everyProtocol = [][]connect.ClientOption{nil, {connect.WithProtoJSON(), connect.WithHTTPGet()}, {connect.WithGRPC()}, {connect.WithGRPCWeb()}}

// One principal, and all of them, have so many calls under way, and no more: whoever is
// above is told when to come back, in the form of its protocol, and what is under way
// isn't touched. Streams don't count, and have a bound of their own.
func TestRun_requestsAreBounded(t *testing.T) {
	b := startBusy(t, func(c *live.Config) {
		c.MaxRequests, c.MaxRequestsPerPrincipal, c.MaxStreamsPerPrincipal = 3, 2, 1
	})
	b.begin("ada", "a")
	b.begin("ada", "b")
	for _, options := range everyProtocol {
		b.refused(connect.CodeResourceExhausted, b.call("ada", "c", options...))
	}
	b.begin("bob", "d")
	b.refused(connect.CodeResourceExhausted, b.call("ada", "e"))
	for _, options := range everyProtocol {
		b.refused(connect.CodeUnavailable, b.call("eve", "e", options...))
	}
	w := wire{t: t, base: b.url, http: b.http}
	until(w.open(http.MethodGet, events("messages"), "", "X-Name", "ada"), "ready")
	a := w.do(http.MethodGet, events("messages"), "", "X-Name", "ada")
	require.Equal(t, http.StatusTooManyRequests, a.status)
	require.Equal(t, "1", a.header.Get("Retry-After"))
	until(w.open(http.MethodGet, events("messages"), "", "X-Name", "bob"), "ready")
	b.finish(3)
	b.begin("ada", "f") // there is room again
	require.NoError(t, <-b.ended)
}

// The same of one address, whoever they say they are, before anybody asks. Health is
// never refused.
func TestRun_requestsOfAnAddressAreBounded(t *testing.T) {
	b := startBusy(t, func(c *live.Config) {
		c.Front.MaxRequestsPerAddress = 2
		c.Authenticate = func(r *http.Request) (server.Principal, error) {
			if r.Header.Get("X-Name") == "mallory" {
				t.Error("somebody asked who calls")
			}
			return byName(r)
		}
	})
	b.begin("ada", "a")
	b.begin("bob", "b")
	for _, options := range everyProtocol {
		b.refused(connect.CodeResourceExhausted, b.call("mallory", "c", options...))
	}
	resp, err := b.http.Get(b.url + "/healthz")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	w := wire{t: t, base: b.url, http: b.http}
	until(w.open(http.MethodGet, events("messages"), "", "X-Name", "ada"), "ready")
	b.finish(2)
	b.begin("ada", "f")
	require.NoError(t, <-b.ended)
}
