package check_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/server/messages/workload"
)

// A crash may take back what the server committed asynchronously. If that is the
// deletion of a row, the row is there again, as it was: so a row that the server
// deleted is never made anew, or there would be two. (A run of ten minutes accused
// a server wrongly that way.)
func TestWriter_deletedRowIsNotMadeAgain(t *testing.T) {
	n := newNode(t, none)
	n.world.lifetime = 1000 // no failover takes rows away
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	gone := map[int]bool{}
	deletions := 0
	writes, err := check.WriteByRPC(t.Context(), workload.Messages(), &http.Client{Transport: transport}, n.url, []string{"check-w-0", "check-w-1"}, 300)
	require.NoError(t, err)
	for _, w := range writes {
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
