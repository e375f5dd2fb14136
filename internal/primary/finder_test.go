package primary_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/primary"
	"github.com/freshet-dev/freshet/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A real server: what it says of itself, also to a role that may not know its system;
// and one that it isn't there.
func TestFinder(t *testing.T) {
	t.Parallel()
	ctx, server := testkit.Context(t), testkit.NewServer(t, nil)
	url := server.URL("postgres")
	testkit.Exec(t, url, `create role plain login; revoke execute on function pg_control_system() from public`)
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	config.User = "plain"
	nowhere := *config
	config.Fallbacks = append(config.Fallbacks, &pgconn.FallbackConfig{Host: "/nowhere", Port: config.Port})
	found, err := primary.NewFinder(testkit.Logger(t)).Narrow(ctx, config)
	require.NoError(t, err)
	require.Equal(t, config.Host, found.Host)
	require.Empty(t, found.Fallbacks)

	nowhere.Host, nowhere.Fallbacks = "/nowhere", []*pgconn.FallbackConfig{{Host: "/nowhere either", Port: config.Port}}
	_, err = primary.NewFinder(nil).Narrow(ctx, &nowhere)
	require.ErrorContains(t, err, "none of the database URL's hosts is a primary")
}
