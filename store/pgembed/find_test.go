package pgembed

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// fake makes a folder with programs that say they are of a version, and do nothing else.
func fake(t *testing.T, prefix, version string) string {
	t.Helper()
	bin := filepath.Join(prefix, "bin")
	require.NoError(t, os.MkdirAll(bin, 0o755))
	script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
	for _, name := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755))
	}
	return bin
}

func TestFind_newestFirst(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	for _, version := range []string{"14.9", "15.3", "18beta2", "17.1 (Debian 17.1-1)"} {
		fake(t, filepath.Join(dir, "pg-"+version[:2]), version)
	}
	newest := filepath.Join(dir, "pg-18")
	require.NoError(t, os.Symlink(newest, filepath.Join(dir, "pg-latest"))) // the same once more
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "pg-clients", "bin"), 0o755))
	broken := fake(t, filepath.Join(dir, "pg-broken"), "19.1")
	require.NoError(t, os.WriteFile(filepath.Join(broken, "postgres"), []byte("#!/bin/sh\nexit 127\n"), 0o755))
	other := fake(t, filepath.Join(folder(t), "elsewhere"), "16.2")
	pgConfig := filepath.Join(dir, "pg_config")
	require.NoError(t, os.WriteFile(pgConfig, []byte("#!/bin/sh\n[ \"$1\" = --bindir ] && echo "+other+"\n"), 0o755))

	c := Config{NPMDir: dir, search: &search{pgConfig: []string{filepath.Join(dir, "missing"), pgConfig}, globs: []string{filepath.Join(dir, "*", "bin")}}}
	found, err := Find(testContext(t), c)
	require.NoError(t, err)
	var versions []string
	for _, in := range found {
		versions = append(versions, fmt.Sprint(in.Major, " ", in.Version))
	}
	require.Equal(t, []string{"18 18beta2", "17 17.1", "16 16.2", "15 15.3"}, versions)
}

func TestFind_nothing(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	fake(t, filepath.Join(dir, "old"), "13.4")
	c := Config{DataDir: filepath.Join(dir, "data"), RootDir: filepath.Join(dir, "root"), NPMDir: filepath.Join(dir, "node_modules"),
		search: &search{globs: []string{filepath.Join(dir, "*", "bin")}}}
	_, err := Start(testContext(t), c)
	var notFound *NotFoundError
	require.ErrorAs(t, err, &notFound)
	quoted(t, err, "--postgres-bin", "FRESHET_POSTGRES_BIN", "install one on this system", npmPackage(), "make deps", c.NPMDir,
		"--database-url", "too old: PostgreSQL 13.4")
}

func TestFind_explicit(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	c := config(t)
	c.Binaries = dir
	_, err := Start(testContext(t), c)
	var notFound *NotFoundError
	require.ErrorAs(t, err, &notFound)
	require.ErrorIs(t, err, fs.ErrNotExist)
	quoted(t, err, "no usable PostgreSQL in "+dir, "install one on this system")

	c.Binaries = fake(t, dir, "14.2")
	_, err = Start(testContext(t), c)
	quoted(t, err, "it is PostgreSQL 14.2")

	c.Binaries = ""
	found, err := Find(testContext(t), c)
	require.NoError(t, err)
	c.Binaries, c.search = found[0].BinDir, &search{}
	start(t, c)
}

func TestStart_otherMajorVersion(t *testing.T) {
	t.Parallel()
	c := config(t)
	s := start(t, c)
	mark(t, s.URL(""))
	major, err := s.site.clusterMajor()
	require.NoError(t, err)
	stop(t, s)

	file := filepath.Join(s.DataDir(), "PG_VERSION")
	require.NoError(t, os.WriteFile(file, []byte("9\n"), 0o600))
	_, err = Start(testContext(t), c)
	var version *VersionError
	require.ErrorAs(t, err, &version)
	require.Equal(t, 9, version.Major)
	quoted(t, err, s.DataDir(), "made by PostgreSQL 9", "pg_upgrade", "--data-dir", "--postgres-bin")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "9\n", string(text), "untouched")

	// A newer installation doesn't take over while the old one is there.
	require.NoError(t, os.WriteFile(file, fmt.Appendln(nil, major), 0o600))
	where := *systemSearch()
	where.globs = append(where.globs, fake(t, folder(t), fmt.Sprint(major+1, ".0")))
	c.search = &where
	found, err := Find(testContext(t), c)
	require.NoError(t, err)
	require.Greater(t, found[0].Major, major)
	again := start(t, c)
	require.Equal(t, clean, query(t, again.URL(""), marks))

	require.NoError(t, os.WriteFile(file+".x", []byte("garbage"), 0o600))
	stop(t, again)
	require.NoError(t, os.Rename(file+".x", file))
	_, err = Start(testContext(t), c)
	quoted(t, err, `holds "garbage"`)
}

