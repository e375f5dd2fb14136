package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/freshet-dev/freshet/bench/rig"
)

type measureOptions struct {
	Freshet  string        `default:"bin/freshet" help:"The program to start." json:"-"`
	Rounds   int           `default:"3" help:"Rounds; each has every cell." json:"rounds"`
	Duration time.Duration `default:"4s" help:"How long each is measured." json:"duration"`
	Warmup   time.Duration `default:"1s" help:"Time before it that doesn't count." json:"warmup"`
	Streams  int           `default:"2000" help:"Streams of each node in the cells of fan-out." json:"streams"`
	FanOut   bool          `help:"Only the cells of fan-out: does a node do the same for three times as many? Writes nothing." json:"-"`
	NATS     string        `default:"nats-server" help:"The message bus; empty: it isn't measured." json:"-"`
	Results  string        `default:"bench/results" help:"Folder to write a folder of results to; empty: none." json:"-"`
}

// measurement is everything that a run found; measured.json is it.
type measurement struct {
	rig.Origin

	Options measureOptions `json:"options"`
	Cells   []*cell        `json:"cells"` // in the order of time
	Bus     []*busCell     `json:"bus"`
	NATS    string         `json:"nats"` // its version; empty: it wasn't measured
}

// Validate is called by kong.
func (o *measureOptions) Validate() error {
	if o.Rounds < 1 || o.Duration < time.Second || o.Streams < fanTopics {
		return fmt.Errorf("want a round of a second at least, and %d streams", fanTopics)
	}
	return nil
}

// Run measures, and writes what the simulation rests on.
func (o *measureOptions) Run(ctx context.Context, to io.Writer) (err error) {
	m := &measurement{Origin: rig.ThisRun(ctx, "scale", "go run ./bench/scale"), Options: *o}
	fmt.Fprintf(to, "machine: %v; %.2f CPUs busy with other things\n", m.Machine, m.Machine.Busy)
	s := new(stage)
	if s.postgres, err = rig.StartPostgres(ctx, o.Freshet); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.postgres.Stop()) }()
	m.Program = s.postgres.Version
	if m.Postgres, err = rig.ReadSettings(ctx, s.postgres.URL); err != nil {
		return err
	}
	for round := range o.Rounds {
		for _, p := range plays(o, round) {
			cells, err := p.perform(ctx, s, o, round+1)
			if err != nil {
				return fmt.Errorf("round %d, %s on %d nodes: %w", round+1, p.what, p.nodes, err)
			}
			for _, c := range cells {
				fmt.Fprintf(to, "round %d: %v\n", c.Round, c)
			}
			m.Cells = append(m.Cells, cells...)
		}
	}
	if o.NATS != "" && !o.FanOut {
		if err := m.measureBus(ctx, o.NATS, to); err != nil {
			return err
		}
	}
	fmt.Fprint(to, m.nodesText())
	if o.Results == "" || o.FanOut {
		return nil
	}
	data, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	dir := filepath.Join(o.Results, m.Time.Format(time.DateOnly)+"-scale")
	fmt.Fprintln(to, "written to", dir)
	return rig.Save(dir, map[string]string{measuredFile: string(data) + "\n"})
}

const measuredFile = "measured.json"

// play is some cells on the same nodes.
type play struct {
	what  string
	nodes int
	rates []float64
	calls []string
	fan   bool
}

// What cells are called.
const (
	commitCells = "commits"
	fanCells    = "fan-out"
	callCells   = "calls"

	busyCallCells = "calls, flat out"
)

// fanTopics is how many topics the streams of the cells of fan-out follow, in turn.
const fanTopics = 20

// Rates of the cells, a second.
const (
	fanRate  = 100.0 // of commits: each stream hears of one in twenty
	callRate = 300.0
	flatOut  = 1e6 // as many as there is time for
)

// plays are one round, in an order that turns around from one to the next.
func plays(o *measureOptions, round int) []play {
	all := []play{
		{what: fanCells, nodes: 1, fan: true},
		{what: fanCells, nodes: 3, fan: true},
	}
	if !o.FanOut {
		all = append(all, []play{
			{what: commitCells, nodes: 1, rates: []float64{0, 100, 400, 1000, flatOut}},
			{what: commitCells, nodes: 2, rates: []float64{400}},
			{what: commitCells, nodes: 4, rates: []float64{0, 400, 1000}},
			{what: callCells, nodes: 1, calls: []string{keptCalls, strongCalls, writeCalls}},
			{what: busyCallCells, nodes: 1, calls: []string{keptCalls, strongCalls, writeCalls}},
		}...)
	}
	if round%2 == 1 {
		for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
			all[i], all[j] = all[j], all[i]
		}
	}
	return all
}

// perform has its nodes started and ended.
func (p play) perform(ctx context.Context, s *stage, o *measureOptions, round int) (cells []*cell, err error) {
	if _, err := s.postgres.Admin.Exec(ctx, "truncate messages"); err != nil {
		return nil, err
	}
	if err := s.fill(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.raise(ctx, o.Freshet, p.nodes); err != nil {
		return nil, err
	}
	measure := func(c *cell, kind string) error {
		c.Round, c.Nodes, c.Name = round, p.nodes, p.what
		var call func(context.Context) error
		if kind != "" {
			var err error
			if call, err = s.caller(ctx, kind); err != nil {
				return err
			}
		}
		cells = append(cells, c)
		calls := callRate
		if p.what == busyCallCells {
			calls = flatOut
		}
		return s.measure(ctx, c, o.Warmup, o.Duration, call, calls)
	}
	for _, rate := range p.rates {
		if err := measure(&cell{Rate: rate, Topics: 100}, ""); err != nil {
			return nil, err
		}
	}
	for _, kind := range p.calls {
		if err := measure(&cell{Calls: kind}, kind); err != nil {
			return nil, err
		}
	}
	if !p.fan {
		return cells, nil
	}
	// What the streams cost without news, and without streams what the news costs.
	if err := measure(&cell{Rate: fanRate, Topics: fanTopics}, ""); err != nil {
		return nil, err
	}
	if err := s.follow(ctx, o.Streams, fanTopics); err != nil {
		return nil, err
	}
	if err := measure(&cell{Streams: o.Streams, Topics: fanTopics}, ""); err != nil {
		return nil, err
	}
	return cells, measure(&cell{Rate: fanRate, Streams: o.Streams, Topics: fanTopics}, "")
}

func (c *cell) String() string {
	return fmt.Sprintf("%s on %d nodes, %.0f commits/s %s %.0f/s, %.0f frames/s: node %.4f CPUs, walsenders %.4f, gates %.4f, probes %.4f, pools %.4f, writers %.4f, background %.4f; %.0f snapshots/s",
		c.Name, c.Nodes, c.Commits, c.Calls, c.Called, c.Frames, c.nodeCPU(), c.CPU[walsenders], c.CPU[gates], c.CPU[probes], c.CPU[pools], c.CPU[writing], c.CPU[background], c.Snapshots)
}
