package systemtest_test

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/badnet"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// F19, F37: three programs behind HAProxy, as docs/deploy.md has it, and clients that
// know its address alone. One is killed by SIGKILL: its streams go on elsewhere. The
// machine of another vanishes, and nobody says so: its clients notice within two and a
// half heartbeats. Meanwhile somebody writes, and no client misses a row, or is told to
// begin anew.
func TestBalancer_F19_F37(t *testing.T) {
	t.Parallel()
	binary, ctx := program(t), testkit.Context(t)
	database := testkit.Migrated(t)
	const heartbeat = time.Second
	nodes := startNodes(t, binary, database, 3, "--heartbeat="+heartbeat.String(), "--shed-streams")
	addr := func(n *child) string { return strings.TrimPrefix(n.url, "http://") }
	way, err := badnet.New(addr(nodes[1])) // what is between the balancer and the machine that vanishes
	require.NoError(t, err)
	t.Cleanup(way.Close)
	const second = "server two 127.0.0.1:8081\n"
	// By the way that vanishes, and no other: without the admin port.
	config := strings.ReplaceAll(regexp.MustCompile(` port \d+\n`).ReplaceAllString(severalBehind(t, "haproxy"), "\n"), second, "server two "+way.Addr()+"\n    server three "+addr(nodes[2])+"\n")
	front, _ := testkit.NewWebProxy(t, "haproxy", addr(nodes[0]), config)

	const streams, writes = 24, 240
	var rows, topics []string
	for range writes {
		id := uuid.NewString()
		rows, topics = append(rows, id), append(topics, topicOf("7")+"/"+id)
	}
	var listeners []*listener
	for range streams {
		c, err := client.New("http://"+front, client.WithHTTPClient(transport(t, false)), client.WithBackoff(time.Millisecond, time.Second))
		require.NoError(t, err)
		listeners = append(listeners, (&clients{freshet: c}).listen(t, topics, nil))
	}
	ready := func() {
		t.Helper()
		for _, l := range listeners {
			l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 && l.gone.IsZero() && len(l.lags) > 0 })
		}
	}
	ready()
	due, next := make(chan struct{}, writes), 0
	w := write(t, ctx, database, func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		select {
		case <-due:
		case <-ctx.Done():
			return false, ctx.Err()
		}
		_, err := conn.Exec(ctx, `insert into messages (id, conversation, author, body) values ($1, '7', 'sql', 'hi')`, rows[next])
		next++
		return next < len(rows), err
	})
	asked := 0
	// quarter writes a quarter of the rows, and returns once everybody has heard of them.
	quarter := func(meanwhile func()) {
		t.Helper()
		for range writes / 4 {
			due <- struct{}{}
		}
		asked += writes / 4
		meanwhile()
		for _, l := range listeners {
			l.await(t, ctx, "all so far", func() bool { return l.gone.IsZero() && len(l.told) == asked })
		}
	}
	quarter(func() {})
	quarter(nodes[0].kill)
	var back []time.Duration
	for _, l := range listeners {
		back = append(back, l.now().back...)
	}
	require.NotEmpty(t, back, "it had streams")
	slices.Sort(back)
	t.Logf("killed: %d streams were elsewhere after %v at most", len(back), back[len(back)-1].Round(time.Millisecond))
	// Behind one address they wait as long as the server has told them to (`retry:`, 0.4 to
	// 1.2 s and up to half more, so that they don't all come at once); who knows all nodes doesn't wait.
	require.Less(t, back[len(back)-1], 20*time.Second, "2 s, on a machine that has nothing else to do")
	nodes[0].start(t)

	ended := make([]int, streams)
	for i, l := range listeners {
		ended[i] = len(l.now().ends)
	}
	var vanished time.Time
	quarter(func() { vanished = time.Now(); way.Pause() })
	quarter(func() {})
	noticed := 0
	var longest time.Duration
	for i, l := range listeners {
		h := l.now()
		require.Len(t, h.told, writes, "every row")
		require.Empty(t, h.resets)
		if len(h.ends) == ended[i] {
			continue
		}
		noticed++
		silence, ok := errors.AsType[*client.SilenceError](h.ends[ended[i]].Err)
		require.True(t, ok, "%v", h.ends[ended[i]])
		require.Equal(t, heartbeat*5/2, silence.After)
		longest = max(longest, h.at[ended[i]].Sub(vanished))
	}
	w.end(t, ctx)
	require.NotZero(t, noticed, "it had streams")
	t.Logf("vanished: %d streams noticed, after %v at most", noticed, longest.Round(time.Millisecond))
	require.Less(t, longest, heartbeat*5/2+5*time.Second, "two and a half heartbeats, on a machine that has nothing else to do")
}
