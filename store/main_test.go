package store_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const epoch freshet.Epoch = 1_700_000_000

// migrated returns the URL of a database with all migrations and an epoch.
func migrated(t testing.TB) string {
	t.Helper()
	return testkit.Template(t, "migrated", prepare)
}

func prepare(ctx context.Context, url string) error {
	if err := testkit.Migrate(ctx, url); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `insert into freshet.incarnation (epoch, system_identifier, timeline, postmaster_start)
		values ($1, 'test', 1, pg_postmaster_start_time())`, int64(epoch))
	return err
}

// open opens a pool that the test closes.
func open(t testing.TB, c store.Config) *store.DB {
	t.Helper()
	if c.Logger == nil {
		c.Logger = testkit.Logger(t)
	}
	d, err := store.Open(testkit.Context(t), c)
	require.NoError(t, err)
	t.Cleanup(d.Close)
	return d
}

// setEpoch gives the database another epoch.
func setEpoch(t testing.TB, url string, e freshet.Epoch) {
	t.Helper()
	testkit.Exec(t, url, "update freshet.incarnation set epoch = $1", int64(e))
}

// one returns the single value of a query.
func one[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	rows, err := conn.Query(testkit.Context(t), sql, args...)
	require.NoError(t, err)
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err, sql)
	return value
}

// query returns the SQL of a generated query.
func query(t testing.TB, name string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testkit.Root(), "gen", "messagesdb", "*.sql.go"))
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if _, sql, ok := strings.Cut(string(text), "`-- name: "+name+" "); ok {
			sql, _, _ = strings.Cut(sql, "`")
			return "-- " + sql
		}
	}
	require.Fail(t, "no such query", name)
	return ""
}
