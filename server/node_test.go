package server_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store"
)

// Two nodes live in one process, each on a database of its own: one by a URL, one
// by a function that is asked at each connect. Each says of a client of Postgres
// whether that reads its database. goleak sees that both end.
func TestNode_severalInOneProcess(t *testing.T) {
	databases := []string{testkit.Database(t), testkit.Database(t)}
	var nodes []*server.Node
	for i, url := range databases {
		ready := make(chan struct{})
		slot := fmt.Sprintf("several_%d", i) // names are the whole server's
		cfg := live.MessageConfig(server.Config{Slot: slot, Logger: testkit.Logger(t), OnReady: func() { close(ready) }, Registerer: prometheus.NewRegistry()})
		if i == 0 {
			cfg.DatabaseURL = url
		} else {
			cfg.Connect = func(context.Context) (*pgx.ConnConfig, error) { return pgx.ParseConfig(url) }
		}
		node, err := server.New(cfg)
		require.NoError(t, err)
		node.DB()
		var unready *server.NotReadyError
		require.ErrorAs(t, node.Ready(), &unready)
		require.Equal(t, server.ReasonStarting, unready.Reason)
		_, err = server.New(cfg)
		require.ErrorContains(t, err, "server.Config.Registerer")

		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- node.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			require.NoError(t, <-done)
			require.ErrorContains(t, node.Ready(), "shutting down")
			require.ErrorContains(t, node.Run(context.Background()), "once")
		})
		select {
		case <-ready:
		case <-time.After(time.Minute):
			require.FailNow(t, "not ready", "%v", node.Ready())
		}
		require.NoError(t, node.Ready())
		nodes = append(nodes, node)
	}
	ask := func(url string) func(context.Context, string) (string, error) {
		conn := testkit.Conn(t, url)
		return func(ctx context.Context, sql string) (answer string, err error) {
			err = conn.QueryRow(ctx, sql).Scan(&answer)
			return answer, err
		}
	}
	ctx := testkit.Context(t)
	require.NoError(t, nodes[0].Verify(ctx, ask(databases[0])))
	require.NoError(t, nodes[1].Verify(ctx, ask(databases[1])))
	require.ErrorIs(t, nodes[1].Verify(ctx, ask(databases[0])), store.ErrOtherDatabase)
}
