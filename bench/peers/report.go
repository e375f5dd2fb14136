package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/bench/bars"
)

// report is everything that a run found; results.json is it.
type report struct {
	Time    time.Time              `json:"time"`
	Command string                 `json:"command"`
	Commit  string                 `json:"commit"`
	Machine string                 `json:"machine"`
	Options runOptions             `json:"options"`
	Loads   []string               `json:"load_averages"` // after each peer of each round
	Rounds  map[string][]*measured `json:"rounds"`
	Own     own                    `json:"freshet_alone"`
}

// figure is one column: of the table, of benchstat's file, of the plot.
type figure struct {
	title  string // of the plot
	head   string // of the table
	unit   string // of benchstat
	format string
	of     func(*measured) float64
}

var figures = []figure{
	{"Server CPU per notice and connection, µs", "CPU per notice, µs", "cpu-µs/notice", "%.2f", func(m *measured) float64 { return m.CPUMicros }},
	{"Server CPU per frame, µs", "CPU per frame, µs", "cpu-µs/frame", "%.2f", func(m *measured) float64 { return m.CPUMicros / max(m.Frames, 1e-9) }},
	{"Resident memory per idle connection, KiB", "idle, KiB", "KiB/conn", "%.1f", func(m *measured) float64 { return m.BytesIdle / 1024 }},
	{"One notice to all idle connections, ms", "last, ms", "last-ms", "%.0f", func(m *measured) float64 { return m.LastMillis }},
	{"", "frames per notice", "frames/notice", "%.2f", func(m *measured) float64 { return m.Frames }},
	{"", "p50, ms", "p50-ms", "%.1f", func(m *measured) float64 { return m.DelayP50 }},
	{"", "p99, ms", "p99-ms", "%.1f", func(m *measured) float64 { return m.DelayP99 }},
	{"", "p99 before a stall, ms", "before-stall-p99-ms", "%.1f", func(m *measured) float64 { return m.BeforeP99 }},
	{"", "p99 beside a stalled reader, ms", "stalled-p99-ms", "%.1f", func(m *measured) float64 { return m.StalledP99 }},
	{"", "frames beside it", "stalled-frames/notice", "%.2f", func(m *measured) float64 { return m.StalledGot }},
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (r *report) median(name string, f figure) float64 {
	var values []float64
	for _, m := range r.Rounds[name] {
		values = append(values, f.of(m))
	}
	return median(values)
}

// table is in Markdown. Columns that are plotted have the ratio to Freshet's, or
// without it to the first peer's.
func (r *report) table() string {
	base := r.Options.Peers[0]
	if slices.Contains(r.Options.Peers, "freshet") {
		base = "freshet"
	}
	var b strings.Builder
	b.WriteString("| server |")
	for _, f := range figures {
		b.WriteString(" " + f.head + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(figures)) + "\n")
	for _, name := range r.Options.Peers {
		b.WriteString("| " + name + " |")
		for _, f := range figures {
			value := r.median(name, f)
			if f.unit == "stalled-p99-ms" && value == 0 {
				b.WriteString(" all stop |") // nobody got anything
				continue
			}
			fmt.Fprintf(&b, " "+f.format, value)
			if f.title != "" {
				fmt.Fprintf(&b, " (%.2f ×)", value/r.median(base, f))
			}
			b.WriteString(" |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// plot draws a bar per server for each figure that has a title.
func (r *report) plot() string {
	var panels []bars.Panel
	for _, f := range figures {
		if f.title == "" {
			continue
		}
		p := bars.Panel{Title: f.title}
		for _, name := range r.Options.Peers {
			value := r.median(name, f)
			p.Bars = append(p.Bars, bars.Bar{
				Label: name, Value: value, Text: fmt.Sprintf(f.format, value), Ours: strings.HasPrefix(name, "freshet"),
			})
		}
		panels = append(panels, p)
	}
	return bars.SVG("Cost of fan-out", "Telling connections that something has changed", r.Machine, panels)
}

// benchstat is one line per peer and round, in the format of Go's benchmarks.
func (r *report) benchstat() string {
	var b strings.Builder
	fmt.Fprintf(&b, "goos: %s\ngoarch: %s\npkg: github.com/freshet-dev/freshet/bench/peers\ncommit: %s\n", runtime.GOOS, runtime.GOARCH, r.Commit)
	for _, name := range r.Options.Peers {
		for _, m := range r.Rounds[name] {
			fmt.Fprintf(&b, "BenchmarkFanout/server=%s 1", name)
			for _, f := range figures {
				fmt.Fprintf(&b, " %.4g %s", f.of(m), f.unit)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func (r *report) readme() string {
	var about strings.Builder
	for _, name := range r.Options.Peers {
		if p, err := peerOf(name); err == nil {
			fmt.Fprintf(&about, "- **%s**: %s\n", p.name, p.about)
		}
	}
	o, w := r.Options, r.Own
	alone := ""
	if w.Many > 0 {
		alone = fmt.Sprintf(`
Freshet alone: %d idle connections take %.0f MiB above an empty server, and %.3f of a core for their heartbeats (every 15 s, over %v). `+
			`%d commits/s of one topic with 1,000 subscribers (default throttle): %.1f frames a second for each, %.2f of a core, all current in the end: %v.
`, w.Many, w.ManyMiB, w.HeartbeatCores, heartbeats, w.Commits, w.CommitFrames, w.CommitCores, w.AllAreCurrent)
	}
	return fmt.Sprintf(`# Fan-out, %s

![CPU, memory, time to the last](fanout.svg)

%s
Medians of %d rounds; in brackets the ratio to Freshet. Per notice: of what was published, for each connection, merged or not; a server that can't keep up, or is told not to, merges (Freshet) or drops. CPU, frames, p50 and p99: %d notices/s to %d connections for %v. Idle and last: %d connections. Stalled: one more reader that never drains, small send buffers for all. Server and readers share the machine: times until delivery hold the readers' waiting too, CPU time doesn't.
%s
%s
| | |
|---|---|
| Command | `+"`%s`"+` |
| Commit | %s |
| Machine | %s |
| Load averages meanwhile | %s |

What is measured, and how, is in [the program's comment](../../peers/main.go).
`, r.Time.Format("2 January 2006"), r.table(), o.Rounds, o.Rate, o.Connections, o.Duration, o.Idle, alone, about.String(),
		r.Command, r.Commit, r.Machine, loadRange(r.Loads))
}

// commandOf is how to run this again.
func commandOf(target string, args []string) string {
	if len(args) == 0 {
		return target
	}
	return target + " ARGS='" + strings.Join(args, " ") + "'"
}

func commitOfTree(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// thisMachine is the kind of machine, never its name.
func thisMachine() string {
	memory := 0.0
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			var kib float64
			if n, _ := fmt.Sscanf(line, "MemTotal: %f kB", &kib); n == 1 {
				memory = kib / (1 << 20)
			}
		}
	}
	return fmt.Sprintf("%d CPUs, %.0f GiB, %s/%s, %s", runtime.NumCPU(), memory, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// loadOf is the load average of the last minute; ours is in it.
func loadOf() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}

func loadRange(loads []string) string {
	if len(loads) == 0 {
		return "unknown"
	}
	return slices.Min(loads) + " to " + slices.Max(loads) + " (the benchmark's own included)"
}
