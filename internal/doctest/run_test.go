package doctest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/client"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// The service of docs/library.md, from its table to a client that is told: by a
// writer that knows nothing of it, and by its own.
func TestLibrary_runs(t *testing.T) {
	dir := tasksModule(t)
	golang(t, dir, "build", "-o", "bin/", ".", "./watch", "./judge")
	database, url, stop := isLive(t, dir)
	lines := follow(t, filepath.Join(dir, "bin/watch"), url, "7")
	lines.until("by SQL", "fresh: true")
	require.Contains(t, post(t, url, "CreateTask", `{"parent": "projects/7", "task": {"title": "by RPC"}}`, ""), "projects/7/tasks/")
	lines.until("by RPC", "fresh: true")
	watch(t, url)
	cmd := exec.CommandContext(testkit.Context(t), filepath.Join(dir, "bin/judge"), url, "1s")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+database)
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Contains(t, string(said), "G5")
	stop()
}

// isLive runs a module's program on a database of its own, and shows that a row
// written by SQL is told, and read at-least what was told.
func isLive(t *testing.T, dir string) (database, url string, stop func()) {
	t.Helper()
	database, url, stop = begin(t, dir)
	errTold := errors.New("told")
	c, err := client.New(url)
	require.NoError(t, err)
	var told client.Invalidate
	err = c.Stream(testkit.Context(t), []string{"projects/7/tasks"}, func(e client.Event) error {
		switch e := e.(type) {
		case client.Ready:
			testkit.Exec(t, database, "insert into tasks (project, title) values ('7', 'by SQL')")
		case client.Invalidate:
			told = e
			return errTold
		}
		return nil
	})
	require.ErrorIs(t, err, errTold)
	require.Contains(t, post(t, url, "ListTasks", `{"parent": "projects/7"}`, told.Revision.String()), "by SQL")
	return database, url, stop
}

// begin runs the program of a module, bin/tasks, on a database that has its table.
func begin(t *testing.T, dir string) (database, url string, stop func()) {
	t.Helper()
	database = testkit.Database(t)
	table, err := os.ReadFile(filepath.Join(dir, "tasks.sql"))
	require.NoError(t, err)
	testkit.Exec(t, database, string(table))
	addr := live.FreeAddr(t)
	return database, "http://" + addr, start(t, filepath.Join(dir, "bin/tasks"), "DATABASE_URL="+database, "ADDR="+addr)
}

// watch opens the stream by gRPC, without TLS.
func watch(t *testing.T, url string) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithCancel(testkit.Context(t))
	defer cancel()
	service := freshetv1connect.NewInvalidationServiceClient(&http.Client{Transport: transport}, url, connect.WithGRPC())
	stream, err := service.Watch(ctx, connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{"projects/7/tasks"}}))
	require.NoError(t, err)
	testkit.Begun(t, func() *freshetv1.WatchResponse {
		require.True(t, stream.Receive(), "%v", stream.Err())
		return stream.Msg()
	})
	cancel()
	require.False(t, stream.Receive())
	_ = stream.Close() // cut
}

// start starts a program, which has to end in good order when stop tells it to, as an orchestrator does.
func start(t *testing.T, program string, env ...string) (stop func()) {
	t.Helper()
	var output strings.Builder
	cmd := exec.CommandContext(testkit.Context(t), program)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stopped := false
	stop = func() {
		stopped = true
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, <-ended, &output)
	}
	t.Cleanup(func() {
		if !stopped {
			_ = cmd.Process.Kill() // it may have ended by itself
			<-ended
		}
		if t.Failed() {
			t.Log(output.String())
		}
	})
	return stop
}

// post calls a method of the task service as curl does, and returns the answer.
func post(t *testing.T, url, method, body, atLeast string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodPost, url+"/tasks.v1.TaskService/"+method, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if atLeast != "" {
		req.Header.Set("Freshet-At-Least", atLeast)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(answer))
	require.NotEmpty(t, resp.Header.Get("Freshet-Revision"))
	return string(answer)
}

// output is what a program says.
type output struct {
	t     *testing.T
	lines *bufio.Scanner
}

func follow(t *testing.T, program string, args ...string) *output {
	t.Helper()
	cmd := exec.CommandContext(testkit.Context(t), program, args...)
	pipe, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	return &output{t, bufio.NewScanner(pipe)}
}

// until reads on to a line with all of these.
func (o *output) until(all ...string) {
	o.t.Helper()
	var said []string
	for o.lines.Scan() {
		said = append(said, o.lines.Text())
		missing := false
		for _, part := range all {
			missing = missing || !strings.Contains(o.lines.Text(), part)
		}
		if !missing {
			return
		}
	}
	o.t.Fatalf("no line has %q; said: %q", all, said)
}
