package primary_test

import (
	"strconv"
	"testing"
	"time"

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

// F86: the primary that was found the last time hangs, and its standby was promoted: that
// one is taken without waiting for the other's answer for longer than a moment.
func TestFinder_F86_promotedWhileTheOtherHangs(t *testing.T) {
	t.Parallel()
	ctx, server := testkit.Context(t), testkit.NewServer(t, map[string]string{"fsync": "off"})
	standby := server.Standby(t)
	config, err := pgx.ParseConfig(server.URL("postgres"))
	require.NoError(t, err)
	port, err := strconv.ParseUint(standby.Port(), 10, 16)
	require.NoError(t, err)
	config.Fallbacks = append(config.Fallbacks, &pgconn.FallbackConfig{Host: standby.Host(), Port: uint16(port)})
	finder := primary.NewFinder(testkit.Logger(t))
	found, err := finder.Narrow(ctx, config)
	require.NoError(t, err)
	require.Equal(t, config.Host, found.Host)

	server.Freeze(t)
	standby.Promote(t)
	var took time.Duration
	require.Eventually(t, func() bool { // an answer counts for a second
		began := time.Now()
		found, err = finder.Narrow(ctx, config)
		took = time.Since(began)
		return err == nil && found.Host == standby.Host()
	}, 20*time.Second, time.Millisecond)
	require.Less(t, took, 2500*time.Millisecond, "a host that was not silent before has 3 s else")
}
