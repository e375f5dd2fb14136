package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// process is one run of a program that this one has started: of itself as `serve`, or
// of a balancer. It has a process group of its own (Ctrl-C is for this program, which
// ends the rest in order), and on Linux it doesn't outlive this program.
type process struct {
	log    io.Writer
	cmd    *exec.Cmd
	asked  atomic.Bool   // its end is what we asked for
	ready  chan string   // gets the URL that a server logs when it is ready
	admin  string        // that of its metrics, which it logs before; not to be read until it is ready
	ended  chan struct{} // closed when it has
	mu     sync.Mutex    // guards last
	last   []string      // lines of its log
	prefix string        // of its lines in log
}

// startProcess starts a program, whose standard error goes to log. died is called when
// it ends unasked; nil: nobody is told.
func startProcess(cmd *exec.Cmd, prefix string, log io.Writer, died func(*process)) (*process, error) {
	p := &process{log: log, cmd: cmd, prefix: prefix, ready: make(chan string, 1), ended: make(chan struct{})}
	cmd.Env = environWithoutOurs()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error)
	go func() {
		// What dies with the parent dies with the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.follow(stderr)
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		if !p.asked.Load() && died != nil {
			died(p)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// follow reads its log until it ends.
func (p *process) follow(stderr io.Reader) {
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			_, _ = io.WriteString(p.log, p.prefix+line) // a log
			p.mu.Lock()
			p.last = append(p.last, line)
			p.last = p.last[max(0, len(p.last)-20):]
			p.mu.Unlock()
			if _, url, ok := strings.Cut(line, `msg="metrics and pprof are served" url=`); ok {
				p.admin = strings.TrimSpace(url)
			}
			if _, url, ok := strings.Cut(line, "msg=ready url="); ok {
				select {
				case p.ready <- strings.TrimSpace(url):
				default: // it has been ready before
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// tail is the end of its log.
func (p *process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.last, "")
}

// how says how it ended, and what it said last.
func (p *process) how() error {
	return fmt.Errorf("ended by itself (%v); its last words:\n%s", p.cmd.ProcessState, p.tail())
}

// end says how it ended, to whom its log has been shown; nil: in order.
func (p *process) end() error {
	if p.cmd.ProcessState.Success() {
		return nil
	}
	return errors.New(p.cmd.ProcessState.String())
}

// signal reaches it, unless it has ended.
func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// kill is SIGKILL.
func (p *process) kill() {
	p.asked.Store(true)
	p.signal(os.Kill)
	<-p.ended
}

// stop ends it in order for as long as ctx allows, then at once.
func (p *process) stop(ctx context.Context) {
	p.asked.Store(true)
	p.signal(os.Interrupt)
	select {
	case <-p.ended:
	case <-ctx.Done():
		p.kill()
	}
}

// readyWithin is what a server may take to get ready.
const readyWithin = 2 * time.Minute

// url returns the URL of a server once it is ready, by its log.
func (p *process) url(ctx context.Context) (_ string, err error) {
	timer := time.NewTimer(readyWithin)
	defer timer.Stop()
	select {
	case url := <-p.ready:
		return url, nil
	case <-p.ended:
		err = errEnded
	case <-timer.C:
		err = fmt.Errorf("the server did not get ready within %v", readyWithin)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return "", p.unready(err)
}

// unready ends a server that did not get ready, and returns why, with its last words.
func (p *process) unready(err error) error {
	p.kill()
	return fmt.Errorf("%w; its last words:\n%s", err, p.tail())
}

// environWithoutOurs is the environment without what configures this program.
func environWithoutOurs() []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "FRESHET_") && !strings.HasPrefix(pair, "DATABASE_URL=") {
			env = append(env, pair)
		}
	}
	return env
}

// lastRun is the current run of a program that is started again and again; its zero value
// is of one that has not been. Safe for concurrent use.
type lastRun struct {
	mu      sync.Mutex // guards process
	process *process
}

// is says that this is the current run.
func (l *lastRun) is(p *process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.process = p
}

// run returns it; nil: there has been none.
func (l *lastRun) run() *process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.process
}

// Done is closed when it has ended. There has to be one.
func (l *lastRun) Done() <-chan struct{} { return l.run().ended }

// Err says how it ended; nil: in order.
func (l *lastRun) Err() error { return l.run().end() }
