package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/relay"
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
		{"nats://other:sesame@" + at, string(relay.FaultPermissions), exitFailed},
		{"nats://node:wrong-sesame@" + at, string(relay.FaultCredentials), exitFailed},
		{"nats://node:sesame@127.0.0.1:1", "nodes would not hear each other: connect to NATS: nats: no servers available for connection: " + string(relay.FaultUnreachable), exitFailed},
		{"nats://node:sesame@" + silent(t), string(relay.FaultSilent), exitFailed},
		{"http://node:sesame@127.0.0.1:1", "--nats-url: want servers of NATS: ", exitFailed},
	} {
		code, stdout, stderr := runs(t, "doctor", "--nats-url="+tt.url)
		require.Equal(t, tt.code, code, "%s: %s%s", tt.url, stdout, stderr)
		require.Contains(t, stdout, tt.says)
		require.NotContains(t, stdout+stderr, "sesame")
	}

	// Of several, those that are of no use are named: nodes go on without.
	code, stdout, stderr := runs(t, "doctor", "--nats-url=nats://node:sesame@"+at+",nats://node:sesame@127.0.0.1:1,nats://node:wrong-sesame@"+at)
	require.Equal(t, exitOK, code, "%s%s", stdout, stderr)
	const useless = "-- warning: --nats-url: one server is of no use, so nodes have the others only: nats://"
	require.Equal(t, 2, strings.Count(stdout, "warning"), stdout)
	require.Contains(t, stdout, useless+"127.0.0.1:1: connect to NATS: nats: no servers available for connection: "+string(relay.FaultUnreachable))
	require.Contains(t, stdout, useless+at+": connect to NATS: nats: Authorization Violation: "+string(relay.FaultCredentials))
	require.NotContains(t, stdout+stderr, "sesame")
}

// silent is the address of a server that takes connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // nobody accepts: the kernel does
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// Flags and files of NATS are looked at before anybody connects, and told by their flags:
// by serve, by config check and by doctor.
func TestNATS_flags(t *testing.T) {
	t.Setenv("DATABASE_URL", testkit.Migrated(t))
	code, _, stderr := runs(t, "migrate", "up", "--set-up")
	require.Equal(t, exitOK, code, stderr)
	const server = "--nats-url=nats://127.0.0.1:1 "
	for flags, want := range map[string]string{
		"--nats-creds=/none":                            "--nats-creds: want nothing, where no server of NATS is named",
		server + "--nats-creds=/none":                   "--nats-creds: want a file of credentials, as nsc makes them: open /none: no such file",
		server + "--nats-ca=/none":                      "--nats-ca: want a file of certificates in PEM: open /none: no such file",
		server + "--nats-ca=" + settingsFile(t, "a: b"): "--nats-ca: want a file of certificates in PEM: there is none in ",
		server + "--nats-cert=/none":                    "--nats-key: want the key of",
		server + "--nats-key=/none":                     "--nats-cert: want the certificate of",
		server + "--nats-cert=/none --nats-key=/none":   "--nats-cert: want a certificate in PEM, and its key: open /none: no such file",
		server + "--nats-subject=a..b":                  "--nats-subject: want up to 100 letters",
		"--nats-url=4222":                               "--nats-url: want servers of NATS: ",
	} {
		for _, command := range []string{"serve", "config check", "doctor"} {
			code, stdout, stderr := runs(t, append(strings.Fields(command), strings.Fields(flags)...)...)
			exit := exitFailed
			if aFile := strings.Contains(want, "no such file") || strings.Contains(want, "there is none in"); command == "serve" && !aFile {
				exit = exitUsage // somebody may put a file there, and nothing else will get better
			}
			require.Equal(t, exit, code, "%s %s", command, flags)
			require.Contains(t, stdout+stderr, want, "%s %s", command, flags)
		}
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
