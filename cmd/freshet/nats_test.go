package main

import (
	"fmt"
	"net"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// doctor says whether nodes would hear each other: a NATS that isn't there, and one that
// doesn't let them, are problems.
func TestDoctor_nats(t *testing.T) {
	t.Setenv("DATABASE_URL", testkit.Migrated(t))
	code, _, stderr := runs(t, "migrate", "up", "--set-up")
	require.Equal(t, exitOK, code, stderr)
	user := func(name string, subjects ...string) *natsserver.User {
		allowed := &natsserver.SubjectPermission{Allow: subjects}
		return &natsserver.User{Username: name, Password: "sesame", Permissions: &natsserver.Permissions{Publish: allowed, Subscribe: allowed}}
	}
	server, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true,
		Users: []*natsserver.User{user("node", "freshet.>"), user("other", "else.>")},
	})
	require.NoError(t, err)
	server.Start()
	t.Cleanup(func() {
		server.Shutdown()
		server.WaitForShutdown()
	})
	require.True(t, server.ReadyForConnections(10*time.Second))
	at := fmt.Sprintf("127.0.0.1:%d", server.Addr().(*net.TCPAddr).Port)
	for _, tt := range []struct {
		url, says string
		code      int
	}{
		{"nats://node:sesame@" + at, "", exitOK},
		{"nats://other:sesame@" + at, "NATS refuses freshet.>", exitFailed},
		{"nats://node:wrong-sesame@" + at, "Authorization Violation", exitFailed},
		{"nats://node:sesame@127.0.0.1:1", "nodes would not hear each other", exitFailed},
		{"http://node:sesame@127.0.0.1:1", "no URL of a server of NATS", exitFailed},
	} {
		code, stdout, stderr := runs(t, "doctor", "--nats-url="+tt.url)
		require.Equal(t, tt.code, code, "%s: %s%s", tt.url, stdout, stderr)
		require.Contains(t, stdout, tt.says)
		require.NotContains(t, stdout+stderr, "sesame")
	}
}

// What can't be meant is said in flags.
func TestServe_natsFlags(t *testing.T) {
	code, _, stderr := runs(t, "serve", "--database-url=postgres://127.0.0.1:1/none", "--nats-url=127.0.0.1:4222")
	require.NotEqual(t, exitOK, code)
	require.Contains(t, stderr, "--nats-url: want servers of NATS")
	code, _, stderr = runs(t, "serve", "--database-url=postgres://127.0.0.1:1/none", "--nats-fallback")
	require.NotEqual(t, exitOK, code)
	require.Contains(t, stderr, "--nats-fallback: want nothing")
}
