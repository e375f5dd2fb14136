package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/freshet-dev/freshet/bench/rig"
)

type options struct {
	Freshet string `default:"bin/freshet" help:"The program to start." json:"-"`

	Rounds   int           `default:"3" help:"Rounds; each has every number of nodes with every number of rows." json:"rounds"`
	Duration time.Duration `default:"4s" help:"How long each is measured." json:"duration"`
	Warmup   time.Duration `default:"1s" help:"Time before it that doesn't count." json:"warmup"`
	Nodes    []int         `default:"0,1,2,4,8" help:"Numbers of nodes." json:"nodes"`
	Rows     []int         `default:"1,10" help:"Rows per commit." json:"rows"`
	Rate     int           `default:"400" help:"Commits per second." json:"rate"`

	Results string `default:"bench/results" help:"Folder to write a folder of results to; empty: none." json:"-"`
}

// Validate is called by kong.
func (o *options) Validate() error {
	switch {
	case o.Rounds < 1 || o.Duration < time.Second || o.Warmup < 0:
		return errors.New("want one round of a second at least")
	case len(o.Nodes) == 0 || slices.Min(o.Nodes) < 0 || len(o.Rows) == 0 || slices.Min(o.Rows) < 1:
		return errors.New("want numbers of nodes, and of rows")
	case o.Rate < writers:
		return fmt.Errorf("want %d commits a second at least", writers)
	}
	return nil
}

func main() {
	rig.Main("nodes", "Measures what each further node costs the primary.", run)
}

func run(ctx context.Context, o *options, to io.Writer) (err error) {
	r := &report{Origin: rig.ThisRun(ctx, "nodes", "make bench/nodes"), Options: *o}
	fmt.Fprintf(to, "machine: %v; %.2f CPUs busy with other things\n", r.Machine, r.Machine.Busy)
	fmt.Fprint(to, r.Machine.Warning(r.Machine.Busy))
	s := &stage{options: o}
	if s.postgres, err = rig.StartPostgres(ctx, o.Freshet); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.postgres.Stop()) }()
	r.Program = s.postgres.Version
	if r.Postgres, err = rig.ReadSettings(ctx, s.postgres.URL); err != nil {
		return err
	}
	for round := range o.Rounds {
		counts := slices.Sorted(slices.Values(o.Nodes))
		if round%2 == 1 {
			slices.Reverse(counts)
		}
		for _, nodes := range counts {
			cells, err := s.measure(ctx, nodes, round)
			if err != nil {
				return fmt.Errorf("round %d, %d nodes: %w", round+1, nodes, err)
			}
			for _, c := range cells {
				fmt.Fprintf(to, "round %d: %d nodes, %d rows: %.0f commits/s, %s µs of Postgres per row\n",
					c.Round, c.Nodes, c.Rows, c.CommitsPerSec, text("%.0f", micros(c, c.CPU.Postgres)))
			}
			r.Cells = append(r.Cells, cells...)
		}
	}
	fmt.Fprintf(to, "\n%s\n%s%s", r.table(), r.slopes(), r.warning())
	if o.Results == "" {
		return nil
	}
	dir := filepath.Join(o.Results, r.Time.Format(time.DateOnly)+"-nodes")
	fmt.Fprintln(to, "results:", dir)
	return r.save(dir)
}
