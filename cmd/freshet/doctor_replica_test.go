package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// A replica that can't serve is a warning, which says why: the primary serves then.
func TestDoctor_replica(t *testing.T) {
	database := testkit.Migrated(t)
	t.Setenv("DATABASE_URL", database)
	code, _, stderr := runs(t, "migrate", "up", "--set-up")
	require.Equal(t, exitOK, code, stderr)
	testkit.Exec(t, database, `insert into freshet.incarnation (epoch, system_identifier, timeline, postmaster_start)
		select 1, system_identifier, 1, pg_postmaster_start_time() from pg_control_system()`)
	code, stdout, _ := runs(t, "doctor", "--replica-url=postgres://u:sesame@127.0.0.1:1/none?sslmode=disable", "--replica-url="+database)
	require.Equal(t, exitOK, code, stdout)
	require.Contains(t, stdout, "-- warning: no read runs on the replica 127.0.0.1:1: it can't be reached")
	require.Contains(t, stdout, "it is no standby (any more)")
	require.NotContains(t, stdout, "sesame")
	code, stdout, _ = runs(t, "doctor", "--replica-url=postgres://u:sesame@%zz")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "--replica-url: ")
	require.NotContains(t, stdout, "sesame")
}
