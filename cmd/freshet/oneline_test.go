package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Where there is no database, one line says so, and names each address once: on a
// terminal, and in a node's log.
func TestUnreachable_oneLine(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	const address, another = "127.0.0.1:1 (127.0.0.1)", "127.0.0.1:2 (127.0.0.1)"
	const url, urls = "postgres://127.0.0.1:1/none", "postgres://127.0.0.1:1,127.0.0.1:2/none"
	for _, command := range []string{"doctor", "migrate status", "teardown", "adopt proto"} {
		for _, at := range []string{url, urls} {
			code, stdout, stderr := runs(t, append(strings.Fields(command), "--database-url="+at)...)
			require.NotEqual(t, exitOK, code, command)
			require.Empty(t, stdout, command)
			require.Equal(t, 1, strings.Count(stderr, address), "%s: %s", command, stderr)
			require.Equal(t, at == url, strings.Contains(stderr, "failed to connect"), "%s: of several it is said once", command)
			require.Equal(t, at == urls, strings.Count(stderr, another) == 1, "%s: %s", command, stderr)
			require.Equal(t, 1, strings.Count(stderr, "\n"), "%s: %s", command, stderr)
		}
	}
	for _, at := range []string{url, urls} {
		p := launchProgram(t, "--database-url="+at)
		require.Eventually(t, func() bool { return p.log.Contains("the database can't be reached yet") }, time.Minute, time.Millisecond)
		for line := range strings.Lines(p.log.String()) {
			require.NotContains(t, line, `\n`)
			require.LessOrEqual(t, strings.Count(line, address), 1, line)
		}
	}
}
