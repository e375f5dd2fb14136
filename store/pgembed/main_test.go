package pgembed

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// The test binary plays other programs too, when this is set.
const roleVariable = "FRESHET_PGEMBED_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		goleak.VerifyTestMain(m)
	case "program":
		os.Exit(playProgram())
	case "dial":
		os.Exit(playDialer())
	}
}

// order is what playProgram is told on its command line.
type order struct {
	DataDir, RootDir, Binaries, NPMDir string
	NoDeathSig                         bool
}

// playProgram runs a private server until its standard input ends, and tells about signals.
func playProgram() int {
	var o order
	if err := json.Unmarshal([]byte(os.Args[1]), &o); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	server, err := Start(context.Background(), Config{DataDir: o.DataDir, RootDir: o.RootDir, Binaries: o.Binaries, NPMDir: o.NPMDir, noDeathSig: o.NoDeathSig})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println("pid", server.current().cmd.Process.Pid)
	go func() {
		for range interrupts {
			fmt.Println("interrupted")
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := server.Stop(context.Background()); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return 0
}

// program is another process that runs a private server.
type program struct {
	cmd        *exec.Cmd
	stdin      io.Closer
	lines      *bufio.Scanner
	postmaster int
}

func startProgram(t *testing.T, o order) *program {
	t.Helper()
	o.NPMDir = npmDir(t)
	text, err := json.Marshal(o)
	require.NoError(t, err)
	p := &program{cmd: exec.Command(os.Args[0], string(text))}
	p.cmd.Env = append(os.Environ(), roleVariable+"=program")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell does for a job
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.cmd.Stderr = os.Stderr
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.stdin.Close()
		_ = p.cmd.Wait()
	})
	p.lines = bufio.NewScanner(out)
	_, err = fmt.Sscanf(p.line(t), "pid %d", &p.postmaster)
	require.NoError(t, err)
	return p
}

func (p *program) line(t *testing.T) string {
	t.Helper()
	require.True(t, p.lines.Scan(), "the program ended")
	require.NotContains(t, p.lines.Text(), "error:")
	return p.lines.Text()
}

// folder is a temporary folder that other users may pass through and whose name is short enough for
// a socket (t.TempDir's may be neither).
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgembed-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	dir, err = filepath.EvalSymlinks(dir) // macOS
	require.NoError(t, err)
	return dir
}

// config is a Config in a folder of the test's own.
func config(t *testing.T) Config {
	t.Helper()
	dir := folder(t)
	return Config{DataDir: filepath.Join(dir, "data"), RootDir: filepath.Join(dir, "root"), NPMDir: npmDir(t), Logger: logger(t)}
}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// npmDir is where the npm package may be.
func npmDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("FRESHET_TEST_NPM_POSTGRES"); dir != "" {
		return dir
	}
	dir, err := filepath.Abs("../../web/node_modules")
	require.NoError(t, err)
	return dir
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, c Config) *Server {
	t.Helper()
	s, err := Start(testContext(t), c)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
}

// query returns the one value of a statement as text.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	require.NoError(t, err)
	if last := results[len(results)-1]; len(last.Rows) > 0 {
		return string(last.Rows[0][0])
	}
	return ""
}

// mark leaves a row that survives everything and one that survives a clean stop only.
func mark(t *testing.T, url string) {
	t.Helper()
	query(t, url, "create table logged (id int); insert into logged values (1); create unlogged table unlogged (id int); insert into unlogged values (1)")
}

const marks = "select (select count(*) from logged) || ' ' || (select count(*) from unlogged)"

const (
	clean   = "1 1" // the marks after a clean stop
	crashed = "1 0" // and after a crash
)

// eventually is for what nothing signals: the end of processes that aren't our children.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, 10*time.Millisecond, what)
}

// prerequisite reports whether something that a test needs is there. If not, the test has not run,
// which is said loudly, and is a failure under CI=true.
func prerequisite(t *testing.T, there bool, what string) bool {
	t.Helper()
	if there {
		return true
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("not run: %s", what)
	}
	fmt.Fprintf(os.Stderr, "\n*** NOT RUN: %s: %s\n\n", t.Name(), what)
	return false
}

// quoted shows that a text has a part, whatever else it says.
func quoted(t *testing.T, err error, parts ...string) {
	t.Helper()
	require.Error(t, err)
	for _, part := range parts {
		require.ErrorContains(t, err, part)
	}
}