// unpacked copies the npm package as npm unpacks it: no links, nothing executable. It returns the
// node_modules folder.
func unpacked(t *testing.T) (string, bool) {
	t.Helper()
	in, err := findNPM(testContext(t), npmDir(t))
	if !prerequisite(t, err == nil, "the npm package "+npmPackage()+" isn't installed; `make deps` does") {
		return "", false
	}
	modules := folder(t)
	pkg := filepath.Join(modules, filepath.FromSlash(npmPackage()))
	require.NoError(t, makeDir(filepath.Dir(pkg), 0o755))
	native := filepath.Dir(in.BinDir)
	require.NoError(t, makeDir(pkg, 0o755))
	require.NoError(t, copyFile(filepath.Join(native, "..", "package.json"), filepath.Join(pkg, "package.json")))
	require.NoError(t, copyInstallation(in, filepath.Join(pkg, "native")))
	require.NoError(t, filepath.WalkDir(pkg, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Type() == fs.ModeSymlink:
			return os.Remove(path)
		case entry.Type().IsRegular():
			return os.Chmod(path, 0o644)
		}
		return nil
	}))
	require.NoError(t, os.Chmod(modules, 0o755))
	return modules, true
}

func TestNPM_restoresWhatNpmDrops(t *testing.T) {
	t.Parallel()
	modules, ok := unpacked(t)
	if !ok {
		return
	}
	c := config(t)
	c.NPMDir, c.search = modules, &search{}
	in, err := findNPM(t.Context(), modules)
	require.NoError(t, err)
	_, err = inspect(t.Context(), in.BinDir, nil)
	require.Error(t, err, "as it comes it doesn't run")
	s := start(t, c)
	require.Equal(t, s.Version(), query(t, s.URL(""), "select split_part(current_setting('server_version'), ' ', 1)"))
	stop(t, s)
	start(t, c) // restored already
}

// A package that we may not write to is copied. (Root may always write.)
func TestNPM_readOnly(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		return // TestAsNormalUser runs it
	}
	modules, ok := unpacked(t)
	if !ok {
		return
	}
	var dirs []string
	require.NoError(t, filepath.WalkDir(modules, func(path string, entry fs.DirEntry, err error) error {
		if entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	}))
	mode := func(m fs.FileMode) {
		for _, dir := range dirs {
			require.NoError(t, os.Chmod(dir, m))
		}
	}
	c := config(t)
	c.NPMDir, c.search = modules, &search{}
	mode(0o555)
	defer mode(0o755)
	s := start(t, c)
	require.Equal(t, "1", query(t, s.URL(""), "select 1"))
	copies, err := filepath.Glob(filepath.Join(s.site.home, "binaries-*"))
	require.NoError(t, err)
	require.Len(t, copies, 1)
}

func TestRestoreNPM_refusesLinksOutOfThePackage(t *testing.T) {
	t.Parallel()
	for _, list := range []string{
		`[{"source":"native/lib/a","target":"native/../../b"}]`,
		`[{"source":"../x","target":"native/b"}]`,
		`[{"source":"native/lib/a","target":"/etc/b"}]`,
		`nonsense`,
	} {
		native := folder(t)
		require.NoError(t, os.WriteFile(filepath.Join(native, "pg-symlinks.json"), []byte(list), 0o600))
		require.ErrorContains(t, restoreNPM(native), "pg-symlinks.json")
	}
	require.ErrorIs(t, restoreNPM(folder(t)), fs.ErrNotExist)
}

func TestFind_isCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := fake(t, folder(t), "18.1")
	for name, c := range map[string]Config{
		"the folder named":       {Binaries: dir},
		"the system's":           {NPMDir: folder(t), search: &search{globs: []string{dir}}},
		"nothing to find at all": {NPMDir: folder(t), search: &search{}},
	} {
		_, err := Find(ctx, c)
		require.ErrorIs(t, err, context.Canceled, name)
		var notFound *NotFoundError
		require.NotErrorAs(t, err, &notFound, name)
	}
}

func TestFind_major(t *testing.T) {
	t.Parallel()
	c := config(t)
	where := *systemSearch()
	where.globs = append(where.globs, fake(t, folder(t), "99.1"))
	c.search = &where
	c.Major = 99
	found, err := Find(testContext(t), c)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "99.1", found[0].Version)
	c.Major = 98
	_, err = Find(testContext(t), c)
	quoted(t, err, "of version 98", "what there is: PostgreSQL 99.1")
}
