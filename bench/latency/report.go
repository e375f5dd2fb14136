package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/freshet-dev/freshet/bench/rig"
)

// report is everything that a run of the program found; results.json is it.
type report struct {
	rig.Origin

	Quantities []quantity `json:"quantities"`
	Scenarios  []outcome  `json:"scenarios"`
}

// outcome is a scenario with all its runs.
type outcome struct {
	scenario

	Runs   []*result          `json:"runs"`
	Median map[string]summary `json:"median_over_runs"`
}

func (o *outcome) settle() {
	o.Median = make(map[string]summary)
	for _, q := range quantities {
		var runs []summary
		for _, r := range o.Runs {
			runs = append(runs, r.Quantities[q.Key])
		}
		o.Median[q.Key] = overRuns(runs)
	}
}

// over is the median over runs of one figure; NaN when a run doesn't know it.
func (o *outcome) over(get func(*result) *float64) float64 {
	var values []float64
	for _, r := range o.Runs {
		value := get(r)
		if value == nil {
			return math.NaN()
		}
		values = append(values, *value)
	}
	return rig.Median(values)
}

// table writes what people read.
func (r *report) table(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "scenario\tmilliseconds\tn\tp50\tp90\tp99\tmax\t\n")
	for _, o := range r.Scenarios {
		for _, q := range quantities {
			s := o.Median[q.Key]
			fmt.Fprintf(w, "%s\t%s\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t\n", o.Name, q.Label, s.N, s.P50, s.P90, s.P99, s.Max)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(to)
	w = tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "scenario\truns\twrites/s\tsamples\tother transactions/s\tCPUs busy: server\tPostgres\tdriver\tothers\t\n")
	for _, o := range r.Scenarios {
		samples := 0
		for _, run := range o.Runs {
			samples += run.Samples
		}
		fmt.Fprintf(w, "%s\t%d\t%.0f\t%d\t%.0f\t%s\t%s\t%s\t%s\t\n", o.Name, len(o.Runs),
			o.over(func(r *result) *float64 { return &r.WritesPerSec }), samples,
			o.over(func(r *result) *float64 { return &r.OthersPerSec }),
			known(o.over(func(r *result) *float64 { return r.CPU.Server })),
			known(o.over(func(r *result) *float64 { return r.CPU.Postgres })),
			known(o.over(func(r *result) *float64 { return r.CPU.Driver })),
			known(o.over(func(r *result) *float64 { return r.CPU.Others })))
	}
	return w.Flush()
}

func known(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return fmt.Sprintf("%.2f", x)
}

// warning says when figures are of no use; empty: nothing is known against them.
func (r *report) warning() string {
	others := r.Machine.Busy
	for _, o := range r.Scenarios {
		for _, run := range o.Runs {
			if run.CPU.Others != nil {
				others = max(others, *run.CPU.Others)
			}
		}
	}
	return r.Machine.Warning(others)
}

// plot draws the headline quantities, all runs of a scenario together.
func (r *report) plot() string {
	var panels []panel
	for _, o := range r.Scenarios {
		p := panel{Title: fmt.Sprintf("%s: %.0f writes/s", o.Name, o.over(func(r *result) *float64 { return &r.WritesPerSec }))}
		for _, q := range quantities[:3] {
			c := curve{Label: q.Label}
			for _, run := range o.Runs {
				c.Values = append(c.Values, valuesOf(run.samples, q)...)
			}
			p.Curves = append(p.Curves, c)
		}
		panels = append(panels, p)
	}
	return plotSVG("Freshet: from COMMIT's return to notice and refetched data",
		fmt.Sprintf("%v; server, PostgreSQL %s and clients on the same machine; percentiles of all runs",
			r.Machine, r.Postgres.Version()), panels)
}

// save writes the folder of results.
func (r *report) save(dir string) error {
	var table bytes.Buffer
	if err := r.table(&table); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	readme := fmt.Sprintf(readmeText, r.Time.Format("2 January 2006"), r.warning(), table.String(), r.Command, r.Program, r.Commit, r.Machine,
		r.Machine.Busy, r.Postgres.Version(), r.Postgres)
	return rig.Save(dir, map[string]string{"README.md": readme, "results.json": string(data) + "\n", "latency.svg": r.plot()})
}

const readmeText = `# Latency, %s
%s
![Percentiles of commit → notice and commit → refetched data](latency.svg)

` + "```\n%s```" + `

Percentiles are medians over the runs, which alternate between the scenarios; max is the highest of all. ` + "`results.json`" + ` has each run.

| | |
|---|---|
| Command | ` + "`%s`" + ` |
| Program | %s, commit %s |
| Machine | %v; %.2f CPUs busy with other things before the start |
| Database | PostgreSQL %s, %v |

What is measured, and from when to when, is in [the program's comment](../../latency/doc.go).
`
