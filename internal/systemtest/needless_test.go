package systemtest_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// BenchmarkNeedless counts refetches that found what the client held, in
// clients that show the newest messages of one conversation while others
// write to it; decision 0006 rests on it.
//
// Every write is an insert, which the newest page shows. So an answer that is
// the same as the one before proves that the earlier one held every commit up
// to the revision that was asked for: exactly the refetches that a stamp of
// the read's own snapshot would have saved.
func BenchmarkNeedless(b *testing.B) {
	for _, w := range []struct {
		name  string
		mean  time.Duration // between two bursts, exponentially distributed
		burst int           // commits at once, each on a connection of its own
	}{
		{"single/1s", time.Second, 1},
		{"pair/1s", time.Second, 2},
		{"burst8/1s", time.Second, 8},
		{"single/100ms", 100 * time.Millisecond, 1},
		{"single/10ms", 10 * time.Millisecond, 1},
		{"single/2ms", 2 * time.Millisecond, 1},
	} {
		b.Run(w.name, func(b *testing.B) { needless(b, w.mean, w.burst) })
	}
}

func needless(b *testing.B, mean time.Duration, burst int) {
	const (
		readers = 20
		length  = 20 * time.Second
	)
	database := testkit.Migrated(b)
	admin := live.FreeAddr(b)
	n := serve(b, database, "freshet_needless", func(c *live.Config) { c.Front.AdminAddr = admin })
	streams := transport(b, false)
	c, err := client.New(n.url, client.WithHTTPClient(streams))
	require.NoError(b, err)
	rpcs := messagesv1connect.NewMessageServiceClient(transport(b, true), n.url, connect.WithInterceptors(client.NewInterceptor()))

	var refetches, same atomic.Int64
	for range readers {
		r := &refetcher{call: rpcs.ListMessages, all: &refetches, same: &same}
		q, err := client.NewQuery(c, r.list, &messagesv1.ListMessagesRequest{Parent: "conversations/7"})
		require.NoError(b, err)
		background(b, func(ctx context.Context) { _ = q.Run(ctx) })
		for s := range q.Changes(testkit.Context(b)) {
			if s.Fresh {
				break
			}
		}
	}
	conns := make([]*pgx.Conn, burst)
	for i := range conns {
		conns[i] = testkit.Conn(b, database)
	}
	scrape := &http.Client{Transport: streams.Transport}
	queries, unchanged := counter(b, scrape, admin, "freshet_reads_replaced_total"), counter(b, scrape, admin, "freshet_reads_unchanged_total")
	refetches.Store(0)
	same.Store(0)

	b.ResetTimer()
	commits := 0
	end := time.Now().Add(length)
	for next := time.Now(); next.Before(end); next = next.Add(time.Duration(rand.ExpFloat64() * float64(mean))) {
		pause := time.NewTimer(time.Until(next)) // the load's own pace
		<-pause.C
		var group sync.WaitGroup
		for _, conn := range conns {
			group.Go(func() {
				_, err := conn.Exec(context.Background(), `insert into messages (conversation, author, body) values ('7', 'sql', 'hello')`)
				if err != nil {
					b.Error(err)
				}
			})
		}
		group.Wait()
		commits += burst
	}
	b.StopTimer()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(commits), "commits")
	b.ReportMetric(float64(refetches.Load()), "refetches")
	b.ReportMetric(float64(same.Load()), "refetches-same")
	b.ReportMetric(counter(b, scrape, admin, "freshet_reads_replaced_total")-queries, "queries")
	b.ReportMetric(counter(b, scrape, admin, "freshet_reads_unchanged_total")-unchanged, "queries-same")
}

// refetcher counts one client's refetches: those that ask for more than the
// answer held was stamped with.
type refetcher struct {
	call      func(context.Context, *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error)
	all, same *atomic.Int64

	mu    sync.Mutex // guards what follows; a query has one call in flight
	held  *messagesv1.ListMessagesResponse
	stamp freshet.Revision
}

func (r *refetcher) list(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	resp, err := r.call(ctx, req)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	asked, err := freshet.ParseRevision(req.Header().Get("Freshet-At-Least"))
	if err == nil && r.held != nil && !r.stamp.IsZero() && r.stamp.Less(asked) {
		r.all.Add(1)
		if proto.Equal(r.held, resp.Msg) {
			r.same.Add(1)
		}
	}
	r.held = resp.Msg
	r.stamp, _ = freshet.ParseRevision(resp.Header().Get("Freshet-Revision")) // zero: the next one isn't counted
	return resp, nil
}

// counter reads one from the server, over all labels.
func counter(b *testing.B, h *http.Client, admin, name string) float64 {
	b.Helper()
	resp, err := h.Get("http://" + admin + "/metrics")
	require.NoError(b, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(b, err)
	sum := 0.0
	for _, line := range regexp.MustCompile(`(?m)^`+name+`\{.*\} (.*)$`).FindAllSubmatch(text, -1) {
		value, err := strconv.ParseFloat(string(line[1]), 64)
		require.NoError(b, err)
		sum += value
	}
	return sum
}
