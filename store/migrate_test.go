package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

func TestMigrate_upDownUp(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Database(t)
	pending := func() (n int) {
		list, err := store.MigrateStatus(ctx, url)
		require.NoError(t, err)
		require.NotEmpty(t, list)
		for _, m := range list {
			require.NotContains(t, m.Name, "/")
			if m.Applied.IsZero() {
				n++
			}
		}
		return n
	}
	require.NoError(t, store.Migrate(ctx, url))
	require.Zero(t, pending())
	require.NoError(t, store.Migrate(ctx, url), "again")

	require.NoError(t, store.MigrateDown(ctx, url))
	require.Equal(t, 1, pending())
	require.NoError(t, store.MigrateDown(ctx, url))
	require.Equal(t, 2, pending())
	require.NoError(t, store.MigrateDown(ctx, url), "with none left")

	conn := testkit.Conn(t, url)
	left := one[int64](t, conn, `select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace
		where nspname in ('public', 'freshet') and relkind = 'r' and relname <> 'goose_db_version'`)
	require.Zero(t, left, "tables left over")
	require.NoError(t, store.Migrate(ctx, url))
	require.Zero(t, pending())
}

// Two nodes that start at once take turns; neither fails.
func TestMigrate_concurrently(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Database(t)
	var nodes errgroup.Group
	for range 3 {
		nodes.Go(func() error { return store.Migrate(ctx, url) })
	}
	require.NoError(t, nodes.Wait())
}

// A migration that can't have its lock gives up, since the application's
// statements queue behind it.
func TestMigrate_lockTimeout(t *testing.T) {
	ctx, url := testkit.Context(t), migrated(t)
	defer store.SetMigrateLockTimeout(50 * time.Millisecond)()
	holder := testkit.Conn(t, url)
	_, err := holder.Exec(ctx, "begin; select from freshet.incarnation")
	require.NoError(t, err)
	require.ErrorContains(t, store.MigrateDown(ctx, url), "lock timeout")
	_, err = holder.Exec(ctx, "rollback")
	require.NoError(t, err)
	require.NoError(t, store.MigrateDown(ctx, url))
}

// Any role that uses the pool may read the epoch.
func TestMigrate_grants(t *testing.T) {
	conn := testkit.Conn(t, migrated(t))
	_, err := conn.Exec(testkit.Context(t), "create role app; set role app; select from freshet.incarnation; select freshet.uuidv7()")
	require.NoError(t, err)
	_, err = conn.Exec(testkit.Context(t), "update freshet.incarnation set epoch = 1")
	require.ErrorContains(t, err, "permission denied")
	_, err = conn.Exec(context.WithoutCancel(testkit.Context(t)), "reset role; drop role app")
	require.NoError(t, err)
}

func TestMigrate_badURL(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, store.Migrate(testkit.Context(t), "postgres://%zz"), "database URL")
	_, err := store.MigrateStatus(testkit.Context(t), "host=/nonexistent")
	require.ErrorContains(t, err, "migration status")
}
