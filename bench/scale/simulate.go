package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/freshet-dev/freshet/bench/rig"
	"github.com/freshet-dev/freshet/bench/scale/sim"
)

type simulateOptions struct {
	Measured string `help:"The measured.json to take costs from; unset: the newest in the results." json:"-"`
	Seed     uint64 `default:"1" help:"Of chance." json:"seed"`
	Clients  []int  `default:"10000,100000,1000000,10000000" help:"Numbers of clients." json:"clients"`
	Results  string `default:"bench/results" help:"Folder to write a folder of results to; empty: none." json:"-"`
}

// Validate is called by kong.
func (o *simulateOptions) Validate() error {
	if len(o.Clients) == 0 || slices.Min(o.Clients) < 100 {
		return errors.New("want numbers of clients, from 100 on")
	}
	return nil
}

// future is everything that was worked out; results.json is it.
type future struct {
	Time     time.Time       `json:"time"`
	Command  string          `json:"command"`
	Commit   string          `json:"commit"`
	From     string          `json:"measured"` // the folder of results
	Options  simulateOptions `json:"options"`
	Costs    sim.Costs       `json:"costs"`
	Limits   sim.Limits      `json:"limits"`
	Prices   prices          `json:"prices"`
	Compared []comparison    `json:"compared"`
	Rows     []*row          `json:"rows"`
	Breaks   []*breaking     `json:"breaks"`

	measured *measurement
}

// row is a scenario with a number of clients and a variant.
type row struct {
	Scenario string      `json:"scenario"`
	Variant  string      `json:"variant"`
	Clients  int         `json:"clients"`
	Plan     *sim.Plan   `json:"plan"`
	Money    money       `json:"money"` // a month
	Result   *sim.Result `json:"-"`     // of one shard
	Told50   float64     `json:"told_p50_ms"`
	Told99   float64     `json:"told_p99_ms"`
	Fresh50  float64     `json:"fresh_p50_ms"`
	Fresh99  float64     `json:"fresh_p99_ms"`
}

// breaking is how many clients one database takes.
type breaking struct {
	Scenario string         `json:"scenario"`
	Variant  string         `json:"variant"`
	At       map[string]int `json:"at"`
}

// Run works out the future, and writes it.
func (o *simulateOptions) Run(ctx context.Context, to io.Writer) error {
	file, err := o.file()
	if err != nil {
		return err
	}
	m, err := load(file)
	if err != nil {
		return err
	}
	f, err := foretell(m, o)
	if err != nil {
		return err
	}
	f.Time, f.Commit = time.Now().UTC(), rig.CommitOfTree(ctx)
	f.Command, f.From = rig.Command("scale", "make bench/scale", os.Args[1:]), filepath.Base(filepath.Dir(file))
	fmt.Fprintf(to, "%s\n%s\n%s\n%s\n%s\n", f.comparisonTable(), f.fleetTable(), f.loadTable(), f.breakTable(), m.nodesText())
	if o.Results == "" {
		return nil
	}
	data, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(file)
	fmt.Fprintln(to, "written to", dir)
	return rig.Save(dir, map[string]string{"README.md": f.readme(), "results.json": string(data) + "\n", "scale.svg": f.plot()})
}

// file is what to take costs from.
func (o *simulateOptions) file() (string, error) {
	if o.Measured != "" {
		return o.Measured, nil
	}
	all, err := filepath.Glob(filepath.Join("bench", "results", "*-scale", measuredFile))
	if err != nil || len(all) == 0 {
		return "", errors.Join(errors.New("no bench/results/*-scale/"+measuredFile+": `go run ./bench/scale measure` makes one"), err)
	}
	return slices.Max(all), nil
}

func load(file string) (*measurement, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	m := new(measurement)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}

// foretell is all of it but time and place.
func foretell(m *measurement, o *simulateOptions) (*future, error) {
	c, err := m.costs()
	if err != nil {
		return nil, err
	}
	f := &future{Options: *o, Costs: c, Limits: limits, Prices: listPrices, measured: m}
	if f.Compared, err = m.comparisons(c); err != nil {
		return nil, err
	}
	for _, s := range scenarios {
		for _, v := range variants {
			at, err := sim.Breaks(c, s.load, v.want, limits)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", s.name, v.name, err)
			}
			f.Breaks = append(f.Breaks, &breaking{s.name, v.name, at})
		}
		for _, clients := range o.Clients {
			for _, v := range []variant{plain, s.best} {
				r, err := f.row(s, v, clients)
				if err != nil {
					return nil, fmt.Errorf("%s, %s, %d clients: %w", s.name, v.name, clients, err)
				}
				f.Rows = append(f.Rows, r)
			}
		}
	}
	return f, nil
}

func (f *future) row(s scenario, v variant, clients int) (*row, error) {
	r := &row{Scenario: s.name, Variant: v.name, Clients: clients}
	var err error
	if r.Plan, err = sim.Size(f.Costs, s.load(clients), v.want, f.Limits); err != nil {
		return nil, err
	}
	r.Money = f.Prices.month(r.Plan, f.Limits)
	// Long enough for some thousand commits, short enough for a million events.
	seconds := min(120, max(0.5, 3000/r.Plan.Load.Commits))
	if r.Result, err = sim.Run(f.Options.Seed, f.Costs, r.Plan.Load, r.Plan.Fleet, seconds); err != nil {
		return nil, err
	}
	ms := func(seconds float64) float64 { return math.Round(seconds*1e4) / 10 }
	r.Told50, r.Told99 = ms(r.Result.ToldP50+f.Costs.Network*1e-6), ms(r.Result.ToldP99+f.Costs.Network*1e-6)
	r.Fresh50, r.Fresh99 = ms(r.Result.FreshP50), ms(r.Result.FreshP99)
	return r, nil
}
