package pgembed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// process is one run of the postmaster.
type process struct {
	cmd      *exec.Cmd
	logs     *logWriter
	stopping atomic.Bool   // its end is what we asked for
	done     chan struct{} // closed when it and its children are gone; then exit is set
	exit     error
}

// spawn starts the postmaster and returns once it runs, which is before it accepts connections.
func (s *site) spawn(c Config, in Installation) (*process, error) {
	closeOnExec()
	args := []string{"-D", s.cluster}
	for _, kv := range s.fixed() {
		args = append(args, "-c", kv[0]+"="+kv[1])
	}
	cmd := exec.Command(filepath.Join(in.BinDir, "postgres"), args...)
	s.as.apply(cmd)
	if !c.noDeathSig {
		dieWithParent(cmd.SysProcAttr, syscall.SIGINT) // a fast shutdown
	}
	p := &process{cmd: cmd, logs: newLogWriter(c.logger()), done: make(chan struct{})}
	logs, err := openLogs(cmd)
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() {
		// The parent death signal comes when this thread ends. Go doesn't end threads, except one
		// that a goroutine dies on while it is locked to it; so nobody else may use this one.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := logs.begin(cmd.Start(), p.logs)
		started <- err
		if err != nil {
			return
		}
		p.exit = cmd.Wait()
		logs.end()
		p.logs.flush()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", in, err)
	}
	return p, nil
}

// err says why a process that has ended did so; nil if that was asked for.
func (p *process) err() error {
	if p.stopping.Load() {
		return nil
	}
	return p.died()
}

func (p *process) died() error {
	how := "exit status 0"
	if p.exit != nil {
		how = p.exit.Error()
	}
	return fmt.Errorf("PostgreSQL ended (%s); its last words:\n%s", how, p.logs.tail())
}

// errForced says that a stop was not the clean one.
var errForced = errors.New("PostgreSQL did not stop in time and was cut off; it recovers at its next start")

// stop ends the process in order for as long as ctx allows, then at once.
func (p *process) stop(ctx context.Context) error {
	p.stopping.Store(true)
	_ = p.cmd.Process.Signal(syscall.SIGINT) // gone already: done tells
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // PostgreSQL itself sends SIGKILL after 5 s
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.kill()
	}
	return errForced
}

// kill is a crash: no process of the server gets to write anything more.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGSTOP) // so that it starts no more children
	for _, child := range children(p.cmd.Process.Pid) {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// ended reports whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// logLevel is how loud a line of PostgreSQL's log is in ours.
func logLevel(severity string) slog.Level {
	switch severity {
	case "WARNING", "ERROR", "FATAL", "PANIC":
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
