package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const freshet = "github.com/freshet-dev/freshet"

// `go install …/cmd/freshet@version` as somebody else runs it: of the last commit
// here, in the form that module proxies hand out. What is not committed, is ignored
// by Git, or belongs to a module within the module is not in it.
func TestGoInstall(t *testing.T) {
	root := filepath.Join(t.TempDir(), "clone")
	git(t, "../..", "clone", "-q", "--shared", ".", root)
	// A version of its own for each run: the cache of modules is everybody's.
	version := fmt.Sprintf("v0.0.1-test.%d", time.Now().UnixNano())
	proxy := publish(t, root, version)

	folder := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "install", freshet+"/cmd/freshet@"+version) //nolint:gosec // a test
	cmd.Dir = folder
	upstream, cache := goEnv(t, "GOPROXY"), goEnv(t, "GOMODCACHE")
	t.Cleanup(func() { forget(t, cache, version) })
	cmd.Env = append(os.Environ(), "GOBIN="+folder, "GOPROXY=file://"+proxy+","+upstream, "GONOSUMDB="+freshet, "GOFLAGS=-modcacherw -mod=readonly")
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, string(said))

	program := filepath.Join(folder, "freshet")
	said, err = exec.CommandContext(t.Context(), program, "version").CombinedOutput() //nolint:gosec // a test
	require.NoError(t, err, string(said))
	require.Contains(t, string(said), "freshet "+version+" ")
	said, err = exec.CommandContext(t.Context(), program, "lint").CombinedOutput() //nolint:gosec // a test
	require.NoError(t, err, string(said))
	require.Contains(t, string(said), "The contract is sound")
}

// publish lays a version out as the protocol of module proxies has it
// (https://go.dev/ref/mod#goproxy-protocol).
func publish(t *testing.T, root, version string) (proxy string) {
	t.Helper()
	proxy = t.TempDir()
	dir := filepath.Join(proxy, freshet, "@v")
	require.NoError(t, os.MkdirAll(dir, 0o750))
	archive, err := os.Create(filepath.Join(dir, version+".zip"))
	require.NoError(t, err)
	require.NoError(t, zip.CreateFromVCS(archive, module.Version{Path: freshet, Version: version}, root, "HEAD", ""))
	require.NoError(t, archive.Close())
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, version+".mod"), mod, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, version+".info"), []byte(`{"Version": "`+version+`"}`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "list"), []byte(version+"\n"), 0o600))
	return proxy
}

// forget takes the version out of the cache of modules.
func forget(t *testing.T, cache, version string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(cache, "cache/download", freshet, "@v", version+".*"))
	require.NoError(t, err)
	left = append(left, filepath.Join(cache, "cache/download", freshet, "@v/list"))
	for _, path := range append(left, filepath.Join(cache, freshet+"@"+version)) {
		require.NoError(t, os.RemoveAll(path))
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), "go", "env", name).Output() //nolint:gosec // a test
	require.NoError(t, err)
	return strings.TrimSpace(string(said))
}
