package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/client"
	orgsv1 "github.com/freshet-dev/freshet/internal/testkit/orgs/gen/orgs/v1"
	"github.com/freshet-dev/freshet/internal/testkit/orgs/gen/orgs/v1/orgsv1connect"
)

// office is a server whose callers' tokens are their organizations. Each may follow
// its own; what it is asked it answers once it is let.
type office struct {
	orgsv1connect.UnimplementedNoteServiceHandler

	asked   chan string // who, before it waits
	answers chan struct{}
	refused chan string // who a stream was refused to
	cut     chan struct{}
}

func (o *office) ListNotes(ctx context.Context, req *connect.Request[orgsv1.ListNotesRequest]) (*connect.Response[orgsv1.ListNotesResponse], error) {
	org := req.Header().Get("Authorization")[len("Bearer "):]
	o.asked <- org
	select {
	case <-o.answers:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	resp := connect.NewResponse(&orgsv1.ListNotesResponse{Notes: []*orgsv1.Note{{Id: 7, Text: "of " + org}}})
	resp.Header().Set("Freshet-Revision", "00000001-0000000000000010")
	resp.Header().Set("Freshet-Principal", "org_id="+org)
	return resp, nil
}

func (o *office) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	org := r.Header.Get("Authorization")[len("Bearer "):]
	for _, topic := range r.URL.Query()["topic"] {
		if topic != "orgs/"+org+"/notes" && topic != "orgs/"+org+"/notes/7/tags" {
			w.WriteHeader(http.StatusForbidden)
			o.refused <- org
			return
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 10\n\nevent: ready\nid: 00000001-0000000000000010\ndata: {\"revision\":\"00000001-0000000000000010\",\"topics\":2,\"heartbeat_ms\":15000}\n\n")
	_ = http.NewResponseController(w).Flush()
	select {
	case <-o.cut:
	case <-r.Context().Done():
	}
}

// G3, G8: a stream comes back with another token, whose caller may not follow what the
// one before did. It is refused before anything is read again; the query goes on as the
// other caller all the same.
func TestQuery_G3_refusedToAnother(t *testing.T) {
	o := &office{asked: make(chan string, 10), answers: make(chan struct{}, 10), refused: make(chan string, 10), cut: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle(orgsv1connect.NewNoteServiceHandler(o))
	mux.Handle("/events", o)
	server := httptest.NewServer(mux)
	defer server.Close()
	var token atomic.Value
	token.Store("acme")
	c, err := client.New(server.URL, client.WithBackoff(time.Millisecond, time.Millisecond),
		client.WithTokenSource(func(context.Context) (string, error) { return token.Load().(string), nil }))
	require.NoError(t, err)
	notes := orgsv1connect.NewNoteServiceClient(http.DefaultClient, server.URL, connect.WithInterceptors(c.Interceptor()))
	q, err := client.NewQuery(c, notes.ListNotes, new(orgsv1.ListNotesRequest))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	shows := func(text string) {
		t.Helper()
		for s := range q.Changes(ctx) {
			if s.Fresh && s.Value.GetNotes()[0].GetText() == text {
				break
			}
		}
		require.NoError(t, ctx.Err(), text)
	}
	require.Equal(t, "acme", <-o.asked)
	o.answers <- struct{}{}
	shows("of acme")

	token.Store("globex")
	o.cut <- struct{}{}
	require.Equal(t, "globex", <-o.refused)
	for range 3 { // whatever it asks as globex
		o.answers <- struct{}{}
	}
	shows("of globex")
	require.Equal(t, []string{"orgs/globex/notes", "orgs/globex/notes/7/tags"}, q.Topics())
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

// What says of nobody whose answer it is can't be followed, so it isn't shown.
func TestQuery_G2_withoutItsCaller(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Freshet-Revision", "00000001-0000000000000010")
		fmt.Fprint(w, "{}")
	}))
	defer server.Close()
	c, err := client.New(server.URL)
	require.NoError(t, err)
	notes := orgsv1connect.NewNoteServiceClient(http.DefaultClient, server.URL, connect.WithProtoJSON(), connect.WithInterceptors(c.Interceptor()))
	q, err := client.NewQuery(c, notes.ListNotes, new(orgsv1.ListNotesRequest))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	for s := range q.Changes(ctx) {
		require.False(t, s.Loaded())
		if s.StreamErr != nil {
			require.ErrorContains(t, s.StreamErr, "its claims org_id")
			break
		}
	}
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}
