package check_test

import (
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// A crash may take back what the server committed asynchronously. If that is the
// deletion of a row, the row is there again, as it was: so a row that the server
// deleted is never made anew, or there would be two. (A run of ten minutes accused
// a server wrongly that way.)
func TestWriter_deletedRowIsNotMadeAgain(t *testing.T) {
	n := newNode(t, none)
	n.world.lifetime = 1000 // a mutation over the end of an epoch fails
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	messages := messagesv1connect.NewMessageServiceClient(&http.Client{Transport: transport}, n.url, connect.WithInterceptors(client.NewInterceptor()))
	gone := map[int]bool{}
	deletions := 0
	for _, w := range check.WriteByRPC(t.Context(), messages, []string{"check-w-0", "check-w-1"}, 300) {
		require.Equal(t, check.Committed, w.Outcome)
		for _, c := range w.Changes {
			require.False(t, gone[c.Row], "%v", c)
			if c.To == "" {
				gone[c.Row] = true
				deletions++
			}
		}
	}
	require.Positive(t, deletions)
}
