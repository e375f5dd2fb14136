package testkit

import (
	"os"
	osexec "os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Promtool runs Prometheus' own tool and returns what it says. Without it the test
// fails where CI is set, and is reported as not run elsewhere.
func Promtool(t testing.TB, stdin string, args ...string) (said string, err error) {
	t.Helper()
	path, err := osexec.LookPath("promtool")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("NOT RUN: there is no promtool; `make deps` installs it")
	}
	require.NoError(t, err, "`make deps` installs promtool")
	cmd := osexec.CommandContext(Context(t), path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
