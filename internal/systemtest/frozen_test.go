package systemtest_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// placed is a transport that notes which node answered last, as the balancer says.
type placed struct {
	http.RoundTripper
	at atomic.Value // string
}

func (p *placed) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := p.RoundTripper.RoundTrip(req)
	if err == nil {
		p.at.Store(resp.Header.Get("X-Served-By"))
	}
	return resp, err
}

// F37: HAProxy, as docs/deploy.md has it, cuts the streams of a node that is silent, long
// before its clients notice by two and a half heartbeats; and of no other: one that says
// itself that it isn't ready keeps its streams, and one that stops ends them in its own
// time, with a goodbye.
func TestBalancer_F37_frozen(t *testing.T) {
	t.Parallel()
	binary, ctx := program(t), testkit.Context(t)
	database := testkit.Migrated(t)
	feed := testkit.NewProxy(t, database)
	nodes, servers := map[string]*child{}, new(strings.Builder)
	for _, name := range []string{"frozen", "stale", "stops", "well"} {
		admin := live.FreeAddr(t)
		_, port, err := net.SplitHostPort(admin)
		require.NoError(t, err)
		flags := []string{"--heartbeat=15s", "--max-lag=1s", "--drain=10s", "--admin-addr", admin}
		if name == "stale" {
			flags = append(flags, "--capture-url", feed.URL())
		}
		n := serveChild(t, binary, database, "freshet", flags...)
		nodes[name] = n
		fmt.Fprintf(servers, "    server %s %s port %s\n", name, strings.TrimPrefix(n.url, "http://"), port)
	}
	const told = "    server one 127.0.0.1:8080 port 9090\n    server two 127.0.0.1:8081 port 18081\n"
	several := severalBehind(t, "haproxy")
	require.Contains(t, several, told)
	config := strings.NewReplacer(
		told, servers.String()+"    use-server stops if { req.hdr(x-to) stops }\n",
		"frontend public\n", "frontend public\n    http-response set-header X-Served-By %s\n",
	).Replace(several)
	front, _ := testkit.NewWebProxy(t, "haproxy", strings.TrimPrefix(nodes["well"].url, "http://"), config)

	type stream struct {
		*listener
		was  string
		over *placed
	}
	streams, of := make([]stream, 32), map[string]int{}
	for i := range streams {
		h := transport(t, false)
		over := &placed{RoundTripper: h.Transport}
		c, err := client.New("http://"+front, client.WithHTTPClient(&http.Client{Transport: over}), client.WithBackoff(time.Millisecond, time.Second))
		require.NoError(t, err)
		l := (&clients{freshet: c}).listen(t, []string{topicOf("7")}, nil)
		l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
		streams[i] = stream{l, over.at.Load().(string), over}
		of[streams[i].was]++
	}
	for name := range nodes {
		require.NotZero(t, of[name], name)
	}

	many := followByHand(t, "http://"+front+"/events?topic="+topicOf("7"), 480)

	feed.Pause()
	require.NoError(t, nodes["stops"].cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, nodes["frozen"].cmd.Process.Signal(syscall.SIGSTOP))
	since := time.Now()
	var elsewhere time.Duration
	for _, s := range streams {
		if s.was != "frozen" {
			continue
		}
		s.await(t, ctx, "elsewhere", func() bool { return len(s.ready) > 1 })
		elsewhere = max(elsewhere, time.Since(since))
		require.Equal(t, "well", s.over.at.Load(), "the others aren't ready")
	}
	t.Logf("%d streams of the frozen node were elsewhere after %v at most", of["frozen"], elsewhere.Round(time.Millisecond))
	require.Less(t, elsewhere, 15*time.Second, "some 10 s, on a machine that has nothing else to do; by themselves they notice after 37.5")

	select {
	case <-nodes["stops"].ended:
	case <-ctx.Done():
		require.FailNow(t, "it doesn't stop")
	}
	many(ctx) // one in 10 ms: most of them longer than a check takes to find the port closed
	for _, s := range streams {
		switch s.was {
		case "stops":
			s.await(t, ctx, "the end", func() bool { return len(s.ends) > 0 })
			require.ErrorIs(t, s.now().ends[0].Err, client.ErrClosed, "in order")
		case "stale", "well":
			require.Empty(t, s.now().ends, s.was)
		}
	}
	ready, reason := newClients(t, nodes["stale"].url).readiness(t)
	require.False(t, ready)
	require.Equal(t, "capture", reason)
}

// followByHand opens n streams at the node that stops, and returns a function that holds
// that all of them have ended in order.
func followByHand(t *testing.T, url string, n int) (requireClosed func(context.Context)) {
	t.Helper()
	h, ends := transport(t, false), make(chan error, n)
	streaming := testkit.Context(t)
	for range n {
		req, err := http.NewRequestWithContext(streaming, http.MethodGet, url, nil)
		require.NoError(t, err)
		req.Header.Set("X-To", "stops")
		resp, err := h.Do(req)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, "stops", resp.Header.Get("X-Served-By"))
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			ends <- err
		}()
		t.Cleanup(func() { <-done })
	}
	return func(ctx context.Context) {
		t.Helper()
		for range n {
			select {
			case err := <-ends:
				require.NoError(t, err, "in order")
			case <-ctx.Done():
				require.FailNow(t, "a stream doesn't end")
			}
		}
	}
}
