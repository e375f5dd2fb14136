package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// A replica that can't serve is a problem, which says why. One of which that can't be
// told yet is a warning.
func TestDoctor_replica(t *testing.T) {
	database := testkit.Migrated(t)
	t.Setenv("DATABASE_URL", database)
	code, _, stderr := runs(t, "migrate", "up", "--set-up")
	require.Equal(t, exitOK, code, stderr)
	code, stdout, _ := runs(t, "doctor", "--replica-url="+database)
	require.Equal(t, exitOK, code, stdout)
	require.Contains(t, stdout, "-- warning: --replica-url: no read runs on the replica")
	require.Contains(t, stdout, "Have a node run on the primary, then ask again")
	testkit.Exec(t, database, `insert into freshet.incarnation (epoch, system_identifier, timeline, postmaster_start)
		select 1, system_identifier, 1, pg_postmaster_start_time() from pg_control_system()`)
	code, stdout, _ = runs(t, "doctor", "--replica-url=postgres://u:sesame@127.0.0.1:1/none?sslmode=disable", "--replica-url="+database)
	require.Equal(t, exitFailed, code, stdout)
	require.NotContains(t, stdout, "The database is as the contract needs it")
	require.Contains(t, stdout, "-- problem: --replica-url: no read runs on the replica 127.0.0.1:1: it can't be reached")
	require.Contains(t, stdout, ". Is it up, are host and port right")
	require.Contains(t, stdout, "it is the primary itself. Leave it out, or name a streaming standby by its own address")
	require.NotContains(t, stdout, "pg_rewind", "nobody is to rebuild the primary")
	require.NotContains(t, stdout, "sesame")
	for wrong, says := range map[string]string{
		"--replica-url=postgres://u:sesame@%zz":                     "--replica-url: want a URL for each standby, as postgres://user:password@host:5432/name: ",
		"--replica-url=":                                            "it is empty",
		"--replica-url=" + database + "  --replica-url=" + database: "name each standby once",
	} {
		code, stdout, _ = runs(t, append([]string{"doctor"}, strings.Fields(wrong)...)...)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stdout, says)
		require.NotContains(t, stdout, "sesame")
	}
	at, err := pgx.ParseConfig(database)
	require.NoError(t, err)
	there := func(user, name string) string {
		return fmt.Sprintf("--replica-url=host=%s port=%d user=%s dbname=%s", at.Host, at.Port, user, name)
	}
	for url, says := range map[string]string{
		there("nobody_here", at.Database): "pg_hba.conf is its own",
		there(at.User, "none_of_it"):      "give the name of that of --database-url",
	} {
		code, stdout, _ = runs(t, "doctor", url)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stdout, says)
	}
}
