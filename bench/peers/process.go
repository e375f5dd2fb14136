package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet-dev/freshet/bench/fanout"
)

// pair is a server and its readers.
type pair struct {
	server  *fanout.Process[order, state]
	readers *fanout.Process[fanout.Command, fanout.Report]
	at      state
	settle  time.Duration // how long after the last notice a frame may still come
}

func startPair(ctx context.Context, name string, sendBuffer int) (_ *pair, err error) {
	p := &pair{settle: 2 * time.Second}
	if p.server, err = fanout.Spawn[order, state](ctx, "serve", "--peer="+name, fmt.Sprintf("--send-buffer=%d", sendBuffer)); err != nil {
		return nil, err
	}
	if p.readers, err = fanout.Spawn[fanout.Command, fanout.Report](ctx, "read"); err != nil {
		return nil, errors.Join(err, p.server.Stop())
	}
	if p.at, err = p.order(order{}); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *pair) stop() error { return errors.Join(p.readers.Stop(), p.server.Stop()) }

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
