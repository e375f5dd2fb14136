package systemtest_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// F11, G7: one of many readers doesn't read. The others hear of every commit as
// fast as before; the slow one is told once, not once for each commit that it
// missed, and is current as soon as it reads again.
func TestSlow_F11_aReaderThatDoesNotRead(t *testing.T) {
	ctx := testkit.Context(t)
	database := testkit.Migrated(t)
	c := newClients(t, serve(t, database, "f11", nil).url)
	conn := testkit.Conn(t, database)
	const all = "reports/all"
	names := []string{all}
	for i := range 999 {
		names = append(names, fmt.Sprint("reports/", strings.Repeat("long", 50), "/", i))
	}

	fast := make([]*listener, 20)
	for i := range fast {
		fast[i] = c.listen(t, []string{all}, nil, client.WithThrottle(0))
		fast[i].await(t, ctx, "ready", func() bool { return len(fast[i].ready) > 0 })
	}
	// commits changes all topics at once, so that each notice to the slow reader
	// is 200 KB; and returns how long the last fast reader waited for each.
	commits := func(n int) []time.Duration {
		var waits []time.Duration
		for range n {
			before := fast[0].now().last
			_, err := conn.Exec(ctx, `select pg_logical_emit_message(true, 'freshet', topic) from unnest($1::text[]) topic`, names)
			require.NoError(t, err)
			began := time.Now()
			for _, l := range fast {
				l.await(t, ctx, "the commit", func() bool { return before.Less(l.told[all]) })
			}
			waits = append(waits, time.Since(began))
		}
		slices.Sort(waits)
		return waits
	}
	p99 := func(waits []time.Duration) time.Duration { return waits[len(waits)*99/100-1] }

	alone := p99(commits(100))
	reading := make(chan struct{})
	slow := c.listen(t, names, func(ctx context.Context, _ client.Invalidate) {
		select {
		case <-reading:
		case <-ctx.Done():
		}
	}, client.WithThrottle(0))
	slow.await(t, ctx, "ready", func() bool { return len(slow.ready) > 0 })
	const n = 100
	beside := p99(commits(n))
	t.Logf("p99 of 20 readers: %v alone, %v beside one that doesn't read", alone.Round(time.Microsecond), beside.Round(time.Microsecond))
	// Whoever waited for it would do so until it is cut, after 10 s.
	require.Less(t, beside, 3*alone+time.Second)

	close(reading)
	last := fast[0].now().told[all]
	slow.await(t, ctx, "every topic", func() bool {
		for _, name := range names {
			if slow.told[name].Less(last) {
				return false
			}
		}
		return true
	})
	heard := slow.now()
	t.Logf("%d commits made %d notices", n, len(heard.revisions))
	require.Less(t, len(heard.revisions), n*3/4, "what it missed was merged")
	require.Empty(t, heard.resets)
}

// F17: writes every 50 ms, which is less than the throttle: the client refetches
// at the throttle's rate, and what it shows stays a bounded time behind. A
// debounce would show nothing until the writes stop.
func TestSlow_F17_steadyWrites(t *testing.T) {
	ctx := testkit.Context(t)
	database := testkit.Migrated(t)
	c := newClients(t, serve(t, database, "f17", nil).url)
	const writes, interval = 160, 50 * time.Millisecond
	committed := make([]time.Time, writes+1)
	testkit.Exec(t, database, `insert into messages (conversation, author, body) values ('7', 'sql', '0')`)
	m := c.mirror(t, "mirror", "7")
	requireConverged(t, ctx, testkit.Conn(t, database), []*mirror{m})
	c.asked.reset()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	began, next := time.Now(), 0
	w := write(t, ctx, database, func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		<-tick.C
		next++
		_, err := conn.Exec(ctx, `update messages set body = $1 where conversation = '7'`, strconv.Itoa(next))
		committed[next] = time.Now()
		return next < writes, err
	})
	// When each write was first shown, or covered by a later one.
	shown := make([]time.Time, writes+1)
	last := 0
	for s := range m.query.Changes(ctx) {
		require.Len(t, s.Value.GetMessages(), 1)
		n, err := strconv.Atoi(s.Value.GetMessages()[0].GetBody())
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, last, "G4: never backwards")
		for ; last < n; last++ {
			shown[last+1] = time.Now()
		}
		if last == writes {
			break
		}
	}
	require.Equal(t, writes, last)
	w.end(t, ctx)
	seconds := time.Since(began).Seconds()
	var behind []time.Duration
	for i := 1; i <= writes; i++ {
		behind = append(behind, max(0, shown[i].Sub(committed[i])))
	}
	slices.Sort(behind)
	refetches, _ := c.asked.counts()
	t.Logf("%d writes in %.1f s: %d refetches (%.1f/s); shown after %v at the median, %v at most", writes, seconds,
		refetches, float64(refetches)/seconds, behind[writes/2].Round(time.Millisecond), behind[writes-1].Round(time.Millisecond))
	require.LessOrEqual(t, refetches, int(10*(seconds+1)), "throttle")
	require.GreaterOrEqual(t, refetches, int(3*seconds), "and no debounce")
	require.Less(t, behind[writes-1], 3*time.Second)
}

// F13: what a client may come back with: a revision from before a restart of the
// program brings exactly what changed since; an ended epoch, garbage, the
// future and another database's a reset. Never silence.
func TestSlow_F13_lastEventID(t *testing.T) {
	ctx := testkit.Context(t)
	database := testkit.Migrated(t)
	n := serve(t, database, "f13", nil)
	l := newClients(t, n.url).listen(t, []string{topicOf("7")}, nil)
	l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
	now := l.now().last
	n.stop()
	testkit.Exec(t, database, `insert into messages (conversation, author, body) values ('7', 'sql', 'hi')`)
	c := newClients(t, serve(t, database, "f13", nil).url)
	for name, tt := range map[string]struct {
		id     string
		resets int
	}{
		"this epoch":       {now.String(), 0},
		"an ended epoch":   {freshet.Revision{Epoch: now.Epoch - 1, Position: now.Position}.String(), 1},
		"a coming epoch":   {freshet.Revision{Epoch: now.Epoch + 1, Position: now.Position}.String(), 1},
		"the future":       {freshet.Revision{Epoch: now.Epoch, Position: now.Position + 1<<40}.String(), 1},
		"another database": {freshet.Revision{Epoch: 1, Position: 1}.String(), 1},
		"garbage":          {"garbage", 1},
	} {
		t.Run(name, func(t *testing.T) {
			withID, err := client.New(c.url, client.WithHTTPClient(c.streams), client.WithHeader("Last-Event-ID", tt.id))
			require.NoError(t, err)
			again := (&clients{freshet: withID}).listen(t, []string{topicOf("7"), topicOf("8")}, nil)
			again.await(t, ctx, "ready", func() bool { return len(again.ready) > 0 })
			heard := again.now()
			require.Len(t, heard.resets, tt.resets)
			if tt.resets == 0 {
				require.Equal(t, []string{topicOf("7")}, slices.Collect(maps.Keys(heard.told)))
			}
		})
	}
}
