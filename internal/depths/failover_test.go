package depths

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"golang.org/x/sync/errgroup"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store"
)

// asks are how the clients of depth (a) run one query of one text, on a pool of
// their own.
var asks = map[string]func(t *testing.T, url string) func(ctx context.Context, sql string) (string, error){
	"pgx": func(t *testing.T, url string) func(context.Context, string) (string, error) {
		t.Helper()
		pool, err := pgxpool.New(testkit.Context(t), url)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return func(ctx context.Context, sql string) (answer string, err error) {
			err = pool.QueryRow(ctx, sql).Scan(&answer)
			return answer, err
		}
	},
	"database/sql": func(t *testing.T, url string) func(context.Context, string) (string, error) {
		t.Helper()
		pool := openSQL(t, url)
		return func(ctx context.Context, sql string) (answer string, err error) {
			err = pool.QueryRowContext(ctx, sql).Scan(&answer)
			return answer, err
		}
	},
	"GORM": func(t *testing.T, url string) func(context.Context, string) (string, error) {
		t.Helper()
		db, err := gorm.Open(postgres.New(postgres.Config{Conn: openSQL(t, url)}), &gorm.Config{Logger: logger.Discard})
		require.NoError(t, err)
		return func(ctx context.Context, sql string) (answer string, err error) {
			err = db.WithContext(ctx).Raw(sql).Row().Scan(&answer)
			return answer, err
		}
	},
	"bun": func(t *testing.T, url string) func(context.Context, string) (string, error) {
		t.Helper()
		db := bun.NewDB(openSQL(t, url), pgdialect.New())
		return func(ctx context.Context, sql string) (answer string, err error) {
			err = db.NewRaw(sql).Scan(ctx, &answer)
			return answer, err
		}
	},
}

// A service's pool is proven at start to lead to the node's database, and not to
// another one of its server, to a standby, or to the primary that a failover has
// left behind. That one may go on answering whoever asks it; a guarded pool
// doesn't pass it on.
func TestVerify_andGuard_failover(t *testing.T) {
	own := testkit.NewServer(t, map[string]string{"fsync": "off"})
	primary, other := own.Migrated(t), own.Migrated(t)
	standby := own.Standby(t)
	replica := standby.URL(t, primary)
	way := testkit.NewProxy(t, primary) // the node's: it moves with the failover
	testkit.Exec(t, primary, insertSQL, "01890a5d-ac96-774b-bcce-b302099a8057", "0", "ann", "before")

	var live *server.Node
	n := serve(t, way.URL(), func(node *server.Node) storage {
		live = node
		return overPool(guarded(t, node, primary, nil)) // the pool's doesn't move
	})
	u := n.user(t)
	rev, err := u.lists("before")
	require.NoError(t, err)
	requireVerified := func(url string, want error) {
		t.Helper()
		for name, query := range asks {
			t.Run(name, func(t *testing.T) { require.ErrorIs(t, live.Verify(testkit.Context(t), query(t, url)), want) })
		}
	}
	requireVerified(primary, nil)
	requireVerified(other, store.ErrOtherDatabase)
	require.Eventually(t, func() bool { // it has the node's epoch, as far as a standby can
		return ask(t, replica, "select (last > 0)::text from freshet.epoch") == "true"
	}, 30*time.Second, 10*time.Millisecond)
	requireVerified(replica, store.ErrStandby)

	resets := n.resets(t)
	standby.Promote(t)
	way.Point(standby.Socket())
	way.Cut()
	var begun freshet.Revision
	select {
	case begun = <-resets:
		require.Greater(t, begun.Epoch, rev.Epoch)
	case <-testkit.Context(t).Done():
		require.FailNow(t, "the node doesn't follow the standby that was promoted")
	}
	require.Eventually(t, func() bool { return live.Ready() == nil }, 30*time.Second, 10*time.Millisecond)
	testkit.Exec(t, replica, insertSQL, "01890a5d-ac96-774b-bcce-b302099a8058", "0", "ann", "after")
	requireVerified(primary, store.ErrEpoch)
	requireVerified(replica, nil)
	require.Equal(t, "1", ask(t, primary, "select count(*)::text from messages"), "it answers")
	u.requireUnanswered(t, begun)
}

// resets tells of the histories that begin while the test follows the node.
func (n *node) resets(t *testing.T) <-chan freshet.Revision {
	t.Helper()
	transport := new(http.Transport)
	c, err := client.New(n.url, client.WithHTTPClient(&http.Client{Transport: transport}))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(testkit.Context(t))
	ready, resets := make(chan struct{}, 16), make(chan freshet.Revision, 16)
	var following errgroup.Group
	following.Go(func() error {
		return c.Stream(ctx, []string{"conversations/0/messages"}, func(e client.Event) error {
			switch e := e.(type) {
			case client.Ready:
				ready <- struct{}{}
			case client.Reset:
				resets <- e.Revision
			}
			return nil
		})
	})
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, following.Wait(), context.Canceled)
		transport.CloseIdleConnections()
	})
	select {
	case <-ready:
	case <-ctx.Done():
		require.FailNow(t, "no stream")
	}
	return resets
}
