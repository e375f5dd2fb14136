package systemtest_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// F38: NATS is gone for many times the lag that is allowed (NATS_GONE=5m: for so long,
// with serve's own --max-lag), while somebody writes. The program that captured goes on,
// and so does one that may capture for itself; the third says that it isn't ready, and
// why. Then NATS is back: nobody has missed a row, or begins anew, and one captures.
func TestNodes_F38_natsGoneForLong(t *testing.T) {
	t.Parallel()
	const writes = 40
	gone, maxLag := 4*time.Second, 400*time.Millisecond
	if long := os.Getenv("NATS_GONE"); long != "" {
		var err error
		gone, err = time.ParseDuration(long)
		require.NoError(t, err)
		maxLag = 5 * time.Second
	}
	binary := program(t)
	ctx, cancel := context.WithTimeout(t.Context(), gone+2*time.Minute)
	defer cancel()
	database := testkit.NewServer(t, nil).Database(t)
	nats, port := natsAt(t, natsserver.RANDOM_PORT)
	stop := func() {
		nats.Shutdown()
		nats.WaitForShutdown()
	}
	t.Cleanup(func() { stop() })
	flags := []string{"--nats-url=nats://127.0.0.1:" + strconv.Itoa(port), "--max-lag=" + maxLag.String(), "--heartbeat=1s"}
	holder := serveChild(t, binary, database, "freshet", flags...)
	admin := live.FreeAddr(t)
	stale := serveChild(t, binary, database, "freshet", append(flags[:3:3], "--admin-addr="+admin)...)
	able := serveChild(t, binary, database, "freshet", append(flags[:3:3], "--nats-fallback")...)
	settled(t, holder, stale, able)

	var rows, topics []string
	for range writes {
		id := uuid.NewString()
		rows, topics = append(rows, id), append(topics, topicOf("7")+"/"+id)
	}
	var listeners []*listener
	for _, n := range []*child{holder, able, stale} {
		l := newClients(t, n.url).listen(t, topics, nil)
		l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
		listeners = append(listeners, l)
	}
	conn := testkit.Conn(t, database)
	wrote := 0
	write := func() {
		t.Helper()
		_, err := conn.Exec(ctx, `insert into messages (id, conversation, author, body) values ($1, '7', 'sql', 'hi')`, rows[wrote])
		require.NoError(t, err)
		wrote++
	}
	told := func(listeners ...*listener) {
		t.Helper()
		for _, l := range listeners {
			l.await(t, ctx, "every row so far", func() bool { return len(l.told) == wrote })
		}
	}
	write()
	told(listeners...)

	stop()
	began := time.Now()
	ticker := time.NewTicker(gone / (writes - 2))
	defer ticker.Stop()
	for wrote < writes-1 {
		write()
		told(listeners[0])
		<-ticker.C
	}
	told(listeners[:2]...)
	require.Less(t, len(listeners[2].now().told), writes-1)
	resp, err := http.Get("http://" + admin + "/readyz") //nolint:noctx // the test's own server
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Contains(t, string(body), "there is no connection to NATS")
	require.Contains(t, string(body), "is NATS up")
	for _, n := range []*child{holder, able} {
		require.Eventually(t, func() bool {
			resp, err := http.Get(n.url + "/readyz") //nolint:noctx // the test's own server
			return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
		}, 30*time.Second, 20*time.Millisecond)
	}
	http.DefaultClient.CloseIdleConnections()
	t.Logf("NATS was gone for %v, %.0f times --max-lag", time.Since(began).Round(time.Second), time.Since(began).Seconds()/maxLag.Seconds())

	nats, _ = natsAt(t, port)
	back := time.Now()
	told(listeners...)
	t.Logf("back: the one that was told nothing has told all %d rows after %v", wrote, time.Since(back).Round(time.Millisecond))
	require.Eventually(t, func() bool {
		var copies int
		err := conn.QueryRow(ctx, `select count(*) from pg_replication_slots where temporary`).Scan(&copies)
		return err == nil && copies == 1
	}, 30*time.Second, 20*time.Millisecond, "one captures")
	write()
	told(listeners...)
	for _, l := range listeners {
		require.Empty(t, l.now().resets)
	}
}
