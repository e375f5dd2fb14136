package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// What init writes resolves and builds as a module of its own. (Its test runs in
// internal/scaffold/service.)
func TestInit_builds(t *testing.T) {
	t.Parallel()
	root := testkit.Root()
	dir := filepath.Join(t.TempDir(), "my things")
	code, out, _ := runs(t, "init", dir, "--module", "example.org/things", "--replace", root)
	require.Zero(t, code)
	command, _, found := strings.Cut(out[strings.Index(out, "  cd "):], "\n  make run\n")
	require.True(t, found, out)
	there, err := exec.CommandContext(t.Context(), "sh", "-c", command+" && pwd").CombinedOutput() //nolint:gosec // what the program says to run
	require.NoError(t, err, "%s: %s", command, there)
	require.Equal(t, dir+"\n", string(there))
	require.Contains(t, out, `Of "my things" is made the name my_things,`)
	for _, args := range [][]string{{"vet", "./..."}, {"mod", "tidy", "-diff"}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		said, err := cmd.CombinedOutput()
		require.NoError(t, err, "go %s: %s", args, said)
	}
	for file, want := range map[string]string{
		"main.go": `Slot:         "my_things"`, "proto/mythings/v1/tasks.proto": "package mythings.v1;", "third_party/freshet/v1/options.proto": "package freshet.v1;",
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		require.Contains(t, string(text), want)
	}
	code, _, said := runs(t, "init", dir, "--module", "example.org/things", "--replace", root)
	require.Equal(t, exitFailed, code)
	require.Contains(t, said, "is not empty")
}

// What is printed for a shell is one word of it, whatever a folder is named; what needs no
// quotes has none.
func TestShellWord(t *testing.T) {
	require.Equal(t, "/srv/my-things_2", shellWord("/srv/my-things_2"))
	for _, text := range []string{"a fleet", "Mary's", "$HOME", "a;b", "~", "*", "a\tb", `a\b`, "données", ""} {
		said, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+shellWord(text)).Output() //nolint:gosec // a test
		require.NoError(t, err, text)
		require.Equal(t, text, string(said))
	}
}

func TestInit_refuses(t *testing.T) {
	for _, module := range []string{"with space", "/absolute", "a//b", "ends/"} {
		code, _, said := runs(t, "init", filepath.Join(t.TempDir(), "x"), "--module", module, "--replace", testkit.Root())
		require.Equal(t, exitFailed, code)
		require.Contains(t, said, "--module")
	}
	for _, name := range []string{"42", "freshet", "données", strings.Repeat("x", 55)} {
		code, _, said := runs(t, "init", filepath.Join(t.TempDir(), "x"), "--name", name, "--replace", testkit.Root())
		require.Equal(t, exitFailed, code)
		require.Contains(t, said, "--name")
	}
	code, _, said := runs(t, "init", filepath.Join(t.TempDir(), "x"))
	require.Equal(t, exitFailed, code)
	require.Contains(t, said, "--replace", "a test's program is no released version")
}
