package systemtest_test

import (
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// natsAt is a server of NATS in this process, at a port that it keeps (-1: any).
func natsAt(t testing.TB, port int) (_ *natsserver.Server, at int) {
	t.Helper()
	server, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true})
	require.NoError(t, err)
	server.Start()
	require.True(t, server.ReadyForConnections(10*time.Second))
	return server, server.Addr().(*net.TCPAddr).Port
}

// F37, F38: three programs that share NATS, of which one decodes for all. Each in turn is
// killed, and paused, the one that captures among them; NATS is gone for longer than the
// lag that is allowed. Nobody's stream is told a reset, or misses anything; who wakes
// serves nothing stale; and who is told nothing says that it isn't ready.
func TestNodes_F38_fleetOverNATS(t *testing.T) {
	t.Parallel()
	binary, ctx := program(t), testkit.Context(t)
	postgres := testkit.NewServer(t, nil)
	database := postgres.Database(t)
	nats, port := natsAt(t, natsserver.RANDOM_PORT)
	stop := func() {
		nats.Shutdown()
		nats.WaitForShutdown()
	}
	t.Cleanup(func() { stop() })
	nodes := startNodes(t, binary, database, 3, "--nats-url=nats://127.0.0.1:"+strconv.Itoa(port), "--max-lag=1s", "--heartbeat=1s", "--explain")
	conn := testkit.Conn(t, database)
	copies := func(want int) {
		t.Helper()
		require.Eventually(t, func() bool {
			var copies int
			err := conn.QueryRow(ctx, `select count(*) from pg_replication_slots where temporary`).Scan(&copies)
			return err == nil && copies == want
		}, 30*time.Second, 20*time.Millisecond)
	}
	copies(1)
	wrote := 0
	insert := func() freshet.Revision {
		t.Helper()
		wrote++
		return insertFlushed(t, ctx, conn)
	}
	clients, listeners := listenToAll(t, ctx, nodes)
	told := func(at freshet.Revision, but int) {
		t.Helper()
		for i, l := range listeners {
			if i != but {
				l.await(t, ctx, "the notice", func() bool { return at.Less(l.told[topicOf("7")]) })
			}
		}
	}
	// What was written is read back from each node, at-least the position and strongly.
	readable := func(at freshet.Revision, but int) {
		t.Helper()
		for i, c := range clients {
			for _, rev := range []freshet.Revision{at, {}} {
				if i == but {
					continue
				}
				answer, err := c.list(ctx, "7", rev)
				require.NoError(t, err)
				require.Len(t, answer.Msg.GetMessages(), wrote)
			}
		}
	}
	step := func(but int) {
		t.Helper()
		// What is read after a commit is its end, or above it if somebody else has written
		// since. The next one ends above that in any case.
		at := insert()
		insert()
		told(at, but)
		readable(listeners[(but+1)%3].now().told[topicOf("7")], but)
	}
	step(-1)
	// Why, who captures tells the others.
	rev := listeners[0].now().told[topicOf("7")]
	for _, c := range clients {
		answer, err := c.list(ctx, "7", rev)
		require.NoError(t, err)
		cause := answer.Header().Get("Freshet-Cause")
		require.Contains(t, cause, `topic="`+topicOf("7")+`"`)
		require.Contains(t, cause, `revision="`+rev.String()+`"`)
		require.Contains(t, cause, `change=insert, `)
		require.Contains(t, cause, `table="public.messages", rows=1`)
		require.Contains(t, cause, `, time="`)
	}
	for i, n := range nodes {
		n.kill()
		step(i)
		n.start(t)
		step(-1)
	}
	copies(1)
	for i, n := range nodes {
		require.NoError(t, n.cmd.Process.Signal(syscall.SIGSTOP))
		step(i)
		require.NoError(t, n.cmd.Process.Signal(syscall.SIGCONT))
		if answer, err := clients[i].list(ctx, "7", listeners[(i+1)%3].now().told[topicOf("7")]); err == nil {
			require.Len(t, answer.Msg.GetMessages(), wrote, "a node that has woken knows that it may not")
		}
		step(-1)
	}
	copies(1)

	stop()
	insert()
	ready := func() (n int) {
		for _, node := range nodes {
			resp, err := http.Get(node.url + "/readyz") //nolint:noctx // the test's own server
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			if resp.StatusCode == http.StatusOK {
				n++
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return ready() == 1 }, 20*time.Second, 50*time.Millisecond, "one captures, the others are told nothing, and say so")
	nats, _ = natsAt(t, port)
	step(-1)
	require.Eventually(t, func() bool { return ready() == 3 }, 20*time.Second, 50*time.Millisecond)
	http.DefaultClient.CloseIdleConnections()
	copies(1)
	for _, l := range listeners {
		require.Empty(t, l.now().resets)
	}
}

// F37: Postgres has slots and walsenders for one node, and the one that captures is paused:
// as long as its connection lasts the others find no slot. Then one of them captures and
// tells the other, and both are ready; and so is the third when it goes on. At each end one
// node says that it is the one that captures for the others.
func TestNodes_F37_pausedWithItsSlot(t *testing.T) {
	t.Parallel()
	binary := program(t)
	database := testkit.NewServer(t, map[string]string{"max_replication_slots": "2", "max_wal_senders": "2"}).Database(t)
	nats, port := natsAt(t, natsserver.RANDOM_PORT)
	t.Cleanup(func() {
		nats.Shutdown()
		nats.WaitForShutdown()
	})
	var nodes []*child
	admins := map[*child]string{}
	for range 3 {
		admin := live.FreeAddr(t)
		n := serveChild(t, binary, database, "freshet", "--nats-url=nats://127.0.0.1:"+strconv.Itoa(port), "--max-lag=1s", "--admin-addr="+admin)
		nodes, admins[n] = append(nodes, n), "http://"+admin
	}
	get := func(url string) (status int, body string) {
		resp, err := http.Get(url) //nolint:noctx // the test's own server
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	isHolder := regexp.MustCompile(`(?m)^freshet_relay_holder 1$`)
	ready := func(nodes ...*child) (holder *child) {
		t.Helper()
		require.Eventually(t, func() bool {
			count, holders := 0, 0
			for _, n := range nodes {
				if status, _ := get(admins[n] + "/readyz"); status == http.StatusOK {
					count++
				}
				if _, metrics := get(admins[n] + "/metrics"); isHolder.MatchString(metrics) {
					holder, holders = n, holders+1
				}
			}
			return count == len(nodes) && holders == 1
		}, 30*time.Second, 50*time.Millisecond, "all are ready, and one captures for them")
		return holder
	}
	paused := ready(nodes...)
	var rest []*child
	for _, n := range nodes {
		if n != paused {
			rest = append(rest, n)
		}
	}
	require.NoError(t, paused.cmd.Process.Signal(syscall.SIGSTOP))
	ready(rest...)
	require.NoError(t, paused.cmd.Process.Signal(syscall.SIGCONT))
	ready(nodes...)
	http.DefaultClient.CloseIdleConnections()
}
