package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/freshet-dev/freshet/bench/rig"
)

type options struct {
	Freshet     string `default:"bin/freshet" help:"The program to start."`
	URL         string `placeholder:"URL" help:"Measure a server that runs already; needs --database-url."`
	DatabaseURL string `placeholder:"URL" help:"The server's database. Unset: a private Postgres, removed in the end. Rows are left in it."`

	Runs       int           `default:"3" help:"Runs of each scenario."`
	Duration   time.Duration `default:"15s" help:"Length of a run."`
	Warmup     time.Duration `default:"2s" help:"Time before it that doesn't count."`
	IdleRate   float64       `default:"20" help:"Measured writes per second when idle."`
	LoadedRate float64       `default:"100" help:"Measured writes per second under load."`
	TotalRate  float64       `default:"1000" help:"All writes per second under load."`
	Writers    int           `default:"8" help:"Connections of the background load."`

	Results string `default:"bench/results" help:"Folder to write a folder of results to; empty: none."`
}

// Validate is called by kong.
func (o *options) Validate() error {
	switch {
	case o.URL != "" && o.DatabaseURL == "":
		return errors.New("--url needs --database-url: rows are written by SQL")
	case o.Runs < 1 || o.Duration < time.Second || o.Warmup < 0 || o.Writers < 1:
		return errors.New("want one run of a second and one writer at least")
	case o.IdleRate <= 0 || o.LoadedRate <= 0 || o.TotalRate <= o.LoadedRate:
		return errors.New("rates must be positive, and --total-rate higher than --loaded-rate")
	}
	return nil
}

func main() {
	rig.Main("latency", "Measures commit → notice and commit → refetched data.", run)
}

func run(ctx context.Context, o *options, to io.Writer) (err error) {
	r := &report{Origin: rig.ThisRun(ctx, "latency", "make bench"), Quantities: quantities}
	fmt.Fprintf(to, "machine: %v; %.2f CPUs busy with other things\n", r.Machine, r.Machine.Busy)
	if r.Machine.TooBusy(r.Machine.Busy) {
		fmt.Fprintln(to, "*** The machine is busy: these figures will say little.")
	}
	t := rig.Running(o.URL, o.DatabaseURL)
	if o.URL == "" {
		if t, err = rig.Start(ctx, o.Freshet, o.DatabaseURL); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, t.Stop()) }()
	r.Program = t.Version
	if r.Postgres, err = rig.ReadSettings(ctx, t.DatabaseURL); err != nil {
		return err
	}
	fmt.Fprintf(to, "server: %s, commit %s; PostgreSQL %s\n", r.Program, r.Commit, r.Postgres.Version())

	r.Scenarios = []outcome{
		{scenario: scenario{Name: "idle", MeasuredRate: o.IdleRate, TotalRate: o.IdleRate}},
		{scenario: scenario{Name: "loaded", MeasuredRate: o.LoadedRate, TotalRate: o.TotalRate}},
	}
	for i := range o.Runs {
		for j := range r.Scenarios {
			s := &r.Scenarios[j]
			fmt.Fprintf(to, "%s, run %d of %d, %v after %v of warm-up\n", s.Name, i+1, o.Runs, o.Duration, o.Warmup)
			one, err := runScenario(ctx, t, s.scenario, o, to)
			if err != nil {
				return fmt.Errorf("%s, run %d: %w", s.Name, i+1, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.Runs = append(s.Runs, one)
		}
	}
	for i := range r.Scenarios {
		r.Scenarios[i].settle()
	}
	fmt.Fprintln(to)
	if err := r.table(to); err != nil {
		return err
	}
	fmt.Fprint(to, r.warning())
	if o.Results == "" {
		return nil
	}
	dir := filepath.Join(o.Results, r.Time.Format(time.DateOnly)+"-latency")
	if err := r.save(dir); err != nil {
		return err
	}
	fmt.Fprintln(to, "\nwritten to", dir)
	return nil
}
