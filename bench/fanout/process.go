package fanout

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"time"
)

// Process is this program in another process, which does as it is told (Obey).
type Process[C, R any] struct {
	*Control[C, R]

	PID int
	cmd *exec.Cmd
	in  io.Closer
}

// Spawn starts it with args; it is killed when ctx ends.
func Spawn[C, R any](ctx context.Context, args ...string) (*Process[C, R], error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Process[C, R]{NewControl[C, R](in, out), cmd.Process.Pid, cmd, in}, nil
}

// Stop ends the process by the end of its stdin. Call it once.
func (p *Process[C, R]) Stop() error {
	err := p.in.Close()
	patience := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer patience.Stop()
	return errors.Join(err, p.cmd.Wait())
}
