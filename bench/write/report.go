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

// over are the figures of a variant's rounds that know it.
func (r *report) over(variant string, writers int, get func(*cell) *float64) (values []float64) {
	for _, c := range r.Cells {
		if c.Variant != variant || c.Writers != writers {
			continue
		}
		if value := get(c); value != nil {
			values = append(values, *value)
		}
	}
	return values
}

// ratio is a cell's writes to the bare ones of its round.
func (r *report) ratio(c *cell) *float64 {
	for _, bare := range r.Cells {
		if bare.Variant == "bare" && bare.Writers == c.Writers && bare.Round == c.Round && bare.WritesPerSec > 0 {
			ratio := c.WritesPerSec / bare.WritesPerSec
			return &ratio
		}
	}
	return nil
}

func perSecond(c *cell) *float64 { return &c.WritesPerSec }

// micros is CPU time per row.
func micros(share func(*cell) *float64) func(*cell) *float64 {
	return func(c *cell) *float64 { return times(share(c), 1e6/c.WritesPerSec) }
}

// seconds is CPU time in the time that counts.
func seconds(share func(*cell) *float64) func(*cell) *float64 {
	return func(c *cell) *float64 { return times(share(c), c.Seconds) }
}

func times(value *float64, factor float64) *float64 {
	if value == nil {
		return nil
	}
	product := *value * factor
	return &product
}

func ofPostgres(c *cell) *float64 { return c.CPU.Postgres }
func ofSessions(c *cell) *float64 { return &c.Sessions }
func ofClients(c *cell) *float64  { return c.CPU.Driver }
func ofOthers(c *cell) *float64   { return c.CPU.Others }
func told(c *cell) *float64       { return c.ToldMillis }

// ofAll is the machine's, to see whether its CPUs were saturated.
func ofAll(c *cell) *float64 {
	sum := 0.0
	for _, share := range []*float64{c.CPU.Server, c.CPU.Postgres, c.CPU.Driver, c.CPU.Others} {
		if share == nil {
			return nil
		}
		sum += *share
	}
	return &sum
}

// ofServer and ofWalsender are nil where there is none.
func ofServer(c *cell) *float64 {
	if c.Variant != "capture" {
		return nil
	}
	return c.CPU.Server
}

func ofWalsender(c *cell) *float64 {
	if c.Variant != "capture" {
		return nil
	}
	return &c.Walsender
}

// table is what people read: medians over the rounds.
func (r *report) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "writers\tvariant\twrites/s\t× bare\tleast–most\tCPUs busy\tCPU s: Postgres\tserver\tclients\tµs per row: Postgres\tof it walsender\tfollowers' sessions\tserver\tall told after, ms\t\n")
	for _, writers := range r.Options.Writers {
		for _, v := range variants {
			of := func(get func(*cell) *float64) []float64 { return r.over(v.name, writers, get) }
			ratios := of(r.ratio)
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", writers, v.name,
				median("%.0f", of(perSecond)), median("%.2f", ratios), spread("%.2f", ratios), median("%.2f", of(ofAll)),
				median("%.2f", of(seconds(ofPostgres))), median("%.2f", of(seconds(ofServer))), median("%.2f", of(seconds(ofClients))),
				median("%.0f", of(micros(ofPostgres))), median("%.0f", of(micros(ofWalsender))), median("%.0f", of(micros(ofSessions))),
				median("%.0f", of(micros(ofServer))), median("%.0f", of(told)))
		}
	}
	_ = w.Flush() // into memory
	return b.String()
}

func median(format string, values []float64) string {
	if len(values) == 0 {
		return "–"
	}
	return fmt.Sprintf(format, rig.Median(values))
}

// spread is how far rounds are apart.
func spread(format string, values []float64) string {
	if len(values) == 0 {
		return "–"
	}
	return fmt.Sprintf(format+"–"+format, slices.Min(values), slices.Max(values))
}

