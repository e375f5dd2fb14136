package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

type curvesOptions struct {
	Sweeps   []string      `help:"Sweeps to measure; unset: all."`
	Rounds   int           `default:"2" help:"Rounds."`
	Duration time.Duration `default:"1s" help:"Length of a point, at least."`
	Most     int           `default:"19000" help:"Connections at most. The limit of open files bounds it."`
	Results  string        `default:"../results" help:"Folder to write a folder of results to; empty: none."`
}

// sweep is one quantity that grows while the others stay, for each of some
// servers, and what is drawn over it.
type sweep struct {
	name    string
	axis    string // what grows
	about   string // what stays
	xs      []int
	peers   []string // the first is what verdicts are about
	measure func(ctx context.Context, peer string, x int, o *curvesOptions) (*point, error)
	curves  []quantity
}

// quantity is one curve over a sweep.
type quantity struct {
	head   string // of table and plot
	format string
	of     func(*point) float64
	drawn  bool // else it is in the table only
}

var (
	perNotice = quantity{"server CPU per notice, ms", "%.3f", func(m *point) float64 { return m.CPUMicros / 1000 }, true}
	perCommit = quantity{"CPU per commit, µs", "%.3f", func(m *point) float64 { return m.CPUMicros }, true}
	perFill   = quantity{"CPU per new topic, µs", "%.3f", func(m *point) float64 { return m.FillNanos / 1000 }, false}
	cores     = quantity{"server CPU, cores", "%.4f", func(m *point) float64 { return m.Cores }, true}
	memory    = quantity{"memory, MiB", "%.2f", func(m *point) float64 { return m.MiB }, true}
	delay     = quantity{"99 % told after, ms", "%.2f", func(m *point) float64 { return m.P99 }, true}
	perFrame  = quantity{"CPU per frame, µs", "%.2f", func(m *point) float64 { return m.CPUMicros / max(m.Frames*float64(m.Told), 1e-9) }, false}
	frames    = quantity{"frames per notice", "%.3f", func(m *point) float64 { return m.Frames }, false}
)

// sweeps in the order of the table. Without a throttle rates are such that
// nothing is merged, neither for want of CPU nor because a publisher's timer
// wakes it once a millisecond only: a curve would look better than it is.
func sweeps() []sweep {
	return []sweep{
		{
			"connections", "connections, all of one topic", "4 notices/s, `throttle=0`",
			[]int{100, 300, 1000, 3000, 10_000, 19_000}, []string{"freshet", "floor"},
			func(ctx context.Context, peer string, x int, o *curvesOptions) (*point, error) {
				l := load{peer: peer, connections: min(x, o.Most), rate: 4, memory: true}
				return l.measure(ctx, max(o.Duration, 1500*time.Millisecond)) // six notices
			},
			[]quantity{perNotice, memory, delay, perFrame, frames},
		},
		{
			"topics", "topics in the table", "a million commits of a random one of them each; nobody follows",
			[]int{10, 100, 1000, 10_000, 100_000, 1_000_000}, []string{"freshet"},
			func(ctx context.Context, _ string, x int, _ *curvesOptions) (*point, error) {
				return measureTable(ctx, x, 1_000_000)
			},
			[]quantity{perCommit, memory, perFill},
		},
		{
			"subscribers", "subscribers of each topic", "10,000 connections of one topic each; 20 notices/s, of another topic each, `throttle=0`",
			[]int{1, 10, 100, 1000, 10_000}, []string{"freshet"},
			func(ctx context.Context, peer string, x int, o *curvesOptions) (*point, error) {
				all := min(10_000, o.Most)
				l := load{peer: peer, connections: all, topics: max(1, all/x), rate: 20}
				if x >= 10_000 {
					l.rate = 5 // 50,000 frames/s
				}
				return l.measure(ctx, o.Duration)
			},
			[]quantity{perNotice, perFrame, frames},
		},
		{
			"notices", "notices per second, each to one connection", "1,000 connections of one topic each, the notices of one after the other, `throttle=0`; the publisher's own cost is in it",
			[]int{10, 100, 1000, 3000, 10_000}, []string{"freshet"},
			func(ctx context.Context, peer string, x int, o *curvesOptions) (*point, error) {
				l := load{peer: peer, connections: min(1000, o.Most), topics: min(1000, o.Most), rate: x}
				return l.measure(ctx, o.Duration)
			},
			[]quantity{cores, perFrame, frames},
		},
		{
			"writes", "writes per second of one topic, merged", "1,000 connections, default throttle (100 ms); the publisher's own cost is in it",
			[]int{10, 100, 1000, 3000, 10_000}, []string{"freshet"},
			func(ctx context.Context, peer string, x int, o *curvesOptions) (*point, error) {
				l := load{peer: peer, connections: min(1000, o.Most), throttle: -1, rate: x, window: 100 * time.Millisecond}
				return l.measure(ctx, o.Duration)
			},
			[]quantity{cores, perFrame, frames},
		},
		{
			"throttle", "throttle window, ms", "100 notices/s to 1,000 connections",
			[]int{1, 10, 30, 100, 300, 1000}, []string{"freshet"},
			func(ctx context.Context, peer string, x int, o *curvesOptions) (*point, error) {
				window := time.Duration(x) * time.Millisecond
				l := load{peer: peer, connections: min(1000, o.Most), throttle: window, rate: 100, window: window}
				return l.measure(ctx, o.Duration)
			},
			[]quantity{cores, perFrame, frames},
		},
	}
}

