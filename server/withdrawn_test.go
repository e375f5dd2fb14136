package server_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// F18: a grant is withdrawn while streams are open: those who had it are cut within a
// second and told nothing more, over each transport; others stay.
func TestAuthorize_F18_grantIsWithdrawn(t *testing.T) {
	g := startGranted(t, testkit.Migrated(t))
	const topic = "conversations/one/messages"
	events := func(who, throttle string, client *http.Client) (lines <-chan string) {
		req, err := http.NewRequestWithContext(g.ctx, http.MethodGet, g.url+"/events?throttle="+throttle+"&topic="+topic, nil)
		require.NoError(t, err)
		identity(who).set(req.Header)
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		told := make(chan string, 100)
		go func() {
			defer close(told)
			defer resp.Body.Close()
			scanner := bufio.NewScanner(resp.Body)
			for scanner.Scan() {
				if event, ok := strings.CutPrefix(scanner.Text(), "event: "); ok {
					told <- event
				}
			}
			if err := scanner.Err(); err != nil { // it didn't end in good order
				told <- err.Error()
			}
		}()
		require.Equal(t, "ready", receive(t, g.ctx, told))
		return told
	}
	// The throttle of what is to be cut doesn't hold that up.
	taken, h2, kept := events("bob", "10000", g.http), events("bob", "10000", g.h2), events("mod", "0", g.http)
	watch, err := freshetv1connect.NewInvalidationServiceClient(g.h2, g.url, connect.WithGRPC(), connect.WithInterceptors(identity("bob"))).
		Watch(g.ctx, connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{topic}}))
	require.NoError(t, err)
	defer watch.Close()
	require.True(t, watch.Receive(), "ready")
	conn := testkit.Conn(t, g.bare.database)
	insert(t, g.ctx, conn, "one")
	for _, told := range []<-chan string{taken, h2, kept} {
		require.Equal(t, "invalidate", receive(t, g.ctx, told))
	}
	require.True(t, watch.Receive())

	began := time.Now()
	g.write(t, "rules: [{when: claims.role == 'moderator', read: ['**']}]")
	for _, told := range []<-chan string{taken, h2} {
		require.Equal(t, "end", receive(t, g.ctx, told))
		if event, more := <-told; more {
			require.Fail(t, "it was told "+event)
		}
	}
	require.False(t, watch.Receive())
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(watch.Err()))
	require.Less(t, time.Since(began), time.Second)
	insert(t, g.ctx, conn, "one")
	require.Equal(t, "invalidate", receive(t, g.ctx, kept))
	resp, _ := g.send(t, "bob", http.MethodGet, "/events?topic="+topic, "", nil)
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
	_, _ = io.Copy(io.Discard, resp.Body)
}
