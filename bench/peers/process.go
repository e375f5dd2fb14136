package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/freshet-dev/freshet/bench/fanout"
)

// process is this program in another process, which does as it is told.
type process[C, R any] struct {
	*fanout.Control[C, R]

	cmd *exec.Cmd
	in  io.Closer
}

func spawn[C, R any](ctx context.Context, args ...string) (*process[C, R], error) {
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
	return &process[C, R]{fanout.NewControl[C, R](in, out), cmd, in}, nil
}

// stop ends the process by the end of its stdin.
func (p *process[C, R]) stop() error {
	err := p.in.Close()
	patience := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer patience.Stop()
	return errors.Join(err, p.cmd.Wait())
}

// pair is a server and its readers.
type pair struct {
	server  *process[order, state]
	readers *process[fanout.Command, fanout.Report]
	at      state
	settle  time.Duration // how long after the last notice a frame may still come
}

func startPair(ctx context.Context, name string, sendBuffer int) (_ *pair, err error) {
	p := &pair{settle: 2 * time.Second}
	if p.server, err = spawn[order, state](ctx, "serve", "--peer="+name, fmt.Sprintf("--send-buffer=%d", sendBuffer)); err != nil {
		return nil, err
	}
	if p.readers, err = spawn[fanout.Command, fanout.Report](ctx, "read"); err != nil {
		return nil, errors.Join(err, p.server.stop())
	}
	if p.at, err = p.order(order{}); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *pair) stop() error { return errors.Join(p.readers.stop(), p.server.stop()) }

func (p *pair) order(o order) (state, error) {
	s, err := p.server.Do(o)
	if err == nil && s.Error != "" {
		err = errors.New(s.Error)
	}
	return s, err
}

func (p *pair) read(c fanout.Command) (fanout.Report, error) {
	r, err := p.readers.Do(c)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	return r, err
}

func (p *pair) connect(n int) error {
	_, err := p.read(fanout.Command{Connect: p.to(n)})
	return err
}

func (p *pair) to(n int) *fanout.Connect {
	return &fanout.Connect{Address: p.at.Address, Path: p.at.Path, Number: n}
}

func (p *pair) cost() (fanout.Cost, error) { return fanout.CostOf(p.at.PID) }
