package depths

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

// node is a server of the message service over some storage, live.
type node struct {
	database string
	url      string
	http     *http.Client

	discarded func() []Message // what was rolled back; nil: nothing
}

// serve starts a node, and returns once it is ready. It stops with the test.
func serve(t *testing.T, database string, storageOf func(*server.Node) storage, change ...func(*live.Config)) *node {
	t.Helper()
	s := live.Start(t, database, func(c *live.Config) {
		c.AuditReads = intercept.AuditAll
		c.MaxWait = 20 * time.Second   // whoever waits for it fails on its own deadline
		c.MaxSettle = time.Millisecond // some writes are settled by then; of others, the read waits
		c.Handler = func(node *server.Node) (string, http.Handler) {
			return messagesv1connect.NewMessageServiceHandler(&service{storage: storageOf(node), newID: uuid.NewString}, node.HandlerOptions()...)
		}
		for _, f := range change {
			f(c)
		}
	})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &node{database: database, url: s.URL, http: &http.Client{Transport: transport}}
}
