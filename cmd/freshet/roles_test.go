package main

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// TestServe_F71_threeRoles: one role sets up, one captures, one serves, each with
// what docs/operations.md and doctor say and nothing more.
func TestServe_F71_threeRoles(t *testing.T) {
	server := testkit.NewServer(t, map[string]string{"fsync": "off"})
	database := server.Database(t)
	as := func(role string) string { return strings.Replace(database, "postgres@", role+"@", 1) }
	testkit.Exec(t, database, `create role owner login; create role capture login; create role app login;
create schema freshet authorization owner; grant create on schema public to owner;
do $$ begin execute format('grant create on database %I to owner', current_database()); end $$`)
	code, stdout, stderr := runs(t, "migrate", "up", "--database-url", as("owner"))
	require.Equal(t, exitOK, code, stdout+stderr)

	// What the capture role lacks is in doctor's comments.
	t.Setenv("FRESHET_CAPTURE_URL", as("capture"))
	t.Setenv("DATABASE_URL", as("app"))
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "-- to be run by the owner of the schema freshet (owner):")
	for line := range strings.SplitSeq(stdout, "\n") {
		if sql, ok := strings.CutPrefix(line, "--   "); ok {
			testkit.Exec(t, database, sql)
		}
	}
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitOK, code, stdout)

	testkit.Exec(t, as("owner"), `grant select, insert, update, delete on messages to app`)
	serveByRoles(t)
}

// TestServe_F71_printedGrants: what `doctor --print-grants` prints is all that it takes
// to migrate, set up, capture and serve, each as a role of its own.
func TestServe_F71_printedGrants(t *testing.T) {
	server := testkit.NewServer(t, map[string]string{"fsync": "off", "wal_keep_size": "256MB"})
	database := server.Database(t)
	as := func(role string) string { return strings.Replace(database, "postgres@", role+"@", 1) }
	replica := server.Standby(t).URL(t, as("freshet_app"))
	printed := func() (script string) {
		code, script, stderr := runs(t, "doctor", "--print-grants", "--database-url", database, "--replica-url", replica)
		require.Equal(t, exitOK, code, script+stderr)
		testkit.Exec(t, database, script)
		return script
	}
	require.Contains(t, printed(), "-- to be run by a superuser (at a managed provider: in its console):\ncreate role \"freshet_owner\" login;")
	code, stdout, stderr := runs(t, "migrate", "up", "--set-up", "--database-url", as("freshet_owner"))
	require.Equal(t, exitOK, code, stdout+stderr)
	require.Contains(t, printed(), "-- to be run by freshet_owner:\ngrant select, insert, update on \"freshet\".\"incarnation\" to \"freshet_capture\";")
	require.Equal(t, "-- contract: messages.v1 (built in)\n-- The roles lack nothing.\n", printed())

	t.Setenv("FRESHET_CAPTURE_URL", as("freshet_capture"))
	t.Setenv("DATABASE_URL", as("freshet_app"))
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitOK, code, stdout)
	serveByRoles(t, "--replica-url", replica)
	require.EventuallyWithT(t, func(c *assert.CollectT) { // once it has replayed that
		code, stdout, _ = runs(t, "doctor", "--replica-url", replica)
		assert.Equal(c, exitOK, code)
		assert.NotContains(c, stdout, "no read runs on the replica")
	}, 20*time.Second, 100*time.Millisecond)
	testkit.Exec(t, database, `revoke pg_read_all_stats from freshet_app`)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, stdout, _ = runs(t, "doctor", "--replica-url", replica)
		assert.Contains(c, stdout, "its role may not see which timeline it follows")
		assert.Contains(c, stdout, `grant pg_read_all_stats to "freshet_app";`)
	}, 20*time.Second, 100*time.Millisecond)
	code, stdout, _ = runs(t, "doctor", "--print-grants", "--database-url", database, "--replica-url", server.URL("postgres"))
	require.Equal(t, exitOK, code, stdout)
	require.Contains(t, stdout, "grant pg_read_all_stats to \"freshet_app\"")
	require.Contains(t, stdout, "is the role postgres's: it is to be that of the services, freshet_app")
}

// serveByRoles serves as the environment and flags say, and has a message written and read.
func serveByRoles(t *testing.T, flags ...string) {
	t.Helper()
	url, stop := serving(t, append([]string{"--no-migrate", "--max-conns=4"}, flags...)...)
	call := func(method, body string) (int, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/messages.v1.MessageService/"+method, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		transport := new(http.Transport)
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		var text bytes.Buffer
		_, err = text.ReadFrom(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, text.String()
	}
	status, text := call("CreateMessage", `{"parent":"conversations/7","message":{"author":"ada","body":"by a role of its own"}}`)
	require.Equal(t, http.StatusOK, status, text)
	status, text = call("ListMessages", `{"parent":"conversations/7"}`)
	require.Equal(t, http.StatusOK, status, text)
	require.Contains(t, text, "by a role of its own")
	require.Equal(t, exitOK, stop())
}
