package server_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
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

// The database is lost while a node prepares it: that is waited for as well, and what was
// done already isn't in the way.
func TestRun_databaseLostWhileMigrating(t *testing.T) {
	for name, lose := range map[string]string{
		"ended": "select pg_terminate_backend(pg_backend_pid())",
		"full":  "do $$ begin raise 'there is no room' using errcode = 'disk_full'; end $$",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			r := start(t, testkit.Database(t), func(c *live.Config) {
				migrate := c.Migrate
				c.Migrate = func(ctx context.Context, database *pgx.ConnConfig) error {
					if calls.Add(1) > 1 {
						return migrate(ctx, database)
					}
					conn, err := pgx.ConnectConfig(ctx, database)
					require.NoError(t, err)
					defer func() { _ = conn.Close(ctx) }()
					_, err = conn.Exec(ctx, lose)
					return err
				}
			})
			require.EqualValues(t, 2, calls.Load())
			_, err := r.client().ListMessages(r.ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/1"}))
			require.NoError(t, err)
		})
	}
}

// A server that has one connection left is full, since migrations need a second one; one
// that takes no writes may be a standby that is to be promoted. Both are waited for.
func TestRun_startsOnceTheDatabaseCanBeMigrated(t *testing.T) {
	t.Parallel()
	for state, tt := range map[string]struct{ lost, back string }{
		"53300": {"alter role %[1]s connection limit 1", "alter role %s connection limit -1"},
		"25006": {"alter role %[1]s set default_transaction_read_only = on", "alter role %s reset default_transaction_read_only"},
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			database := testkit.Database(t)
			config, err := pgx.ParseConfig(database)
			require.NoError(t, err)
			role, admin := config.Database, testkit.Postgres(t).URL("postgres")
			testkit.Exec(t, admin, fmt.Sprintf("create role %[1]s login; alter database %[1]s owner to %[1]s; "+tt.lost, role), pgx.QueryExecModeSimpleProtocol)
			log := new(testkit.Buffer)
			r, ready, failed := launch(t, database, func(c *live.Config) {
				c.CaptureURL, c.DatabaseURL = c.DatabaseURL, testkit.WithParam(t, database, "user", role)
				c.Logger = slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), log), nil))
			})
			t.Cleanup(func() {
				require.NoError(t, r.stop())
				testkit.Exec(t, admin, fmt.Sprintf("alter database %s owner to postgres", role))
				testkit.Exec(t, database, "drop owned by "+role+" cascade")
				testkit.Exec(t, admin, "drop role "+role)
			})
			require.Eventually(t, func() bool { return log.Contains("SQLSTATE " + state) }, 20*time.Second, 10*time.Millisecond)
			testkit.Exec(t, admin, fmt.Sprintf(tt.back, role))
			select {
			case <-ready:
			case err := <-failed:
				require.FailNow(t, "it ended", "%v", err)
			case <-r.ctx.Done():
				require.FailNow(t, "the server did not get ready")
			}
		})
	}
}
