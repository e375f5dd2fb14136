package relay_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
)

// How much later than the node that captures another one tells: commit → notice at both,
// of the same commits. What it prints is a measurement, of COMMITS commits (20 unless
// set); what it asserts is that both are told of each.
func TestRelay_latency(t *testing.T) {
	n := 20
	if many := os.Getenv("COMMITS"); many != "" {
		_, err := fmt.Sscan(many, &n)
		require.NoError(t, err)
	}
	nats := startNATS(t)
	f := &fleet{t: t, url: testkit.Template(t, "relay", testkit.SetUp), write: &writer{}}
	f.write.url = f.url
	f.add(nats.addr())
	f.caughtUp(f.nodes[0])
	f.add(nats.addr())
	f.caughtUp(f.nodes...)
	ctx, conn := testkit.Context(t), testkit.Conn(t, f.url)
	var subs [2]*hub.Subscription
	for i, node := range f.nodes {
		sub, err := node.hub.Subscribe(topics(), hub.Since{})
		require.NoError(t, err)
		sub.Take()
		subs[i] = sub
	}
	var took [2][]time.Duration
	type told struct {
		node int
		at   time.Time
	}
	for range n {
		notices := make(chan told, 2)
		for i, sub := range subs {
			go func() {
				select {
				case <-sub.Wake():
				case <-ctx.Done():
				}
				notices <- told{i, time.Now()}
			}()
		}
		_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ('1', 'l', 'b')`)
		require.NoError(t, err)
		committed := time.Now()
		for range subs {
			notice := <-notices
			took[notice.node] = append(took[notice.node], max(0, notice.at.Sub(committed)))
		}
		for _, sub := range subs {
			require.NotEmpty(t, sub.Take().Topics)
		}
	}
	for i, who := range []string{"the node that captures", "another one"} {
		slices.Sort(took[i])
		t.Logf("commit → notice at %s, of %d: p50 %v, p99 %v", who, n, took[i][n/2], took[i][min(n-1, n*99/100)])
	}
}
