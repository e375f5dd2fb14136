package main

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Nodes with the same flags, but for the port, share a private Postgres: one runs it,
// the others join it, whoever was there first; it is there for as long as one of them
// is, whoever is killed or stopped; and whoever comes back joins.
func TestServe_privatePostgresOfSeveral(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	one, two := launchProgram(t, "--data-dir", dir), launchProgram(t, "--data-dir", dir) // at once, on an empty folder
	one.await(t)
	two.await(t)
	if one.log.Contains("joining it") {
		one, two = two, one
	}
	require.True(t, two.log.Contains("joining it"), "one of them runs it")
	require.False(t, one.log.Contains("joining it"))
	for _, p := range []*programUnderTest{one, two} {
		for line := range strings.Lines(p.log.String()) {
			if !strings.Contains(line, "the database system is starting up") { // said to whoever asks while it does
				require.NotContains(t, line, "level=WARN", "who joins leaves no trace in the other's log, where Postgres's is, nor has it to try twice")
			}
		}
	}
	// tells has from write, and a stream of to told.
	tells := func(from, to *programUnderTest) {
		t.Helper()
		e := newBrowser(t, to.url).follow(t, "7")
		code, text := newBrowser(t, from.url).say(t, "7", "hello")
		require.Equal(t, http.StatusOK, code, text)
		e.until(t, "invalidate")
	}
	tells(one, two)
	tells(two, one)
	// takesOver waits until a node has a Postgres again, which it runs itself.
	takesOver := func(p *programUnderTest) {
		t.Helper()
		require.Eventually(t, func() bool {
			status, _ := p.status(t, "/readyz")
			return p.log.Contains("this node runs it now") && p.log.Contains("ready again") && status == http.StatusOK
		}, time.Minute, 10*time.Millisecond)
		tells(p, p)
	}

	one.stop(t, syscall.SIGKILL)
	takesOver(two)
	runs := postmaster(t, dir)
	back := startProgram(t, "--data-dir", dir)
	require.True(t, back.log.Contains("joining it"))
	tells(back, two)
	require.Equal(t, runs, postmaster(t, dir), "it runs on for whoever comes back")

	two.stop(t, syscall.SIGINT)
	require.Zero(t, two.cmd.ProcessState.ExitCode())
	takesOver(back)
	_, text := newBrowser(t, back.url).list(t, "7")
	require.Equal(t, 5, strings.Count(text, "hello"), text)

	// On its way down a node takes nothing over.
	leaving := startProgram(t, "--data-dir", dir, "--drain=4s")
	require.NoError(t, leaving.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return leaving.log.Contains("serving on for a while") }, 20*time.Second, time.Millisecond)
	back.stop(t, syscall.SIGINT)
	leaving.wait(t)
	require.False(t, leaving.log.Contains("this node runs it now"))
	require.Zero(t, postmaster(t, dir), "the last one has stopped it")
}

// On the private Postgres another node's metrics find a port by themselves, unless
// somebody has said which one it is to be.
func TestServe_adminSpares(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	spares := func(args ...string) int {
		var c cli
		parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
		require.NoError(t, err)
		parsed, err := parser.Parse(append([]string{"serve"}, args...))
		require.NoError(t, err)
		return c.Serve.adminSpares(parsed, c.settings)
	}
	require.Equal(t, 9, spares())
	require.Equal(t, 9, spares("--addr=127.0.0.1:8081"))
	require.Zero(t, spares("--admin-addr=127.0.0.1:9090"))
	require.Zero(t, spares("--config", settingsFile(t, "admin-addr: 127.0.0.1:9090")))
	require.Zero(t, spares("--database-url=postgres://db/app"))
	t.Setenv("FRESHET_ADMIN_ADDR", "127.0.0.1:9090")
	require.Zero(t, spares())
}
