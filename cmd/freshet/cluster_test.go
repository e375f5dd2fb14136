package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/scratch"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// clusterUnderTest is `freshet cluster` as a process of its own.
type clusterUnderTest struct {
	cmd   *exec.Cmd
	said  *testkit.Buffer
	url   string
	words string
	pids  []int
	temp  string // its temporary folder
}

// startCluster returns when it has said where it is.
func startCluster(t *testing.T) *clusterUnderTest {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	made, err := scratch.New("freshet-cluster-test-", leftOver)
	require.NoError(t, err)
	dir := made.Path
	c := &clusterUnderTest{said: new(testkit.Buffer), temp: filepath.Join(dir, "tmp")}
	require.NoError(t, os.Mkdir(c.temp, 0o711))                                                                                                                                     //nolint:gosec // Postgres' user passes through
	require.NoError(t, os.Chmod(c.temp, 0o711))                                                                                                                                     //nolint:gosec // the same
	c.cmd = exec.CommandContext(testkit.Context(t), binary, "cluster", "--addr=127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"), "--", "--heartbeat=1s", "--log-format=json") //nolint:gosec // this program
	c.cmd.Env = append(environWithoutOurs(), "TMPDIR="+c.temp)
	c.cmd.Stderr = c.said
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // gone already: as well
		_ = c.cmd.Wait()
		if t.Failed() {
			t.Log(c.said.String())
		}
		if link, err := os.Readlink(filepath.Join(dir, "data/postgres")); err == nil { // root's
			_ = os.RemoveAll(filepath.Dir(link))
		}
		_ = made.Remove()
	})
	var words strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		words.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			break
		}
	}
	c.words = words.String()
	require.Contains(t, c.words, "Ctrl-C", "it is ready")
	require.Regexp(t, `(?m)^  primary +process \d+ +postgres:`, c.words)
	require.Regexp(t, `(?m)^  HAProxy +process \d+ +http:`, c.words)
	c.url = regexp.MustCompile(`(?m)^http://\S+$`).FindString(c.words)
	for _, pid := range regexp.MustCompile(`(?m)^  node \d +process (\d+)`).FindAllStringSubmatch(c.words, -1) {
		n, err := strconv.Atoi(pid[1])
		require.NoError(t, err)
		c.pids = append(c.pids, n)
	}
	require.Len(t, c.pids, clusterNodes)
	return c
}

// servedBy asks the balancer, and returns the node that answered.
func (c *clusterUnderTest) servedBy(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, c.url+"/readyz", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer http.DefaultClient.CloseIdleConnections()
	require.NoError(t, resp.Body.Close())
	return resp.Header.Get("X-Served-By")
}

// One URL, three nodes that take turns, a standby that follows; a node that is killed
// comes back, and a stream at another one doesn't notice; Ctrl-C ends all of it in order,
// and nothing is left.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	ctx := testkit.Context(t)
	seen := map[string]bool{}
	require.Eventually(t, func() bool {
		seen[c.servedBy(t)] = true
		return seen["node-1"] && seen["node-2"] && seen["node-3"]
	}, time.Minute, time.Millisecond, "no stickiness")

	events := make(chan client.Event, 1000)
	listening, hush := context.WithCancel(ctx)
	defer hush()
	by, err := client.New(c.url, client.WithBackoff(50*time.Millisecond, time.Second))
	require.NoError(t, err)
	listened := make(chan error, 1)
	go func() {
		listened <- by.Stream(listening, []string{"conversations/7/messages"}, func(e client.Event) error {
			events <- e
			return nil
		})
	}()
	await := func(what string, is func(client.Event) bool) {
		t.Helper()
		for {
			select {
			case e := <-events:
				if is(e) {
					return
				}
			case <-ctx.Done():
				require.FailNow(t, "it was not told: "+what)
			}
		}
	}
	await("ready", func(e client.Event) bool { _, ok := e.(client.Ready); return ok })

	for _, admin := range regexp.MustCompile(`http://\S+/metrics`).FindAllString(c.words, -1) {
		_, err := counter(ctx, admin, "freshet_replica_reads_total")
		require.NoError(t, err, "each node has its metrics")
	}
	require.NoError(t, syscall.Kill(c.pids[0], syscall.SIGKILL))
	urls := regexp.MustCompile(`postgres://\S+`).FindAllString(c.words, -1)
	primary, standby := urls[len(urls)-2], urls[len(urls)-1]
	testkit.Exec(t, primary, `insert into messages (conversation, author, body) values ('7', 'bob', 'by SQL')`)
	await("the write", func(e client.Event) bool { _, ok := e.(client.Invalidate); return ok })
	require.Eventually(t, func() bool {
		return strings.Count(c.said.String(), "node 1: ") > 0 && strings.Count(c.said.String(), `"msg":"ready"`) == clusterNodes+1
	}, time.Minute, 20*time.Millisecond, "it is started again")
	require.Eventually(t, func() bool { return holds(t, standby) == 1 }, time.Minute, 20*time.Millisecond, "the standby follows")

	require.NoError(t, c.cmd.Process.Signal(os.Interrupt))
	await("the goodbye", func(e client.Event) bool { _, ok := e.(client.Disconnected); return ok })
	hush()
	<-listened
	require.NoError(t, c.cmd.Wait(), "in order")
	left, err := os.ReadDir(c.temp)
	require.NoError(t, err)
	require.Empty(t, left)
	for _, url := range []string{primary, standby} {
		_, err := pgx.Connect(ctx, url)
		require.Error(t, err, "it has ended")
	}
	_, err = http.Get(c.url) //nolint:noctx // it fails at once
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	for _, name := range []string{"node 1", "node 2", "node 3"} {
		require.Regexp(t, `(?m)^`+name+`: .*shutting down`, c.said.String(), "each was asked, none cut off")
	}
}

