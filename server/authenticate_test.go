package server_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/messages"
)

// A handler that somebody forgot to wrap answers nobody, with the best of tokens
// too, and the log says what to do. What the node hands out is wrapped (G8).
func TestProtect_forgotten(t *testing.T) {
	log := new(testkit.Buffer)
	asked := 0
	b := embed(t, server.Config{
		DatabaseURL: testkit.Migrated(t),
		Authenticate: func(r *http.Request) (server.Principal, error) {
			asked++ // requests come one after the other
			if r.Header.Get("Test-User") == "" {
				return server.Principal{}, connect.NewError(connect.CodeUnauthenticated, errors.New("who?"))
			}
			return server.Principal{Subject: r.Header.Get("Test-User")}, nil
		},
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	}).live(t)
	open := httptest.NewUnstartedServer(nil)
	_, open.Config.Handler = messages.Handler(b.node.DB(), b.node.HandlerOptions()...)
	open.Config.Protocols = new(http.Protocols)
	open.Config.Protocols.SetHTTP1(true)
	open.Config.Protocols.SetUnencryptedHTTP2(true)
	open.Start()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(func() { transport.CloseIdleConnections(); open.Close() })
	h2 := &http.Client{Transport: transport}

	list := func(at, who string, options ...connect.ClientOption) error {
		if who != "" {
			options = append(options, connect.WithInterceptors(identity(who)))
		}
		client := messagesv1connect.NewMessageServiceClient(h2, at, options...)
		_, err := client.ListMessages(b.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/1"}, freshet.Revision{}))
		return err
	}
	for _, options := range [][]connect.ClientOption{nil, {connect.WithHTTPGet()}, {connect.WithGRPC()}, {connect.WithGRPCWeb()}} {
		for _, who := range []string{"", "ada"} {
			asked = 0
			requireCode(t, connect.CodeInternal, list(open.URL, who, options...))
			require.Zero(t, asked)
		}
		requireCode(t, connect.CodeUnauthenticated, list(b.url, "", options...))
		asked = 0
		require.NoError(t, list(b.url, "ada", options...))
		require.Equal(t, 1, asked)
	}
	require.Equal(t, 1, strings.Count(log.String(), "Node.Protect"), log.String())

	resp, err := b.http.Get(b.url + "/events?topic=messages") //nolint:noctx // of a test that ends
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	stream, err := freshetv1connect.NewInvalidationServiceClient(h2, b.url).Watch(b.ctx, connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{"messages"}}))
	require.NoError(t, err)
	require.False(t, stream.Receive())
	requireCode(t, connect.CodeUnauthenticated, stream.Err())
	require.NoError(t, stream.Close())
}
