package server_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store"
)

// Three nodes live in one process: two on one slot of one database, which they set up
// at the same time, and one on another database, that is reached as a function
// says. Each tells what its own database commits, and says of a client of Postgres
// whether that reads it. goleak sees that all end.
func TestNode_severalInOneProcess(t *testing.T) {
	one, other := testkit.Database(t), testkit.Database(t)
	databases := []string{one, one, other}
	var nodes []*bare
	for _, url := range databases {
		cfg := server.Config{DatabaseURL: url, Slot: "several_" + map[string]string{one: "one", other: "other"}[url], Registerer: prometheus.NewRegistry()} // slots' names are the whole server's
		if url == other {
			cfg.DatabaseURL, cfg.Connect = "", connectTo(url)
		}
		nodes = append(nodes, embed(t, cfg))
		_, err := server.New(live.MessageConfig(cfg))
		require.ErrorContains(t, err, "server.Config.Registerer", "two nodes would count as one")
	}
	ctx := testkit.Context(t)
	for i, n := range nodes {
		n.live(t)
		require.NoError(t, n.node.Ready())
		for j, url := range databases {
			conn := testkit.Conn(t, url)
			err := n.node.Verify(ctx, func(ctx context.Context, sql string) (answer string, err error) {
				err = conn.QueryRow(ctx, sql).Scan(&answer)
				return answer, err
			})
			if databases[i] == url {
				require.NoError(t, err, "%d reads what %d does", i, j)
			} else {
				require.ErrorIs(t, err, store.ErrOtherDatabase)
			}
		}
	}

	topics := map[string]string{one: "conversations/one/messages", other: "conversations/other/messages"}
	for i, n := range nodes {
		events := n.follow(t, topics[one], topics[other])
		insert(t, ctx, testkit.Conn(t, one), "one")
		insert(t, ctx, testkit.Conn(t, other), "other")
		told := receive(t, ctx, events)
		require.Equal(t, []string{topics[databases[i]]}, told.Topics)
		list, err := n.client().ListConversations(ctx, request(new(messagesv1.ListConversationsRequest), told.Revision))
		require.NoError(t, err)
		require.Len(t, list.Msg.GetConversations(), 1)
		require.EqualValues(t, i+1, list.Msg.GetConversations()[0].GetMessageCount())
	}
}

// A node that is run can't be run again, and says that it has ended.
func TestNode_runsOnce(t *testing.T) {
	n := embed(t, server.Config{DatabaseURL: testkit.Migrated(t)}).live(t)
	require.NoError(t, n.stop())
	require.ErrorContains(t, n.node.Ready(), "shutting down")
	require.ErrorContains(t, n.node.Run(t.Context()), "once")
}

// The order of a stop that the package's documentation gives: Retire sends
// balancers away and nobody else, Drain ends the streams and no calls, Shutdown
// has nobody to wait for; after Run calls are refused.
func TestNode_retireAndDrain(t *testing.T) {
	log := new(testkit.Buffer)
	n := embed(t, server.Config{DatabaseURL: testkit.Migrated(t), Drain: server.None, Logger: slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), log), nil))})
	n.live(t)
	write := func() {
		t.Helper()
		created, err := n.client().CreateMessage(n.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{Parent: "conversations/1", Message: &messagesv1.Message{Author: "a", Body: "b"}}))
		require.NoError(t, err)
		rev := stamp(t, created.Header())
		_, err = n.client().GetMessage(n.ctx, request(&messagesv1.GetMessageRequest{Name: created.Msg.GetMessage().GetName()}, rev))
		require.NoError(t, err)
	}
	open := func() (*http.Response, error) {
		req, err := http.NewRequestWithContext(n.ctx, http.MethodGet, n.url+"/events?topic=conversations/1/messages", nil)
		require.NoError(t, err)
		return n.http.Do(req)
	}
	stream, err := open()
	require.NoError(t, err)
	defer func() { _ = stream.Body.Close() }()
	begun := make([]byte, 1)
	_, err = io.ReadFull(stream.Body, begun)
	require.NoError(t, err)

	n.node.Retire()
	require.Equal(t, server.NotReadyError{Reason: server.ReasonStopping, Detail: "the server is about to stop"}, *n.notReady(t))
	write()
	another, err := open()
	require.NoError(t, err)
	require.NoError(t, another.Body.Close())
	require.Equal(t, http.StatusOK, another.StatusCode, "served on")

	require.NoError(t, n.node.Drain(n.ctx))
	rest, err := io.ReadAll(stream.Body)
	require.NoError(t, err, "a clean end")
	blocks := strings.Split(strings.TrimSpace(string(begun)+string(rest)), "\n\n")
	require.Regexp(t, `(^|\n)retry: ?\d+\n`, blocks[len(blocks)-1], "a goodbye that says when to come back")
	refused, err := open()
	require.NoError(t, err)
	require.NoError(t, refused.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, refused.StatusCode)
	write()

	require.NoError(t, n.web.Config.Shutdown(n.ctx))
	require.NoError(t, n.stop())
	require.False(t, log.Contains("not ready"), "it was asked for")
	require.False(t, log.Contains("streams were cut"), "there were none any more")

	again := httptest.NewServer(n.web.Config.Handler) // it needn't have stopped
	defer again.Close()
	n.url = again.URL
	_, err = n.client().ListConversations(n.ctx, connect.NewRequest(new(messagesv1.ListConversationsRequest)))
	require.ErrorContains(t, requireCode(t, connect.CodeUnavailable, err), "shutting down")
}

