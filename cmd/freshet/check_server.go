package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/internal/badnet"
	"github.com/freshet-dev/freshet/store/pgembed"
)

// checkedServer is a server that `freshet check --serve` may do anything to: this
// program as `serve`, a process of its own, on a private Postgres that is removed
// afterwards. Between the two are proxies. Kill, start and Close take turns.
type checkedServer struct {
	dir        string
	postgres   *pgembed.Server
	pool, feed *badnet.Proxy
	args       []string
	log        io.Writer // the server's log
	ended      func(error)

	turn    sync.Mutex
	process *process // the current one; nil: there has been none
}

const checkedSlot = "freshet"

// startChecked starts Postgres and the server, and returns the server's URL. What
// both log goes to log, from several goroutines. ended is told when the server
// ends though nobody killed it.
func startChecked(ctx context.Context, binaries string, log io.Writer, ended func(error)) (_ *checkedServer, url string, err error) {
	o := &checkedServer{log: log, ended: ended}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	if o.dir, err = os.MkdirTemp("", "freshet-check-"); err != nil {
		return nil, "", err
	}
	// For root: Postgres' own user passes through here.
	if err := os.Chmod(o.dir, 0o711); err != nil { //nolint:gosec // nothing but names can be found out
		return nil, "", err
	}
	o.postgres, err = pgembed.Start(ctx, pgembed.Config{
		DataDir: filepath.Join(o.dir, "data"), RootDir: filepath.Join(o.dir, "root"), Binaries: binaries,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
		// What a crash of the machine would lose is not what is checked.
		Settings: map[string]string{"fsync": "off"},
	})
	if err != nil {
		return nil, "", err
	}
	var pool, feed string
	// The server's commits are asynchronous, so that a crash takes some back.
	if o.pool, pool, err = badnet.NewDatabase(o.postgres.URL("") + "&synchronous_commit=off"); err != nil {
		return nil, "", err
	}
	if o.feed, feed, err = badnet.NewDatabase(o.postgres.URL("")); err != nil {
		return nil, "", err
	}
	o.args = []string{
		"serve", "--database-url", pool, "--capture-url", feed, "--slot", checkedSlot, "--addr=127.0.0.1:0", "--admin-addr=",
		"--heartbeat=1s", "--max-lag=2s",
		// All clients are one address.
		"--max-streams-per-address=0", "--max-connections-per-address=0",
	}
	url, err = o.start(ctx)
	return o, url, err
}

// stage is what the checker may do.
func (o *checkedServer) stage(database *check.Postgres) *check.Stage {
	patient := func(do func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
			defer cancel()
			return do(ctx)
		}
	}
	return &check.Stage{
		Kill: o.kill, Start: o.start,
		RestartPostgres: patient(o.postgres.Restart),
		CrashPostgres: patient(func(ctx context.Context) error {
			o.postgres.Kill()
			return o.postgres.Restart(ctx)
		}),
		Pool: o.pool, Feed: o.feed,
		HoldCommits: database.HoldCommits,
		DropSlot:    func(ctx context.Context) error { return database.DropSlot(ctx, checkedSlot) },
		Look:        5 * time.Second, // wal.Config's default
	}
}

// Close ends all and removes it. Calling it again does no harm.
func (o *checkedServer) Close() error {
	o.kill()
	for _, proxy := range []*badnet.Proxy{o.pool, o.feed} {
		if proxy != nil {
			proxy.Close()
		}
	}
	var err error
	if o.postgres != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		err = o.postgres.Stop(ctx)
	}
	return errors.Join(err, os.RemoveAll(o.dir))
}

// kill is SIGKILL.
func (o *checkedServer) kill() {
	o.turn.Lock()
	defer o.turn.Unlock()
	if o.process != nil {
		o.process.kill()
	}
}

// start returns the server's URL once it is ready.
func (o *checkedServer) start(ctx context.Context) (string, error) {
	o.turn.Lock()
	defer o.turn.Unlock()
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	p := &process{ready: make(chan string, 1), ended: make(chan struct{}), log: o.log}
	o.process = p
	cmd := exec.Command(program, o.args...) //nolint:gosec // this program
	cmd.Env = checkedEnviron()
	// A process group of its own: Ctrl-C is for the checker, which ends the rest.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	if err := p.run(cmd, func() {
		o.ended(fmt.Errorf("the server ended by itself (%v); its last words:\n%s", cmd.ProcessState, p.tail()))
	}); err != nil {
		return "", err
	}
	timer := time.NewTimer(2 * time.Minute)
	defer timer.Stop()
	select {
	case url := <-p.ready:
		return url, nil
	case <-p.ended:
		err = errors.New("the server ended")
	case <-timer.C:
		err = errors.New("the server did not get ready within two minutes")
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.kill()
	return "", fmt.Errorf("%w; its last words:\n%s", err, p.tail())
}

// checkedEnviron is the environment without what configures the program.
func checkedEnviron() []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "FRESHET_") && !strings.HasPrefix(pair, "DATABASE_URL=") {
			env = append(env, pair)
		}
	}
	return env
}

// process is one run of the server.
type process struct {
	log    io.Writer
	killed atomic.Bool
	ready  chan string // gets the URL
	ended  chan struct{}
	signal func()

	mu   sync.Mutex // guards last
	last []string   // lines of its log
}

// run starts it; died is called when it ends unasked.
func (p *process) run(cmd *exec.Cmd, died func()) error {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	started := make(chan error)
	go func() {
		// What dies with the parent dies with the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		err := cmd.Start()
		if err == nil {
			p.signal = func() { _ = cmd.Process.Kill() } // or it has ended already
		}
		started <- err
		if err != nil {
			return
		}
		p.follow(stderr)
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		if !p.killed.Load() {
			died()
		}
	}()
	return <-started
}

// follow reads its log until it ends.
func (p *process) follow(stderr io.Reader) {
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			_, _ = io.WriteString(p.log, line) // a log
			p.mu.Lock()
			p.last = append(p.last, line)
			p.last = p.last[max(0, len(p.last)-20):]
			p.mu.Unlock()
			if _, url, ok := strings.Cut(line, "msg=ready url="); ok {
				p.ready <- strings.TrimSpace(url)
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *process) kill() {
	p.killed.Store(true)
	if p.signal != nil {
		p.signal()
	}
	<-p.ended
}

func (p *process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.last, "")
}
