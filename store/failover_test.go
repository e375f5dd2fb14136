package store_test

import (
	"context"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// A URL with several hosts, of which the first is a primary that was left behind: it is
// up, or it answers nobody. Connections lead to the one that was promoted, of the pool
// and of a guarded one.
func TestPool_oldPrimaryIsFirst(t *testing.T) {
	t.Parallel()
	ctx, server := testkit.Context(t), testkit.NewServer(t, nil)
	old := server.URL("postgres")
	require.NoError(t, prepare(ctx, old))
	standby := server.Standby(t)
	promoted := standby.URL(t, old)
	way := testkit.NewProxy(t, old)
	through, err := pgx.ParseConfig(way.URL())
	require.NoError(t, err)
	at, err := url.Parse(old)
	require.NoError(t, err)
	q := at.Query()
	q.Set("host", through.Host+","+standby.Host())
	q.Set("port", strconv.Itoa(int(through.Port))+","+standby.Port())
	q.Set("target_session_attrs", "read-write")
	at.Host, at.RawQuery = "", q.Encode()

	require.Eventually(t, func() bool {
		return one[bool](t, testkit.Conn(t, promoted), "select exists (select from pg_tables where schemaname = 'freshet')")
	}, time.Minute, 10*time.Millisecond)
	standby.Promote(t)
	testkit.Exec(t, promoted, `insert into freshet.incarnation (epoch, system_identifier, timeline, postmaster_start)
		values ($1, 'test', 2, pg_postmaster_start_time())`, int64(epoch+1))

	serves := func() {
		t.Helper()
		ctx := store.WithCall(ctx, &store.Call{Epoch: epoch + 1})
		require.NoError(t, open(t, store.Config{URL: at.String()}).Read(ctx, list))

		config, err := pgxpool.ParseConfig(at.String())
		require.NoError(t, err)
		store.Guard(config)
		pool, err := pgxpool.NewWithConfig(ctx, config)
		require.NoError(t, err)
		defer pool.Close()
		bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		require.NoError(t, pool.Ping(bounded))
	}
	serves()
	way.Pause()
	serves()
}
