package depths

import (
	"context"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/store"
)

// node is a server of the message service over some storage, live.
type node struct {
	database string
	url      string
	http     *http.Client

	discarded func() []Message // what was rolled back; nil: nothing
}

// serve starts a node, and returns once it is ready. It stops with the test.
func serve(t *testing.T, database string, storageOf func(*store.DB) storage) *node {
	t.Helper()
	ready := make(chan string, 1)
	s, err := server.New(server.Config{
		DatabaseURL: database,
		Addr:        "127.0.0.1:0",
		AuditReads:  intercept.AuditAll,
		MaxWait:     20 * time.Second, // whoever waits for it fails on its own deadline
		MaxSettle:   time.Millisecond, // some writes are settled by then; of others, the read waits
		Logger:      testkit.Logger(t),
		OnReady:     func(url string) { ready <- url },
	}, server.Service{
		Descriptor: messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"),
		Handler: func(db *store.DB, options ...connect.HandlerOption) (string, http.Handler) {
			return messagesv1connect.NewMessageServiceHandler(&service{storage: storageOf(db), newID: uuid.NewString}, options...)
		},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() { failed <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-failed)
	})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	n := &node{database: database, http: &http.Client{Transport: transport}}
	select {
	case n.url = <-ready:
	case err := <-failed:
		failed <- err
		require.FailNow(t, "the node did not start", "%v", err)
	case <-testkit.Context(t).Done():
		require.FailNow(t, "the node did not get ready")
	}
	return n
}
