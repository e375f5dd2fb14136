package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/bench/rig"
)

// cell is one load on one number of nodes in one round. CPUs are seconds of CPU time
// per second.
type cell struct {
	Name      string             `json:"name"`
	Round     int                `json:"round"`
	Nodes     int                `json:"nodes"`
	Streams   int                `json:"streams,omitempty"`    // of each node
	Topics    int                `json:"topics,omitempty"`     // that they follow, one each, in turn
	Rate      float64            `json:"rate,omitempty"`       // of commits, as asked for
	Calls     string             `json:"calls,omitempty"`      // what is called, besides
	Seconds   float64            `json:"seconds"`              //
	Commits   float64            `json:"commits"`              // a second
	Called    float64            `json:"called,omitempty"`     // a second
	Frames    float64            `json:"frames,omitempty"`     // a second, to all streams
	Snapshots float64            `json:"snapshots"`            // a second, of all gates
	NodeCPU   []float64          `json:"cpus_of_nodes"`        // each
	CPU       map[string]float64 `json:"cpus_of_postgres"`     // by what its processes do
	Postgres  *float64           `json:"cpus_of_postgres_all"` // all its processes, by ticks of 10 ms
}

// nodeCPU is the mean of nodes.
func (c *cell) nodeCPU() float64 {
	sum := 0.0
	for _, cpus := range c.NodeCPU {
		sum += cpus
	}
	return sum / float64(len(c.NodeCPU))
}

const (
	writers    = 4
	writerName = "bench-scale"
)

// measure runs a cell for some time, after a warm-up. call is called at the cell's rate
// of calls; nil: never.
func (s *stage) measure(ctx context.Context, c *cell, warmup, during time.Duration, call func(context.Context) error, calls float64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, warmup+during+patience, errors.New("a cell isn't finished in time"))
	defer cancel()
	enough, stop := context.WithCancel(ctx)
	defer stop()
	g, running := errgroup.WithContext(enough)
	if c.Rate > 0 {
		for i := range writers {
			conn, err := s.connect(ctx) // here, so that all are there when usage is read
			if err != nil {
				stop()
				return errors.Join(err, g.Wait())
			}
			g.Go(func() error { return write(ctx, running, conn, c, i, &s.commits) })
		}
	}
	if call != nil {
		for range callers {
			g.Go(func() error {
				return atRate(running, calls/callers, func() error {
					s.called.Add(1)
					return call(ctx)
				})
			})
		}
	}
	rig.Wait(running, warmup)
	before, err := s.uses(ctx)
	if err != nil {
		return errors.Join(err, context.Cause(running))
	}
	rig.Wait(running, during)
	after, err := s.uses(ctx)
	if err != nil {
		return errors.Join(err, context.Cause(running))
	}
	stop()
	if err := g.Wait(); err != nil {
		return err
	}
	before.until(after, c)
	if c.Streams > 0 {
		// As many for each commit as there are streams of its topic.
		due := c.Commits * float64(c.Nodes*c.Streams/c.Topics)
		if c.Frames < 0.9*due {
			return fmt.Errorf("%s: %.0f frames/s of %.0f: the machine is too busy, streams merge", c.Name, c.Frames, due)
		}
	}
	return nil
}

// callers are that many at once.
const callers = 4

// atRate does something so many times a second until ctx ends.
func atRate(ctx context.Context, rate float64, do func() error) error {
	ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := do(); err != nil {
			return err
		}
	}
}

// connect is a writer's.
func (s *stage) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.postgres.URL)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = writerName
	return pgx.ConnectConfig(ctx, config)
}

// write commits rows at its share of the rate, to one conversation after the other, and
// closes the connection.
func write(ctx, enough context.Context, conn *pgx.Conn, c *cell, writer int, commits *atomic.Int64) error {
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	n := writer
	return atRate(enough, c.Rate/writers, func() error {
		n += writers
		_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ($1, 'bench', repeat('x', 200))`, fmt.Sprintf("c%d", n%max(1, c.Topics)))
		commits.Add(1)
		return err
	})
}