// Validate is called by kong.
func (o *curvesOptions) Validate() error {
	if o.Rounds < 1 || o.Duration <= 0 || o.Most < 100 {
		return errors.New("want one round, some time and a hundred connections at least")
	}
	known := map[string]bool{}
	for _, s := range sweeps() {
		known[s.name] = true
	}
	for _, name := range o.Sweeps {
		if !known[name] {
			return fmt.Errorf("there is no sweep %q", name)
		}
	}
	if len(o.Sweeps) == 0 {
		for _, s := range sweeps() {
			o.Sweeps = append(o.Sweeps, s.name)
		}
	}
	return nil
}

// Run measures the curves and writes the results.
func (o *curvesOptions) Run(ctx context.Context) error {
	r := &scaling{
		Time: time.Now().UTC(), Command: commandOf("make bench/curves", os.Args[2:]), Commit: commitOfTree(ctx), Machine: thisMachine(),
		Options: *o, Loads: []string{loadOf()}, Points: map[string][][]*point{},
	}
	for i := range o.Rounds {
		for _, s := range r.sweeps() {
			if err := r.round(ctx, s); err != nil {
				return fmt.Errorf("%s, round %d: %w", s.name, i+1, err)
			}
			r.Loads = append(r.Loads, loadOf())
		}
	}
	r.Took = time.Since(r.Time).Round(time.Second).String()
	fmt.Fprintf(os.Stdout, "\n%s\n", r.tables())
	if o.Results == "" {
		return nil
	}
	dir := filepath.Join(o.Results, r.Time.Format(time.DateOnly)+"-curves")
	if err := r.save(dir); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "written to", dir)
	return nil
}

// round measures each point of a sweep once.
func (r *scaling) round(ctx context.Context, s sweep) error {
	for _, peer := range s.peers {
		key := s.key(peer)
		if r.Points[key] == nil {
			r.Points[key] = make([][]*point, len(s.xs))
		}
		for i, x := range s.xs {
			began := time.Now()
			m, err := s.measure(ctx, peer, x, &r.Options)
			if err != nil {
				return fmt.Errorf("%s at %d: %w", peer, x, err)
			}
			r.Points[key][i] = append(r.Points[key][i], m)
			fmt.Fprintf(os.Stdout, "%s, %s at %d: %+v (%.1f s, load %s)\n", s.name, peer, x, *m, time.Since(began).Seconds(), loadOf())
		}
	}
	return nil
}
