package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every command has a page, and mandoc nothing to say.
func TestMan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	code, _, stderr := runs(t, "man", dir)
	require.Equal(t, exitOK, code, stderr)
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	require.NoError(t, err)
	require.Contains(t, pages, filepath.Join(dir, "freshet.1"))
	require.Contains(t, pages, filepath.Join(dir, "freshet-migrate-up.1"))
	require.NotContains(t, pages, filepath.Join(dir, "freshet-complete.1"))

	lint, _ := exec.CommandContext(t.Context(), "mandoc", append([]string{"-T", "lint", "-W", "warning"}, pages...)...).CombinedOutput() //nolint:gosec // a test
	for line := range strings.Lines(string(lint)) {
		// A date would make the pages of two builds differ.
		require.Contains(t, line, "missing date")
	}
	require.NotEmpty(t, lint)

	text, err := exec.CommandContext(t.Context(), "mandoc", "-T", "ascii", "-O", "width=400", filepath.Join(dir, "freshet-serve.1")).Output() //nolint:gosec // a test
	require.NoError(t, err)
	require.Contains(t, unbolded(string(text)), "--admin-addr")
	require.Contains(t, unbolded(string(text)), "FRESHET_ADMIN_ADDR")

	// A page of what roff would take for its own.
	require.Equal(t, `\&.so /etc/passwd \e \-`, roff(`.so /etc/passwd \ -`))
}

// unbolded is text without the overstriking that makes it bold.
func unbolded(text string) string {
	var plain []rune
	for _, r := range text {
		if r == '\b' && len(plain) > 0 {
			plain = plain[:len(plain)-1]
			continue
		}
		plain = append(plain, r)
	}
	return string(plain)
}
