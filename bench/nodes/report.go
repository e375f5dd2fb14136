package main

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/freshet-dev/freshet/bench/bars"
	"github.com/freshet-dev/freshet/bench/rig"
)

// report is everything that a run found; results.json is it.
type report struct {
	rig.Origin

	Options options `json:"options"`
	Cells   []*cell `json:"cells"` // in the order of time
}

// micros is CPU time per row; nil where it isn't known.
func micros(c *cell, cpus *float64) *float64 {
	if cpus == nil || c.CommitsPerSec == 0 {
		return nil
	}
	value := *cpus * 1e6 / (c.CommitsPerSec * float64(c.Rows))
	return &value
}

func text(format string, value *float64) string {
	if value == nil {
		return "–"
	}
	return fmt.Sprintf(format, *value)
}

func ofPostgres(c *cell) *float64   { return micros(c, c.CPU.Postgres) }
func ofWalsenders(c *cell) *float64 { return micros(c, &c.Walsenders) }
func ofSessions(c *cell) *float64   { return micros(c, &c.Sessions) }
func ofNodes(c *cell) *float64      { return micros(c, c.CPU.Server) }
func perSecond(c *cell) *float64    { return &c.CommitsPerSec }
func cpusOf(c *cell) *float64       { return c.CPU.Postgres }

// median is that of the rounds that know a figure; nil: none does.
func (r *report) median(nodes, rows int, get func(*cell) *float64) *float64 {
	var values []float64
	for _, c := range r.Cells {
		if value := get(c); c.Nodes == nodes && c.Rows == rows && value != nil {
			values = append(values, *value)
		}
	}
	if len(values) == 0 {
		return nil
	}
	value := rig.Median(values)
	return &value
}

func (r *report) counts() []int { return slices.Sorted(slices.Values(r.Options.Nodes)) }

// table is what people read: medians over the rounds.
func (r *report) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "rows per commit\tnodes\tcommits/s\tCPUs of Postgres\tµs per row: Postgres\tof it walsenders\tnodes' sessions\tall nodes\t\n")
	for _, rows := range r.Options.Rows {
		for _, nodes := range r.counts() {
			of := func(format string, get func(*cell) *float64) string { return text(format, r.median(nodes, rows, get)) }
			fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t\n", rows, nodes, of("%.0f", perSecond), of("%.3f", cpusOf),
				of("%.1f", ofPostgres), of("%.1f", ofWalsenders), of("%.1f", ofSessions), of("%.1f", ofNodes))
		}
	}
	_ = w.Flush() // into memory
	return b.String()
}

// slope is what a further node adds to a figure, by least squares over the medians
// of one node and more; nil: there are less than two.
func (r *report) slope(rows int, get func(*cell) *float64) *float64 {
	var n, x, y, xx, xy float64
	for _, nodes := range r.counts() {
		if value := r.median(nodes, rows, get); nodes > 0 && value != nil {
			at := float64(nodes)
			n, x, y, xx, xy = n+1, x+at, y+*value, xx+at*at, xy+at**value
		}
	}
	if n < 2 {
		return nil
	}
	slope := (n*xy - x*y) / (n*xx - x*x)
	return &slope
}

// slopes says what a further node costs.
func (r *report) slopes() string {
	var b strings.Builder
	for _, rows := range r.Options.Rows {
		fmt.Fprintf(&b, "Each further node, at %d rows per commit: %s µs of Postgres per row (walsender %s, sessions %s), %s CPUs at this rate.\n", rows,
			text("%.1f", r.slope(rows, ofPostgres)), text("%.1f", r.slope(rows, ofWalsenders)), text("%.1f", r.slope(rows, ofSessions)), text("%.3f", r.slope(rows, cpusOf)))
	}
	return b.String()
}

// plot has a bar per number of nodes.
func (r *report) plot() string {
	var panels []bars.Panel
	for _, rows := range r.Options.Rows {
		p := bars.Panel{Title: fmt.Sprintf("CPU time of Postgres per row, %d rows per commit", rows)}
		if rows == 1 {
			p.Title = "CPU time of Postgres per row, one row per commit"
		}
		for _, nodes := range r.counts() {
			if value := r.median(nodes, rows, ofPostgres); value != nil {
				p.Bars = append(p.Bars, bars.Bar{Label: fmt.Sprintf("%d nodes", nodes), Value: *value, Text: fmt.Sprintf("%.0f µs", *value), Ours: nodes > 0})
			}
		}
		panels = append(panels, p)
	}
	return bars.SVG("Cost of nodes", "What the primary pays, by number of nodes",
		fmt.Sprintf("%v; PostgreSQL %s, %d commits/s", r.Machine, r.Postgres.Version(), r.Options.Rate), panels)
}

// warning says when figures are of no use; empty: nothing is known against them.
func (r *report) warning() string { return r.Machine.Warning(max(r.Machine.Busy, r.busiest())) }

// busiest is the most that something else took of the machine in a cell.
func (r *report) busiest() float64 {
	most := math.Inf(-1)
	for _, c := range r.Cells {
		if c.CPU.Others != nil {
			most = max(most, *c.CPU.Others)
		}
	}
	return most
}

// save writes the folder of results.
func (r *report) save(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return rig.Save(dir, map[string]string{"README.md": r.readme(), "results.json": string(data) + "\n", "nodes.svg": r.plot()})
}

func (r *report) readme() string {
	return fmt.Sprintf(`# Nodes, %s
%s
![CPU time of Postgres per row, by number of nodes](nodes.svg)

`+"```\n%s```"+`

%s
| | |
|---|---|
| Command | `+"`%s`"+` |
| Program | %s, commit %s |
| Machine | %v; %.2f CPUs busy with other things before the start, at most %.2f meanwhile (the kernel's own work for the disk included) |
| Database | PostgreSQL %s, %v |

What is measured, and how, is in [the program's comment](../../nodes/doc.go).
`, r.Time.Format("2 January 2006"), r.warning(), r.table(), r.slopes(), r.Command, r.Program, r.Commit, r.Machine, r.Machine.Busy, r.busiest(),
		r.Postgres.Version(), r.Postgres)
}
