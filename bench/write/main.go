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

	Rounds        int           `default:"4" help:"Rounds; each has every variant with every number of writers." json:"rounds"`
	Duration      time.Duration `default:"3s" help:"How long each writes." json:"duration"`
	Warmup        time.Duration `default:"500ms" help:"Time before it that doesn't count." json:"warmup"`
	Writers       []int         `default:"1,8,32" help:"Numbers of writers." json:"writers"`
	Conversations int           `default:"100" help:"Conversations that are written to, and polled." json:"conversations"`

	Results string `default:"bench/results" help:"Folder to write a folder of results to; empty: none." json:"-"`
}

// Validate is called by kong.
func (o *options) Validate() error {
	switch {
	case o.Rounds < 1 || o.Duration < time.Second || o.Warmup < 0:
		return errors.New("want one round of a second at least")
	case len(o.Writers) == 0 || slices.Min(o.Writers) < 1:
		return errors.New("want one writer at least")
	case o.Conversations < 1:
		return errors.New("want one conversation at least")
	}
	return nil
}

func main() {
	rig.Main("write", "Measures writes per second beside capture, LISTEN/NOTIFY and polling.", run)
}

func run(ctx context.Context, o *options, to io.Writer) (err error) {
	r := &report{Origin: rig.ThisRun(ctx, "write", "make bench/write"), Options: *o}
	fmt.Fprintf(to, "machine: %v; %.2f CPUs busy with other things\n", r.Machine, r.Machine.Busy)
	fmt.Fprint(to, r.Machine.Warning(r.Machine.Busy))
	s, err := setUp(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.postgres.Stop()) }()
	r.Program = s.postgres.Version
	if r.Postgres, err = rig.ReadSettings(ctx, s.postgres.URL); err != nil {
		return err
	}
	fmt.Fprintf(to, "server: %s, commit %s; PostgreSQL %s\n", r.Program, r.Commit, r.Postgres.Version())

	for round := range o.Rounds {
		for i, writers := range o.Writers {
			for _, v := range inOrder(round + i) {
				one, err := s.measure(ctx, v, round, writers)
				if err != nil {
					return fmt.Errorf("%s, %d writers, round %d: %w", v.name, writers, round+1, err)
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r.Cells = append(r.Cells, one)
				fmt.Fprintf(to, "round %d of %d  %2d writers  %-7s  %6.0f writes/s\n", round+1, o.Rounds, writers, v.name, one.WritesPerSec)
			}
		}
	}
	fmt.Fprintf(to, "\n%s%s", r.table(), r.warning())
	if o.Results == "" {
		return nil
	}
	dir := filepath.Join(o.Results, r.Time.Format(time.DateOnly)+"-write")
	if err := r.save(dir); err != nil {
		return err
	}
	fmt.Fprintln(to, "\nwritten to", dir)
	return nil
}
