package testkit

import (
	"fmt"
	"net"
	"net/http"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// WebProxies are the HTTP proxies that NewWebProxy can start.
var WebProxies = []string{"nginx", "haproxy", "caddy"}

// NewWebProxy starts a real proxy with a configuration of the user's, in which
// 127.0.0.1:8000 and 127.0.0.1:8001 are where it listens and 127.0.0.1:8080 is the
// server at upstream. For nginx it is what stands in the http block. It returns
// once the first address answers, and ends with the test. Without the program the
// test fails where CI is set, and is reported as not run elsewhere.
func NewWebProxy(t testing.TB, name, upstream, config string) (first, second string) {
	t.Helper()
	path, err := osexec.LookPath(name)
	if err != nil {
		path, err = osexec.LookPath("/usr/sbin/" + name)
	}
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("NOT RUN: there is no %s; `make deps` installs it", name)
	}
	require.NoError(t, err, "`make deps` installs %s", name)

	dir, err := os.MkdirTemp("", name+"-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777)) //nolint:gosec // its workers run as another user
	first = net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
	second = net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
	config = strings.NewReplacer("127.0.0.1:8000", first, "127.0.0.1:8001", second, "127.0.0.1:8080", upstream).Replace(config)
	file := filepath.Join(dir, "config")
	var args []string
	switch name {
	case "nginx":
		config = "daemon off;\npid " + dir + "/pid;\nerror_log " + dir + "/log warn;\nworker_processes 1;\nevents {}\nhttp {\naccess_log off;\n" +
			nginxTemporary(dir) + config + "}\n"
		args = []string{"-p", dir, "-c", file, "-e", filepath.Join(dir, "log")}
	case "haproxy":
		args = []string{"-db", "-f", file}
	case "caddy":
		args = []string{"run", "--adapter", "caddyfile", "--config", file}
	default:
		require.FailNow(t, "no such proxy", name)
	}
	require.NoError(t, os.WriteFile(file, []byte(config), 0o644)) //nolint:gosec // no secret
	log, err := os.Create(filepath.Join(dir, "out"))              //nolint:gosec // ours
	require.NoError(t, err)
	defer func() { _ = log.Close() }()
	command := osexec.Command(path, args...) //nolint:gosec // found above
	command.Dir, command.Stdout, command.Stderr = dir, log, log
	command.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Signal(os.Interrupt) // nginx' workers go with it
		timer := time.AfterFunc(5*time.Second, func() { _ = command.Process.Kill() })
		_ = command.Wait()
		timer.Stop()
	})
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	if !eventually(func() bool {
		resp, err := client.Get("http://" + first + "/healthz") //nolint:noctx // it has a timeout
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}) {
		said, _ := os.ReadFile(log.Name())
		more, _ := os.ReadFile(filepath.Join(dir, "log"))
		require.FailNow(t, name+" doesn't answer", "%s%s", said, more)
	}
	return first, second
}

// nginxTemporary are the folders that nginx wants to write to.
func nginxTemporary(dir string) string {
	var directives strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&directives, "%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	return directives.String()
}

// ConfigIn returns the block of a Markdown file of this repository that is
// fenced as a language.
func ConfigIn(t testing.TB, file, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(), file))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "\n```"+language+"\n")
	require.True(t, found, "%s has no block in %s", file, language)
	block, _, found := strings.Cut(rest, "\n```")
	require.True(t, found)
	return block + "\n"
}
