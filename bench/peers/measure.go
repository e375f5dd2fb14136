package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet-dev/freshet/bench/fanout"
)

// measured is what one round found of one peer; NaN-free: what wasn't measured
// is absent.
type measured struct {
	CPUMicros   float64 `json:"cpu_us_per_notice"`   // × connections
	Frames      float64 `json:"frames_per_notice"`   // × connections
	Cores       float64 `json:"cores"`               // CPU seconds per second
	DelayP50    float64 `json:"delay_p50_ms"`        // from publisher to reader
	DelayP99    float64 `json:"delay_p99_ms"`        //
	BeforeP99   float64 `json:"before_stall_p99_ms"` // small buffers, nobody stalled
	StalledP99  float64 `json:"stalled_p99_ms"`      // of the others
	StalledGot  float64 `json:"stalled_frames"`      // per notice and other connection
	BytesIdle   float64 `json:"bytes_per_idle_connection"`
	LastMillis  float64 `json:"last_ms"`
	Incomplete  int     `json:"last_incomplete"` // of five notices to all idle connections
	Reconnected int     `json:"closed_by_server"`
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// tell publishes notices that all connections are to get.
func (p *pair) tell(n, rate, connections int) (used fanout.Cost, got fanout.Report, told state, err error) {
	return p.publish(publishing{Number: n, Rate: rate}, n*connections)
}

// publish publishes, waits until as much as is expected is delivered or nothing
// more comes, and reports what the server used and the readers got.
func (p *pair) publish(what publishing, expected int) (used fanout.Cost, got fanout.Report, told state, err error) {
	if _, err = p.read(fanout.Command{Reset: true}); err != nil {
		return used, got, told, err
	}
	before, err := p.cost()
	if err != nil {
		return used, got, told, err
	}
	if told, err = p.order(order{Publish: &what}); err != nil {
		return used, got, told, err
	}
	if got, err = p.read(fanout.Command{Await: uint64(expected), Within: p.settle}); err != nil { //nolint:gosec // positive
		return used, got, told, err
	}
	after, err := p.cost()
	used.CPU = after.CPU - before.CPU
	return used, got, told, err
}

// fanOut is the first scenario.
func (m *measured) fanOut(p *pair, o *runOptions) error {
	if err := p.connect(o.Connections); err != nil {
		return err
	}
	if _, _, _, err := p.tell(o.Rate, o.Rate, o.Connections); err != nil { // warm-up, a second
		return err
	}
	n := int(o.Duration.Seconds() * float64(o.Rate))
	used, got, told, err := p.tell(n, o.Rate, o.Connections)
	if err != nil {
		return err
	}
	all := float64(n * o.Connections)
	m.CPUMicros = float64(used.CPU.Microseconds()) / all
	m.Frames = float64(got.Notices) / all
	m.Cores = used.CPU.Seconds() / told.Took.Seconds()
	m.DelayP50, m.DelayP99 = millis(got.P50), millis(got.P99)
	m.Reconnected = got.Closed
	return nil
}

// stalled is the second: what a reader that never drains does to the others.
func (m *measured) stalled(p *pair, o *runOptions) error {
	if err := p.connect(o.Connections); err != nil {
		return err
	}
	if _, _, _, err := p.tell(o.Rate, o.Rate, o.Connections); err != nil {
		return err
	}
	n := 2 * o.Rate
	_, got, _, err := p.tell(n, o.Rate, o.Connections)
	if err != nil {
		return err
	}
	m.BeforeP99 = millis(got.P99)
	if _, err = p.read(fanout.Command{Stall: p.to(1)}); err != nil {
		return err
	}
	// Until its buffers are full.
	if _, _, _, err = p.tell(3*o.Rate, o.Rate, o.Connections); err != nil {
		return err
	}
	if _, got, _, err = p.tell(n, o.Rate, o.Connections); err != nil {
		return err
	}
	m.StalledGot = float64(got.Notices) / float64(n*o.Connections)
	m.StalledP99 = millis(got.P99)
	return nil
}

// idle is the third and fourth: memory, and one notice to all.
func (m *measured) idle(p *pair, o *runOptions) error {
	if err := p.connect(1); err != nil { // what the first one brings along is nobody's
		return err
	}
	empty, err := p.memory()
	if err != nil {
		return err
	}
	if err := p.connect(o.Idle - 1); err != nil {
		return err
	}
	full, err := p.memory()
	if err != nil {
		return err
	}
	m.BytesIdle = float64(full-empty) / float64(o.Idle-1)
	var last []float64
	for i := range 6 {
		_, got, told, err := p.tell(1, 1, o.Idle)
		if err != nil {
			return err
		}
		switch {
		case i == 0: // nchan's workers are not all told of the channel before
		case got.Notices != uint64(o.Idle): //nolint:gosec // positive
			m.Incomplete++
		default:
			last = append(last, millis(time.Duration(got.LastAt-told.FirstAt)))
		}
		time.Sleep(200 * time.Millisecond) // longer than any throttle
	}
	if len(last) == 0 {
		return fmt.Errorf("no notice reached all of %d connections", o.Idle)
	}
	m.LastMillis = median(last)
	return nil
}

// memory of the server after a garbage collection.
func (p *pair) memory() (int64, error) {
	if _, err := p.order(order{Collect: true}); err != nil {
		return 0, err
	}
	cost, err := p.cost()
	return cost.Memory, err
}

// smallestBuffer asks for less than the kernel gives.
const smallestBuffer = 1

// round measures one peer once.
func round(ctx context.Context, name string, o *runOptions) (*measured, error) {
	m := new(measured)
	for _, step := range []struct {
		name       string
		sendBuffer int
		run        func(*pair, *runOptions) error
	}{
		{"fan-out", 0, m.fanOut},
		{"stalled", smallestBuffer, m.stalled},
		{"idle", 0, m.idle},
	} {
		p, err := startPair(ctx, name, step.sendBuffer)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
		if err := errors.Join(step.run(p, o), p.stop()); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return m, nil
}
