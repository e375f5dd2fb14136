package scaffold

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is written is the service of this folder, all of it, and no trace of where it
// comes from.
func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "new")
	require.NoError(t, Write(dir, "example.org/things", "tasks"))
	files := 0
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(filepath.Join(dir, path))
		require.NoError(t, err)
		require.NotContains(t, string(text), "internal/scaffold", path)
		require.NotContains(t, path, ".tmpl")
		return nil
	}))
	require.Equal(t, sources(t), files, "a file of the folder service is not embedded")
	main, err := os.ReadFile(filepath.Join(dir, "main.go"))
	require.NoError(t, err)
	require.Contains(t, string(main), `"example.org/things/tasks"`)
	require.FileExists(t, filepath.Join(dir, ".gitignore"))
}

// sources counts the files of the service that are no outcome of running it.
func sources(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, filepath.WalkDir("service", func(_ string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "dist"):
			return fs.SkipDir
		case !entry.IsDir():
			n++
		}
		return nil
	}))
	return n
}

func TestWrite_overwritesNothing(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(mine, []byte("mine"), 0o600))
	require.ErrorContains(t, Write(dir, "example.org/things", "tasks"), "is not empty")
	text, err := os.ReadFile(mine)
	require.NoError(t, err)
	require.Equal(t, "mine", string(text))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// The page is written with the versions that this repository tests.
func TestWrite_versions(t *testing.T) {
	type packages struct {
		Version                                             string
		Dependencies, DevDependencies, OptionalDependencies map[string]string
	}
	read := func(path string) (p packages) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &p))
		return p
	}
	ours := make(map[string]string)
	for _, path := range []string{"package.json", "demo/package.json", "packages/query/package.json"} {
		p := read(filepath.Join("../../web", path))
		for _, of := range []map[string]string{p.Dependencies, p.DevDependencies, p.OptionalDependencies} {
			for name, version := range of {
				ours[name] = version
			}
		}
	}
	page := read("service/web/package.json")
	for _, of := range []map[string]string{page.Dependencies, page.DevDependencies, page.OptionalDependencies} {
		for name, version := range of {
			require.Equal(t, ours[name], strings.TrimPrefix(version, "="), name)
		}
	}
}
