package server_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store"
)

// asleep is a service whose reads don't end by themselves.
type asleep struct {
	messagesv1connect.UnimplementedMessageServiceHandler
	db *store.DB
}

func (a *asleep) ListMessages(ctx context.Context, _ *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	return nil, a.db.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select pg_sleep(600)")
		return err
	})
}

// A read that was under way when the next epoch began may wait for a server that was left
// behind: it ends then, though no call tells the pool of the epoch. Those of the same
// list would all wait for it.
func TestRun_epochBeginsDuringARead(t *testing.T) {
	service := new(asleep)
	database := testkit.Migrated(t)
	r := start(t, database, func(c *live.Config) {
		c.MaxRead = time.Hour
		c.Handler = func(node *server.Node) (string, http.Handler) {
			service.db = node.DB()
			return messagesv1connect.NewMessageServiceHandler(service, node.HandlerOptions()...)
		}
	})
	ended := make(chan error, 1)
	go func() {
		_, err := r.client().ListMessages(r.ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/7"}))
		ended <- err
	}()
	conn := testkit.Conn(t, database)
	require.Eventually(t, func() bool {
		var sleeps bool
		err := conn.QueryRow(r.ctx, `select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep')`).Scan(&sleeps)
		return err == nil && sleeps
	}, 20*time.Second, time.Millisecond)

	testkit.Exec(t, database, `delete from freshet.incarnation`)
	requireCode(t, connect.CodeUnavailable, <-ended)
}