// What can't be is said before anything is started, with what to do.
func TestCluster_refusesFlagsOfServe(t *testing.T) {
	t.Setenv("FRESHET_NONSENSE", "1")
	t.Setenv("FRESHET_DATABASE_URL", "postgres://elsewhere/") // which nodes are not told
	dir := t.TempDir()
	config := filepath.Join(dir, "freshet.yaml")
	require.NoError(t, os.WriteFile(config, []byte("heartbeat: 2s\naddr: 0.0.0.0:80\n"), 0o600))
	for _, c := range []struct{ args, says string }{
		{"--heartbeat 5s", "--heartbeat is a flag of serve: those go after --, as `freshet cluster -- --heartbeat …`"},
		{"-- --nonsense", "what follows -- is for serve: unknown flag --nonsense"},
		{"nonsense", "unexpected argument nonsense"},
		{"-- --help", "`freshet serve --help` says"},
		{"-- --demo-auth", "`freshet serve --demo-auth`"},
		{"-- --heartbeat 1ms", "--heartbeat: want a value from"},
		{"-- --heartbeat 2m", "--heartbeat: want 30s at most"},
		{"-- --host app.example.com", `--host "app.example.com": other machines come by that name`},
		{"-- --jwt-audience x", "say whose, by --oidc-issuer or --jwt-keys"},
		{"--nats -- --nats-url nats://n:1", "leave one of the two out"},
		{"-- --config " + config, config + ":2: each node has its own"},
		{"--config " + config, "give it after --"},
	} {
		code, out, said := runs(t, slices.Concat([]string{"cluster", "--data-dir", dir}, strings.Fields(c.args))...)
		require.Equal(t, exitUsage, code, c.args)
		require.Contains(t, said, c.says, c.args)
		require.Empty(t, out)
	}
	parser, err := newParser(new(cli), io.Discard, io.Discard, func(int) {})
	require.NoError(t, err)
	all := settable(parser.Model)
	for name, instead := range notAfterDashes {
		at := slices.IndexFunc(all, func(f *kong.Flag) bool { return f.Name == name })
		require.GreaterOrEqual(t, at, 0, "serve has --%s", name)
		flag := "--" + name
		if !all[at].IsBool() {
			flag += "=1m" // whatever it is
		}
		code, _, said := runs(t, "cluster", "--data-dir", dir, "--", flag)
		require.Equal(t, exitUsage, code, name)
		require.Contains(t, said, flag[:len("--"+name)]+": "+instead)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing was started")
}

func holds(t *testing.T, url string) (n int) {
	t.Helper()
	require.NoError(t, testkit.Conn(t, url).QueryRow(testkit.Context(t), "select count(*) from messages").Scan(&n))
	return n
}

// Without HAProxy, or on a port that is taken, it says so at once.
func TestCluster_refuses(t *testing.T) {
	taken, err := newBalancer(t.Context(), t.TempDir(), "127.0.0.1:0", nil, nil, new(testkit.Buffer))
	require.NoError(t, err)
	defer taken.close()
	// As where another cluster runs: the ports of its nodes are taken, too.
	port := taken.listener.Addr().(*net.TCPAddr).AddrPort()
	node, err := new(net.ListenConfig).Listen(t.Context(), "tcp", netip.AddrPortFrom(port.Addr(), port.Port()+1).String())
	if err == nil { // else it is somebody's already
		defer func() { _ = node.Close() }()
	}
	code, _, said := runs(t, "cluster", "--addr", taken.addr(), "--data-dir", filepath.Join(t.TempDir(), "data"))
	require.Equal(t, exitFailed, code)
	require.Contains(t, said, "--addr: the balancer can't have its address: listen tcp "+taken.addr())
	require.Contains(t, said, "address already in use")
	code, _, said = runs(t, "cluster", "--addr", "0.0.0.0:8080")
	require.Equal(t, exitUsage, code)
	require.Contains(t, said, "this machine alone")
	code, _, said = runs(t, "check", "--cluster", "--serve")
	require.Equal(t, exitUsage, code)
	require.Contains(t, said, "leave one out")
}

// F36, F37, G1 to G6 across nodes: what `freshet check --cluster --faults all` says, for
// a few seconds. `make check ARGS='--cluster --faults all --duration 10m'` is the long
// form; docs/consistency-report.md has one.
func TestCheck_F36_F37_cluster(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, history, log := filepath.Join(dir, "report.json"), filepath.Join(dir, "history.txt"), filepath.Join(dir, "server.log")
	code, out, said := runs(t, "check", "--cluster", "--duration", "6s", "--round", "6s", "--faults", "kill-server,freeze-server,partition-server,cut-node,stall-feed,pause-replay,cancel-replica,kill-standby,stall-replica",
		"--clients", "30", "--rate", "40", "--patience", "2m", "--json", file, "--history", history, "--server-log", log)
	if code != exitOK {
		for _, path := range []string{log, history} {
			text, _ := os.ReadFile(path) //nolint:gosec // the test's; not there: nothing to tell
			t.Logf("the end of %s:\n%s", filepath.Base(path), text[max(0, len(text)-20_000):])
		}
	}
	require.Equal(t, exitOK, code, "%s\n%s", said, out)
	t.Log(out)
	text, err := os.ReadFile(file) //nolint:gosec // the test's
	require.NoError(t, err)
	var report struct {
		Rules []struct {
			Rule                     string
			Observations, Violations int
		}
		Faults    []struct{ Node int }
		Exercised map[string]int
	}
	require.NoError(t, json.Unmarshal(text, &report))
	for _, rule := range report.Rules {
		require.Positive(t, rule.Observations, rule.Rule)
		require.Zero(t, rule.Violations, rule.Rule)
	}
	require.NotEmpty(t, report.Faults)
	require.True(t, slices.ContainsFunc(report.Faults, func(f struct{ Node int }) bool { return f.Node > 0 }))
	require.Positive(t, report.Exercised["reads that a replica served"])
}

// F38, G1 to G6 across nodes of which one tells the others: what `freshet check --cluster
// --nats --faults all` says, for a few seconds.
func TestCheck_F38_clusterOverNATS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	history, log := filepath.Join(dir, "history.txt"), filepath.Join(dir, "server.log")
	code, out, said := runs(t, "check", "--cluster", "--nats", "--duration", "6s", "--round", "6s", "--faults", "kill-server,freeze-server,kill-nats,kill-all-nats,freeze-nats",
		"--clients", "30", "--rate", "40", "--patience", "2m", "--history", history, "--server-log", log)
	if code != exitOK {
		for _, path := range []string{log, history} {
			text, _ := os.ReadFile(path) //nolint:gosec // the test's; not there: nothing to tell
			t.Logf("the end of %s:\n%s", filepath.Base(path), text[max(0, len(text)-20_000):])
		}
	}
	require.Equal(t, exitOK, code, "%s\n%s", said, out)
	require.Contains(t, out, "no violation")
	text, err := os.ReadFile(log) //nolint:gosec // the test's
	require.NoError(t, err)
	require.Contains(t, string(text), "the node is told by another one what changes")
}
