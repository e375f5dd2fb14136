package setup_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

func TestMigrate_upDownUp(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Database(t)
	pending := func() (n int) {
		list, err := setup.MigrateStatus(ctx, url)
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
	require.NoError(t, setup.Migrate(ctx, url))
	require.Zero(t, pending())
	require.NoError(t, setup.Migrate(ctx, url), "again")

	require.NoError(t, setup.MigrateDown(ctx, url))
	require.Equal(t, 1, pending())
	require.NoError(t, setup.MigrateDown(ctx, url))
	require.Equal(t, 2, pending())
	require.NoError(t, setup.MigrateDown(ctx, url), "with none left")

	var left int
	require.NoError(t, testkit.Conn(t, url).QueryRow(ctx, `select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace
		where nspname in ('public', 'freshet') and relkind = 'r' and relname <> 'goose_db_version'`).Scan(&left))
	require.Zero(t, left, "tables left over")
	require.NoError(t, setup.Migrate(ctx, url))
	require.Zero(t, pending())
}

// Records are read whatever the database has for DateStyle.
func TestMigrate_dateStyle(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Database(t)
	testkit.Exec(t, url, `do $$ begin execute format('alter database %I set datestyle = german', current_database()); end $$`)
	require.NoError(t, setup.Migrate(ctx, url))
	require.NoError(t, setup.Verify(ctx, url))
	list, err := setup.MigrateStatus(ctx, url)
	require.NoError(t, err)
	for _, m := range list {
		require.WithinDuration(t, time.Now(), m.Applied, 24*time.Hour)
	}
}

// Where nothing was migrated, whoever looks, or has nothing to take back, leaves
// nothing.
func TestMigrate_lookingWritesNothing(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Database(t)
	list, err := setup.MigrateStatus(ctx, url)
	require.NoError(t, err)
	require.NotEmpty(t, list)
	for _, m := range list {
		require.Zero(t, m.Applied)
	}
	require.NoError(t, setup.MigrateDown(ctx, url))
	testkit.Exec(t, url, `do $$ begin assert to_regnamespace('freshet') is null; end $$`)
}

// Two nodes that start at once take turns; neither fails.
func TestMigrate_concurrently(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Database(t)
	var nodes errgroup.Group
	for range 3 {
		nodes.Go(func() error { return setup.Migrate(ctx, url) })
	}
	require.NoError(t, nodes.Wait())
}

// A migration that can't have its lock gives up, since the application's
// statements queue behind it.
func TestMigrate_lockTimeout(t *testing.T) {
	ctx, url := testkit.Context(t), testkit.Migrated(t)
	defer setup.SetMigrateLockTimeout(50 * time.Millisecond)()
	holder := testkit.Conn(t, url)
	_, err := holder.Exec(ctx, "begin; select from freshet.incarnation")
	require.NoError(t, err)
	require.ErrorContains(t, setup.MigrateDown(ctx, url), "lock timeout")
	_, err = holder.Exec(ctx, "rollback")
	require.NoError(t, err)
	require.NoError(t, setup.MigrateDown(ctx, url))
}

// Any role that uses the pool may read the epoch.
func TestMigrate_grants(t *testing.T) {
	conn := testkit.Conn(t, testkit.Migrated(t))
	_, err := conn.Exec(testkit.Context(t), "create role app; set role app; select from freshet.incarnation; select freshet.uuidv7()")
	require.NoError(t, err)
	_, err = conn.Exec(testkit.Context(t), "update freshet.incarnation set epoch = 1")
	require.ErrorContains(t, err, "permission denied")
	_, err = conn.Exec(context.WithoutCancel(testkit.Context(t)), "reset role; drop role app")
	require.NoError(t, err)
}

func TestMigrate_badURL(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, setup.Migrate(testkit.Context(t), "postgres://%zz"), "database URL")
	_, err := setup.MigrateStatus(testkit.Context(t), "host=/nonexistent")
	require.ErrorContains(t, err, "migration status")
}
