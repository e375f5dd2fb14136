package systemtest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// programDir is where program builds.
var programDir string

func TestMain(m *testing.M) {
	var err error
	if programDir, err = os.MkdirTemp("", "freshet-systemtest"); err != nil {
		panic(err)
	}
	testkit.Main(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(programDir) // or the system does
		os.Exit(code)
	}))
}

// quiet leaves out what is below a level: debug lines of a thousand clients
// would be most of the test's work.
type quiet struct {
	slog.Handler
	level slog.Level
}

func (q quiet) Enabled(_ context.Context, level slog.Level) bool { return level >= q.level }

func logger(t testing.TB) *slog.Logger {
	return slog.New(quiet{testkit.Logger(t).Handler(), slog.LevelInfo})
}

// node is a server of this process.
type node struct {
	url  string
	stop func()
}

// serve starts a server and returns once it is ready. It stops with the test,
// if not before.
func serve(t testing.TB, database, slot string, change func(*live.Config)) *node {
	t.Helper()
	s := live.Start(t, database, func(c *live.Config) {
		c.Slot, c.Logger = slot, logger(t)
		if change != nil {
			change(c)
		}
	})
	live.Settled(t, s.Node) // what is kept, and how often Postgres is asked, is what many tests are about
	return &node{url: s.URL, stop: func() { require.NoError(t, s.Stop()) }}
}

// child is the program as users start it.
type child struct {
	binary string
	args   []string
	url    string
	log    func(line string)
	cmd    *exec.Cmd
	ended  chan struct{}
	since  time.Time // it was started
}

// program builds bin/freshet, once for all tests.
func program(t testing.TB) string {
	t.Helper()
	binary, err := built()
	require.NoError(t, err)
	return binary
}

var built = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	binary := filepath.Join(programDir, "freshet")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/freshet") //nolint:gosec // ours
	cmd.Dir = testkit.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary, nil
})

// serveChild starts the program and returns once it is ready.
func serveChild(t testing.TB, binary, database, slot string, args ...string) *child {
	t.Helper()
	c := newChild(t, binary, database, slot, args...)
	c.start(t)
	t.Cleanup(c.kill)
	return c
}

// newChild is the program before it is started.
func newChild(t testing.TB, binary, database, slot string, args ...string) *child {
	t.Helper()
	addr, log := live.FreeAddr(t), logger(t)
	return &child{
		binary: binary,
		url:    "http://" + addr,
		log:    func(line string) { log.Info("freshet: " + line) },
		args:   append([]string{"serve", "--database-url", database, "--slot", slot, "--addr", addr, "--admin-addr="}, args...),
	}
}

// start starts it, again after kill, and returns once it is ready.
func (c *child) start(t testing.TB) {
	t.Helper()
	ready, err := c.launch()
	require.NoError(t, err)
	select {
	case <-ready:
	case <-c.ended:
		require.FailNow(t, "the program did not get ready")
	case <-time.After(time.Minute):
		c.kill()
		require.FailNow(t, "the program did not get ready within a minute")
	}
}

// launch starts it; ready is closed when it says so.
func (c *child) launch() (ready chan struct{}, _ error) {
	c.cmd = exec.Command(c.binary, c.args...)
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	ready, c.ended, c.since = make(chan struct{}), make(chan struct{}), time.Now()
	go func(cmd *exec.Cmd, ended chan struct{}) {
		defer close(ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			c.log(lines.Text())
			if strings.Contains(lines.Text(), "msg=ready url=") {
				close(ready)
			}
		}
		_, _ = io.Copy(io.Discard, stderr)
		_ = cmd.Wait() // killed, as a rule
	}(c.cmd, c.ended)
	return ready, nil
}

// kill is SIGKILL; it may be repeated.
func (c *child) kill() {
	_ = c.cmd.Process.Signal(os.Kill) // or it has ended already
	<-c.ended
}

// transport of a test's clients: connections of its own, closed at its end.
func transport(t testing.TB, http2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: 64}
	tr.Protocols.SetUnencryptedHTTP2(http2)
	tr.Protocols.SetHTTP1(!http2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