// Readiness that is lost is noticed because the part that loses it says so: capture,
// or the pool. Nobody looks by the clock here, but for the lag, twice a day.
func TestNode_readinessThatIsLostIsTold(t *testing.T) {
	for _, tt := range []struct{ name, lost, back, reason string }{
		{
			"capture", `
alter database %[1]s allow_connections false;
select pg_terminate_backend(pid) from pg_stat_activity where datname = '%[1]s' and usename <> '%[1]s'`,
			`alter database %[1]s allow_connections true`, server.ReasonCapture,
		},
		{
			"pool", `
alter role %[1]s nologin;
select pg_terminate_backend(pid) from pg_stat_activity where usename = '%[1]s'`,
			`alter role %[1]s login`, server.ReasonDatabase,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			database := testkit.Migrated(t)
			config, err := pgx.ParseConfig(database)
			require.NoError(t, err)
			admin := testkit.Conn(t, testkit.Postgres(t).URL("postgres"))
			run := func(sql string) {
				t.Helper()
				_, err := admin.Exec(testkit.Context(t), fmt.Sprintf(sql, config.Database), pgx.QueryExecModeSimpleProtocol)
				require.NoError(t, err)
			}
			// A role that is named like the database, for the pool.
			run(`create role %[1]s superuser login`)
			t.Cleanup(func() { testkit.Exec(t, testkit.Postgres(t).URL("postgres"), "drop role "+config.Database) })
			lines := make(chan string, 1000)
			n := embed(t, server.Config{
				DatabaseURL: testkit.WithParam(t, database, "user", config.Database), CaptureURL: database, Slot: config.Database,
				MaxLag: never, Logger: slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), lineWriter(lines)), nil)),
			}).live(t)
			t.Cleanup(func() { require.NoError(t, n.stop()) }) // before the role goes
			until := func(text string) {
				t.Helper()
				for !strings.Contains(receive(t, n.ctx, lines), text) {
				}
			}
			run(tt.lost)
			until(`msg="not ready"`)
			require.Equal(t, tt.reason, n.notReady(t).Reason)
			run(tt.back)
			until(`msg="ready again"`)
			require.NoError(t, n.node.Ready())
		})
	}
}

// lineWriter gets what is logged, a line at a time. It mustn't be full.
type lineWriter chan<- string

func (w lineWriter) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}

// What is wrong is said in the words of the library as well as of `freshet serve`.
func TestNode_saysFields(t *testing.T) {
	database := testkit.Migrated(t)
	slot := fmt.Sprintf("of_others_%d", time.Now().UnixNano())
	testkit.Exec(t, database, `select pg_create_physical_replication_slot($1)`, slot)
	t.Cleanup(func() { testkit.Exec(t, database, `select pg_drop_replication_slot($1)`, slot) })
	n := embed(t, server.Config{DatabaseURL: database, Slot: slot})
	require.Eventually(t, func() bool { return strings.Contains(n.notReady(t).Detail, "server.Config.Slot") }, 20*time.Second, 10*time.Millisecond)
}
