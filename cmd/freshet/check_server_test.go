package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// G1 to G6 on the program itself, while everything goes wrong that the checker can
// cause: what `freshet check --serve --duration 60s --faults all` says.
func TestCheck_serveWithFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "report.json")
	history, log := filepath.Join(dir, "history.txt"), filepath.Join(dir, "server.log")
	var out, stderr bytes.Buffer
	code := run(t.Context(), []string{
		"check", "--serve", "--duration", "60s", "--faults", "all", "--seed", "1",
		// What two busy cores manage under the race detector.
		"--clients", "60", "--rate", "60", "--patience", "2m", "--json", file, "--history", history, "--server-log", log,
	}, &out, &stderr)
	if code != exitOK {
		for _, path := range []string{log, history} {
			text, _ := os.ReadFile(path) // not there: nothing to tell
			t.Logf("the end of %s:\n%s", filepath.Base(path), text[max(0, len(text)-20_000):])
		}
	}
	require.Equal(t, exitOK, code, "%s\n%s", stderr.String(), out.String())
	t.Log(out.String())
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var report struct {
		Rules []struct {
			Rule                     string
			Observations, Violations int
		}
		Faults       []struct{ Name string }
		NotExercised []struct{ What, Needs string } `json:"not_exercised"`
	}
	require.NoError(t, json.Unmarshal(text, &report))
	require.Len(t, report.Rules, len(check.Rules))
	for _, rule := range report.Rules {
		require.Positive(t, rule.Observations, rule.Rule)
		require.Zero(t, rule.Violations, rule.Rule)
	}
	require.NotEmpty(t, report.Faults)
	for _, not := range report.NotExercised {
		require.Equal(t, "--cluster; Stage.Standby", not.Needs, "F68: whatever isn't asked for isn't judged: %s", not.What)
	}
}

// readyz asks whether somebody serves there.
func readyz(t *testing.T, url string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/readyz", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer http.DefaultClient.CloseIdleConnections()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return resp.Body.Close()
}

// The server can be killed and started again, the end that nobody caused is told,
// and nothing is left.
func TestCheckedServer(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	own, url, err := startChecked(testkit.Context(t), "", 1, io.Discard, func(err error) { ended <- err }, false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, own.Close()) })
	require.NoError(t, readyz(t, url))

	own.nodes[0].kill()
	require.Error(t, readyz(t, url))
	url, err = own.nodes[0].start(testkit.Context(t))
	require.NoError(t, err)
	require.NoError(t, readyz(t, url))
	require.Empty(t, ended, "killed")

	own.nodes[0].signal(os.Kill)
	select {
	case err := <-ended:
		require.ErrorContains(t, err, "the server ended by itself (signal: killed); its last words:\n")
		require.ErrorContains(t, err, "msg=ready")
	case <-testkit.Context(t).Done():
		require.FailNow(t, "nobody was told")
	}
	require.NoError(t, own.Close())
	require.NoDirExists(t, own.dir.Path)
	require.NoError(t, own.Close(), "again")
}

// A server that can't start says why.
func TestCheckedServer_refuses(t *testing.T) {
	t.Parallel()
	own := &ownNode{log: io.Discard, args: []string{"serve", "--addr", "nowhere", "--database-url", "postgres://127.0.0.1:1/nothing"}}
	ctx, cancel := context.WithTimeout(testkit.Context(t), time.Minute)
	defer cancel()
	_, err := own.start(ctx)
	require.ErrorContains(t, err, "its last words:\n")
	require.ErrorContains(t, err, "nowhere")
}

// On a terminal a line changes; elsewhere there is one every ten seconds, and one
// at the first violation.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	for second := range 25 {
		p.tell(check.Progress{Elapsed: time.Duration(second) * time.Second, Phase: "writing", Violations: second / 23})
	}
	p.end()
	require.Equal(t, 4, bytes.Count(out.Bytes(), []byte("\n")), out.String())
	out.Reset()
	p.terminal = true
	p.tell(check.Progress{Phase: "writing", Fault: "kill-server"})
	p.end()
	require.Regexp(t, `^\r.*kill-server.*\n$`, out.String())
}
