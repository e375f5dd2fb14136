package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet-dev/freshet/bench/fanout"
)

// point is what was found at one place of a sweep; what isn't measured there is 0.
type point struct {
	CPUMicros float64 `json:"cpu_us"`            // of the server, per notice or commit, for all who are told
	Cores     float64 `json:"cores"`             // CPU seconds per second of publishing
	Frames    float64 `json:"frames_per_notice"` // and connection that is to be told
	P99       float64 `json:"p99_ms"`            // from publisher to reader
	Kept      float64 `json:"rate_kept"`         // share of the rate that the publisher kept
	Told      int     `json:"told"`              // connections, of each notice
	MiB       float64 `json:"memory_mib"`        // above an empty server, after a garbage collection
	FillNanos float64 `json:"fill_cpu_ns"`       // per topic that is new to the table
}

// load is notices to some connections.
type load struct {
	peer        string
	connections int
	topics      int           // that they are spread over, each of one; 0: all of the same
	throttle    time.Duration // below 0: the default
	rate        int           // notices per second, each of the next topic
	window      time.Duration // of merging: how long something may still come
	memory      bool          // is wanted
}

// path of the load's streams of Freshet.
func (l load) path() string {
	path := "/events?topic=" + topic
	if l.topics > 0 {
		path = "/events?topic=conversations/{}/messages" // topicOf
	}
	if l.throttle >= 0 {
		path += fmt.Sprintf("&throttle=%d", l.throttle.Milliseconds())
	}
	return path
}

// measure tells for a while, after a warm-up, and says what it cost.
func (l load) measure(ctx context.Context, during time.Duration) (*point, error) {
	p, err := startPair(ctx, l.peer, 0)
	if err != nil {
		return nil, err
	}
	m, err := l.measureOn(p, during)
	return m, errors.Join(err, p.stop())
}

func (l load) measureOn(p *pair, during time.Duration) (*point, error) {
	// Silence for half of it is the end: frames that are merged never come.
	p.settle = max(time.Second, 5*l.window/2)
	told := l.connections
	if l.topics > 0 {
		told /= l.topics
	}
	m := &point{Told: told}
	if err := l.connect(p, m); err != nil {
		return nil, err
	}
	what := publishing{Number: max(2, l.rate/10), Rate: l.rate, Topics: l.topics}
	if _, _, _, err := p.publish(what, what.Number*told); err != nil {
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	during = max(during, 4*l.window)
	what.Number = max(2, int(during.Seconds()*float64(l.rate)))
	before, err := p.order(order{})
	if err != nil {
		return nil, err
	}
	_, got, state, err := p.publish(what, what.Number*told)
	if err != nil {
		return nil, err
	}
	after, err := p.order(order{})
	if err != nil {
		return nil, err
	}
	if got.Closed > 0 || got.Notices == 0 {
		return nil, fmt.Errorf("%d connections closed, %d frames", got.Closed, got.Notices)
	}
	used := after.CPU - before.CPU
	m.CPUMicros = float64(used.Microseconds()) / float64(what.Number)
	// Per second at the rate that was asked for, kept or not.
	m.Cores = used.Seconds() * float64(l.rate) / float64(what.Number)
	m.Kept = float64(what.Number-1) / float64(l.rate) / state.Took.Seconds()
	m.Frames = float64(got.Notices) / float64(what.Number*told)
	m.P99 = millis(got.P99)
	return m, nil
}

// connect opens the load's connections.
func (l load) connect(p *pair, m *point) error {
	to := fanout.Connect{Address: p.at.Address, Path: p.at.Path, Number: 1, Spread: l.topics}
	if l.peer == "freshet" {
		to.Path = l.path()
	}
	number, empty := l.connections, int64(0)
	if l.memory && number > 1 {
		// What the first one brings along is nobody's.
		if _, err := p.read(fanout.Command{Connect: &to}); err != nil {
			return err
		}
		var err error
		if empty, err = p.memory(); err != nil {
			return err
		}
		number--
	}
	to.Number = number
	if _, err := p.read(fanout.Command{Connect: &to}); err != nil {
		return err
	}
	if !l.memory {
		return nil
	}
	full, err := p.memory()
	m.MiB = float64(full-empty) / (1 << 20)
	return err
}

// measureTable fills a table with topics, and then commits to it.
func measureTable(ctx context.Context, topics, commits int) (*point, error) {
	p, err := startPair(ctx, "freshet", 0)
	if err != nil {
		return nil, err
	}
	m, err := tableOn(p, topics, commits)
	return m, errors.Join(err, p.stop())
}

func tableOn(p *pair, topics, commits int) (*point, error) {
	m := new(point)
	empty, err := p.memory()
	if err != nil {
		return nil, err
	}
	filling, err := p.commit(committing{Topics: topics})
	if err != nil {
		return nil, err
	}
	full, err := p.memory()
	if err != nil {
		return nil, err
	}
	committed, err := p.commit(committing{Topics: topics, Number: commits})
	if err != nil {
		return nil, err
	}
	m.FillNanos = float64(filling.Nanoseconds()) / float64(topics)
	m.MiB = float64(full-empty) / (1 << 20)
	m.CPUMicros = float64(committed.Nanoseconds()) / 1000 / float64(commits)
	return m, nil
}

// commit returns the CPU time that it took.
func (p *pair) commit(what committing) (time.Duration, error) {
	before, err := p.order(order{})
	if err != nil {
		return 0, err
	}
	after, err := p.order(order{Commit: &what})
	return after.CPU - before.CPU, err
}
