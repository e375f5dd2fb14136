package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// A database of the time when Freshet had the message service's table among its
// own migrations: it comes up with its data, serves it, and goes down.
func TestDatabase_fromOneRecord(t *testing.T) {
	database := testkit.Database(t)
	testkit.OneRecord(t, database, 3)
	testkit.Exec(t, database, `insert into messages (conversation, author, body) values ('7', 'ann', 'from before')`)
	t.Setenv("DATABASE_URL", database)

	code, stdout, stderr := runs(t, "migrate", "up")
	require.Equal(t, exitOK, code, stdout+stderr)
	code, stdout, stderr = runs(t, "migrate", "status")
	require.Equal(t, exitOK, code, stderr)
	require.NotContains(t, stdout, "pending")
	require.Equal(t, 4, strings.Count(stdout, ".sql"), "each migration once: "+stdout)

	url, stop := serving(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/messages.v1.MessageService/ListMessages", strings.NewReader(`{"parent":"conversations/7"}`))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Contains(t, string(text), "from before")
	require.NotEmpty(t, resp.Header.Get("Freshet-Revision"))
	require.Equal(t, exitOK, stop())

	code, _, stderr = runs(t, "teardown")
	require.Equal(t, exitOK, code, stderr)
	for _, name := range []string{"00001_messages.sql", "00004_incarnation_secret.sql", "00003_incarnation_database.sql", "00001_freshet.sql"} {
		code, stdout, stderr = runs(t, "migrate", "down", "--yes")
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stdout, name)
	}
	code, stdout, _ = runs(t, "migrate", "down", "--yes")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "no migration to take back")
}
