package server_test

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
)

func TestRun_failsOnWhatWaitingDoesNotMend(t *testing.T) {
	database := testkit.Database(t)
	for name, url := range map[string]string{
		"no such database":   strings.Replace(database, "/test_", "/none_", 1),
		"nobody by the name": strings.Replace(database, "postgres@", "nobody@", 1),
	} {
		require.NotEqual(t, database, url, name)
		require.ErrorContains(t, refused(t, server.Config{DatabaseURL: url}), "waiting for the database", name)
	}
}

// A server is started before its database, or while that restarts: it waits, not
// ready, and serves once the database is there.
func TestRun_startsBeforeItsDatabase(t *testing.T) {
	postgres := testkit.NewServer(t, map[string]string{"fsync": "off"})
	database := postgres.Database(t)
	postgres.Kill()
	log := new(testkit.Buffer)
	r, ready, failed := launch(t, database, func(c *live.Config) {
		c.Logger = slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), log), nil))
	})
	require.Eventually(t, func() bool { return log.Contains("waiting for it") }, 20*time.Second, 10*time.Millisecond)
	select {
	case <-ready:
		require.FailNow(t, "ready without a database")
	case err := <-failed:
		require.FailNow(t, "it ended", "%v", err)
	default:
	}
	postgres.Restart(t)
	select {
	case r.url = <-ready:
	case err := <-failed:
		require.FailNow(t, "it ended", "%v", err)
	case <-r.ctx.Done():
		require.FailNow(t, "the server did not get ready")
	}
	_, err := r.client().ListMessages(r.ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/1"}))
	require.NoError(t, err)
}
