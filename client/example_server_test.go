package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// conversation is the server of the examples: one conversation in memory, and
// its stream. (The real one is tested by internal/systemtest.)
type conversation struct {
	messagesv1connect.UnimplementedMessageServiceHandler
	mu      sync.Mutex
	list    []*messagesv1.Message
	changed chan struct{} // closed at the next change
}

const exampleTopic = "conversations/7/messages"

// serveExample returns the URL of a conversation of one message, and how to stop it.
func serveExample() (url string, stop func()) {
	c := &conversation{changed: make(chan struct{}), list: []*messagesv1.Message{{Body: "hello"}}}
	mux := http.NewServeMux()
	mux.Handle(messagesv1connect.NewMessageServiceHandler(c))
	mux.HandleFunc("/events", c.events)
	server := httptest.NewServer(mux)
	return server.URL, func() {
		server.CloseClientConnections()
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	}
}

// now returns the revision: a position for each message.
func (c *conversation) now() (freshet.Revision, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return freshet.Revision{Epoch: 10, Position: uint64(len(c.list))}, c.changed
}

func (c *conversation) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	rev, changed := c.now()
	fmt.Fprintf(w, "event: ready\nid: %s\ndata: {\"revision\":%q,\"topics\":1,\"heartbeat_ms\":15000}\n\n", rev, rev)
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
			rev, changed = c.now()
			fmt.Fprintf(w, "event: invalidate\nid: %s\ndata: {\"revision\":%q,\"topics\":[%q]}\n\n", rev, rev, exampleTopic)
		case <-r.Context().Done():
			return
		}
	}
}

func (c *conversation) ListMessages(_ context.Context, _ *connect.Request[messagesv1.ListMessagesRequest]) (
	*connect.Response[messagesv1.ListMessagesResponse], error,
) {
	rev, _ := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	resp := connect.NewResponse(&messagesv1.ListMessagesResponse{Messages: slices.Clone(c.list)})
	resp.Header().Set("Freshet-Revision", rev.String())
	return resp, nil
}

func (c *conversation) CreateMessage(_ context.Context, req *connect.Request[messagesv1.CreateMessageRequest]) (
	*connect.Response[messagesv1.CreateMessageResponse], error,
) {
	c.mu.Lock()
	c.list = append(c.list, req.Msg.GetMessage())
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	rev, _ := c.now()
	resp := connect.NewResponse(&messagesv1.CreateMessageResponse{Message: req.Msg.GetMessage()})
	resp.Header().Set("Freshet-Revision", rev.String())
	resp.Header().Set("Freshet-Topics", "conversations%2F7%2Fmessages")
	return resp, nil
}
