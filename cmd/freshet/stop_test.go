package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// programUnderTest is `freshet serve` as a process of its own.
type programUnderTest struct {
	cmd  *exec.Cmd
	url  string        // once it is ready
	done chan struct{} // closed when it has ended
	log  testkit.Buffer

	ready chan string
}

// startProgram returns when it is ready.
func startProgram(t *testing.T, args ...string) *programUnderTest {
	t.Helper()
	p := launchProgram(t, args...)
	p.await(t)
	return p
}

// launchProgram starts it.
func launchProgram(t *testing.T, args ...string) *programUnderTest {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	p := &programUnderTest{done: make(chan struct{}), ready: make(chan string, 1)}
	p.cmd = exec.CommandContext(testkit.Context(t), binary, append([]string{"serve", "--addr=127.0.0.1:0", "--admin-addr="}, args...)...)
	p.cmd.Env = environWithoutOurs()
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(&p.log, lines.Text())
			if _, url, ok := strings.Cut(lines.Text(), "msg=ready url="); ok {
				p.ready <- url
			}
		}
		_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // gone already: as well
		<-p.done
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
	return p
}

// await returns when it is ready.
func (p *programUnderTest) await(t *testing.T) {
	t.Helper()
	select {
	case p.url = <-p.ready:
	case <-p.done:
		require.FailNow(t, "it ended", p.log.String())
	case <-testkit.Context(t).Done():
		require.FailNow(t, "it did not get ready", p.log.String())
	}
}

// stop sends it a signal, and returns when it has ended.
func (p *programUnderTest) stop(t *testing.T, by syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(by))
	p.wait(t)
}

// wait returns when it has ended.
func (p *programUnderTest) wait(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
	case <-testkit.Context(t).Done():
		require.FailNow(t, "it did not end")
	}
}

// status asks for a path on a connection of its own; 0: nobody answers.
func (p *programUnderTest) status(t *testing.T, path string) (int, string) {
	t.Helper()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, p.url+path, nil)
	require.NoError(t, err)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// F80: by SIGTERM the server isn't ready any more at once, and serves on for the
// first half of --drain; then streams are told to come back, a request that never
// arrives is cut, and the program ends in order. SIGHUP ends nothing.
func TestServe_F80_SIGTERM(t *testing.T) {
	p := startProgram(t, "--drain=4s", "--database-url", testkit.Migrated(t))
	addr := strings.TrimPrefix(p.url, "http://")

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return p.log.Contains("nothing to reload") }, 20*time.Second, 10*time.Millisecond)

	stuck, err := new(net.Dialer).DialContext(testkit.Context(t), "tcp", addr)
	require.NoError(t, err)
	defer func() { _ = stuck.Close() }()
	_, err = io.WriteString(stuck, "POST /messages.v1.MessageService/CreateMessage HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{")
	require.NoError(t, err)
	stream, err := new(net.Dialer).DialContext(testkit.Context(t), "tcp", addr)
	require.NoError(t, err)
	defer func() { _ = stream.Close() }()
	_, err = io.WriteString(stream, "GET /events?topic=messages HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool {
		status, body := p.status(t, "/readyz")
		return status == http.StatusServiceUnavailable && body == "not ready: stopping\n"
	}, 20*time.Second, time.Millisecond, "the port is open still")
	status, _ := p.status(t, "/messages.v1.MessageService/ListConversations?connect=v1&encoding=json&message=%7B%7D")
	require.Equal(t, http.StatusOK, status, "served on")

	p.wait(t)
	require.Zero(t, p.cmd.ProcessState.ExitCode(), p.log.String())
	require.Contains(t, p.log.String(), "calls were cut", "the stuck one")
	require.NotContains(t, p.log.String(), "still running")
	heard, err := io.ReadAll(stream)
	require.NoError(t, err)
	require.Regexp(t, `retry: \d+\nid: \S+\nevent: frontier\ndata: .*\n\n\r\n0\r\n\r\n$`, string(heard), "a goodbye, and an end in good order")
}

// F80: a port that is taken is noticed before a Postgres is made.
func TestServe_F80_portInUse(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	dir := filepath.Join(t.TempDir(), "data")
	code, _, stderr := runs(t, "serve", "--addr", taken.Addr().String(), "--admin-addr=", "--data-dir", dir)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "--addr chooses another address")
	require.NotContains(t, stderr, "shutting down", "nothing was served")
	require.NoDirExists(t, dir)
	code, _, stderr = runs(t, "serve", "--addr=127.0.0.1:0", "--admin-addr", taken.Addr().String(), "--data-dir", dir)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "--admin-addr chooses another address")
	require.NotContains(t, stderr, "shutting down", "nothing was served")
	require.NoDirExists(t, dir)
}

// What ends a start is the last that is said: there was nobody to be told of the end.
func TestServe_neverServed(t *testing.T) {
	nobody := strings.Replace(testkit.Database(t), "postgres@", "nobody_here@", 1)
	code, _, stderr := runs(t, "serve", "--addr=127.0.0.1:0", "--admin-addr=", "--database-url", nobody)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "waiting for the database: ")
	require.NotContains(t, stderr, "shutting down")
}

// That the URL is a standby's is said before anything is tried there.
func TestServe_standby(t *testing.T) {
	primary := testkit.NewServer(t, map[string]string{"fsync": "off"})
	database := primary.Database(t)
	p := launchProgram(t, "--database-url", primary.Standby(t).URL(t, database))
	require.Eventually(t, func() bool { return strings.Contains(p.log.String(), "migrating the database") }, 30*time.Second, 10*time.Millisecond)
	before, _, _ := strings.Cut(p.log.String(), "migrating the database")
	require.Contains(t, before, "the database is a standby: connect to the primary")
}

// postmaster is the process of a data directory's Postgres; 0: there is none.
func postmaster(t *testing.T, dir string) (pid int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "postgres", "postmaster.pid"))
	if err != nil {
		require.ErrorIs(t, err, os.ErrNotExist)
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, _ = strconv.Atoi(first) // 0 while it is being written
	return pid
}
