package pgembed

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A standby shows what its primary has and what it then writes, also when either was
// away; it is made anew by the next start, and one that was promoted is left alone.
func TestStandby(t *testing.T) {
	t.Parallel()
	of := config(t)
	of.Settings = map[string]string{"fsync": "off", "max_connections": "37", "wal_keep_size": "128MB"}
	primary := start(t, of)
	mark(t, primary.URL(""))
	c := config(t)
	standby, err := StartStandby(testContext(t), c, primary)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, standby) })
	require.Equal(t, "true", query(t, standby.URL(""), "select pg_is_in_recovery()::text"))
	require.Equal(t, "37", query(t, standby.URL(""), "show max_connections"), "the primary's settings")
	shows := func(n string) {
		t.Helper()
		require.Eventually(t, func() bool {
			return query(t, standby.URL(""), "select count(*)::text from pg_tables where tablename like 'later%'") == n
		}, 30*time.Second, 20*time.Millisecond)
	}
	query(t, primary.URL(""), "create table later1 (); select ''")
	shows("1")
	standby.Kill()
	query(t, primary.URL(""), "create table later2 (); select ''")
	require.NoError(t, standby.Restart(testContext(t)))
	shows("2")
	primary.Kill()
	require.NoError(t, primary.Restart(testContext(t)))
	query(t, primary.URL(""), "create table later3 (); select ''")
	shows("3")

	stop(t, standby)
	left := filepath.Join(standby.DataDir(), "left")
	require.NoError(t, os.WriteFile(left, nil, 0o600))
	standby, err = StartStandby(testContext(t), c, primary)
	require.NoError(t, err)
	require.NoFileExists(t, left)
	shows("3")
	require.Equal(t, "true", query(t, standby.URL(""), "select pg_promote()::text"))
	stop(t, standby)
	_, err = StartStandby(testContext(t), c, primary)
	require.ErrorContains(t, err, "is no standby's, or was promoted")
	require.FileExists(t, filepath.Join(standby.DataDir(), "PG_VERSION"))
}
