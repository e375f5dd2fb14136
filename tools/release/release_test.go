package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tiny is a program as small as one can be that writes a manual and completions.
// `make release/check` does with the real one what this test does.
const tiny = `package main

import "os"

func main() {
	if os.Args[1] == "man" {
		os.Mkdir(os.Args[2], 0o755)
		os.WriteFile(os.Args[2]+"/freshet.1", []byte("a manual"), 0o644)
		return
	}
	os.Stdout.WriteString(os.Args[2] + " completes")
}
`

// A commit gives the same bytes in another folder, for another user's umask, in
// another time zone, whenever its files were written.
func TestBuild_sameBytes(t *testing.T) {
	origin := repository(t)
	first := built(t, cloned(t, origin, "here"), nil)

	t.Setenv("TZ", "Pacific/Auckland")
	t.Setenv("LC_ALL", "C")
	t.Setenv("USER", "somebody")
	before := syscall.Umask(0o077)
	defer syscall.Umask(before)
	second := built(t, cloned(t, origin, "somewhere/quite/else"), nil)

	require.Len(t, first, 2)
	require.Equal(t, first, second)

	var names []string
	archive, err := gzip.NewReader(bytes.NewReader(first["freshet_1.2.3_linux_amd64.tar.gz"]))
	require.NoError(t, err)
	files := tar.NewReader(archive)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		names = append(names, header.Name)
		require.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), header.ModTime.UTC())
		require.Equal(t, header.Name == "freshet_1.2.3_linux_amd64/freshet", header.Mode == 0o755)
	}
	require.Equal(t, strings.Fields(`freshet_1.2.3_linux_amd64/CHANGELOG.md freshet_1.2.3_linux_amd64/LICENSE freshet_1.2.3_linux_amd64/README.md
		freshet_1.2.3_linux_amd64/completions/freshet.bash freshet_1.2.3_linux_amd64/completions/freshet.fish freshet_1.2.3_linux_amd64/completions/freshet.zsh
		freshet_1.2.3_linux_amd64/freshet freshet_1.2.3_linux_amd64/man/man1/freshet.1`), names)
}

func TestBuild_refuses(t *testing.T) {
	clone := cloned(t, repository(t), "clone")
	require.NoError(t, os.WriteFile(filepath.Join(clone, "main.go"), []byte(tiny+"// changed\n"), 0o600))
	require.ErrorIs(t, releaseOf(t, clone).build(t.Context()), errDirty)
	require.NotEmpty(t, built(t, clone, func(r *release) { r.dirty = true }))

	require.NoError(t, os.RemoveAll(filepath.Join(clone, ".git")))
	require.ErrorContains(t, releaseOf(t, clone).build(t.Context()), "in a clone, with Git")

	manifest := filepath.Join(t.TempDir(), "package.json")
	require.NoError(t, os.WriteFile(manifest, []byte(`{"version": "1.2.3"}`), 0o600))
	require.ErrorContains(t, sameVersion(manifest, "v1.2.4"), "change one of them")
	require.NoError(t, sameVersion(manifest, "v1.2.3"))
	require.NoError(t, sameVersion(manifest, "v1.2.5-0.20260102030405-0123456789ab+dirty"))

	mistaken := releaseOf(t, clone)
	mistaken.targets = []string{"linux"}
	require.Error(t, mistaken.build(t.Context()))
}

// built runs a release, and returns its files.
func built(t *testing.T, root string, change func(*release)) map[string][]byte {
	t.Helper()
	r := releaseOf(t, root)
	if change != nil {
		change(&r)
	}
	require.NoError(t, r.build(t.Context()))

	cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
	cmd.Dir = r.out
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, string(said))

	all := make(map[string][]byte)
	names, err := os.ReadDir(r.out)
	require.NoError(t, err)
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(r.out, name.Name()))
		require.NoError(t, err)
		all[name.Name()] = text
	}
	return all
}

func releaseOf(t *testing.T, root string) release {
	t.Helper()
	return release{root: root, out: t.TempDir(), main: ".", targets: []string{"linux/amd64"}, log: t.Output()}
}

// repository is one with a single commit, which is a version.
func repository(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/tiny\n\ngo 1.26\n", "main.go": tiny,
		"LICENSE": "none", "README.md": "tiny", "CHANGELOG.md": "none yet",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-q", "-m", "tiny"}, {"tag", "v1.2.3"}} {
		git(t, root, args...)
	}
	return root
}

func cloned(t *testing.T, origin, name string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), name)
	git(t, ".", "clone", "-q", "--no-local", origin, root)
	return root
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=tiny", "-c", "user.email=tiny@example.com"}, args...)...) //nolint:gosec // a test
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z")
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, string(said))
}