// benchstat is one line per cell, in the format of Go's benchmarks.
func (r *report) benchstat() string {
	var b strings.Builder
	fmt.Fprintf(&b, "goos: %s\ngoarch: %s\npkg: github.com/freshet-dev/freshet/bench/write\ncommit: %s\n", r.Machine.OS, r.Machine.Arch, r.Commit)
	for _, c := range r.Cells {
		fmt.Fprintf(&b, "BenchmarkWrite/variant=%s/writers=%d 1 %.5g writes/s", c.Variant, c.Writers, c.WritesPerSec)
		for _, f := range []struct {
			unit string
			of   func(*cell) *float64
		}{{"postgres-cpu-µs/row", micros(ofPostgres)}, {"server-cpu-µs/row", micros(ofServer)}, {"told-ms", told}} {
			if value := f.of(c); value != nil {
				fmt.Fprintf(&b, " %.4g %s", *value, f.unit)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// plot has the writes of all variants side by side, per number of writers.
func (r *report) plot() string {
	var panels []bars.Panel
	for _, writers := range r.Options.Writers {
		p := bars.Panel{Title: fmt.Sprintf("Writes per second, %d writers (× bare)", writers)}
		if writers == 1 {
			p.Title = "Writes per second, one writer (× bare)"
		}
		for _, v := range variants {
			values := r.over(v.name, writers, perSecond)
			if len(values) == 0 {
				continue
			}
			value := rig.Median(values)
			p.Bars = append(p.Bars, bars.Bar{
				Label: v.name, Value: value, Ours: v.name == "capture",
				Text: fmt.Sprintf("%.0f (%s)", value, median("%.2f", r.over(v.name, writers, r.ratio))),
			})
		}
		panels = append(panels, p)
	}
	return bars.SVG("Cost of following writes", "Writes per second, by who follows them",
		fmt.Sprintf("%v; PostgreSQL %s and all others on the same machine", r.Machine, r.Postgres.Version()), panels)
}

// busiest is the most that something else took of the machine in a cell.
func (r *report) busiest() float64 {
	most := math.Inf(-1)
	for _, c := range r.Cells {
		if others := ofOthers(c); others != nil {
			most = max(most, *others)
		}
	}
	return most
}

// warning says when figures are of no use; empty: nothing is known against them.
func (r *report) warning() string { return r.Machine.Warning(max(r.Machine.Busy, r.busiest())) }

// save writes the folder of results.
func (r *report) save(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return rig.Save(dir, map[string]string{
		"README.md": r.readme(), "results.json": string(data) + "\n", "benchstat.txt": r.benchstat(), "write.svg": r.plot(),
	})
}

func (r *report) readme() string {
	var about strings.Builder
	for _, v := range variants {
		fmt.Fprintf(&about, "- **%s**: %s\n", v.name, v.about)
	}
	var polls []float64
	for _, c := range r.Cells {
		if c.Variant == "poll" {
			polls = append(polls, c.PollsPerSec)
		}
	}
	o := r.Options
	return fmt.Sprintf(`# Writes, %s
%s
![Writes per second of each variant](write.svg)

`+"```\n%s```"+`

%s
The poller came to %s queries a second. Medians of %d rounds, which alternate between the variants; each writes for %v after %v of warm-up. Ratios are to the bare writes of the same round; least and most are of all rounds. CPU seconds are of those %v, CPUs busy the whole machine's; followers' sessions are those of the server (the gate's), listener or poller; clients are the writers and whoever follows. All told after: from the last COMMIT's return until everything has been told.

| | |
|---|---|
| Command | `+"`%s`"+` |
| Program | %s, commit %s |
| Machine | %v; %.2f CPUs busy with other things before the start, at most %.2f meanwhile (the kernel's own work for the disk included) |
| Database | PostgreSQL %s, %v |

What is measured, and how, is in [the program's comment](../../write/doc.go).
`, r.Time.Format("2 January 2006"), r.warning(), r.table(), about.String(), spread("%.0f", polls), o.Rounds, o.Duration, o.Warmup, o.Duration,
		r.Command, r.Program, r.Commit, r.Machine, r.Machine.Busy, r.busiest(), r.Postgres.Version(), r.Postgres)
}
