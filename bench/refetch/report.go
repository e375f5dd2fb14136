//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/bench/bars"
	"github.com/freshet-dev/freshet/bench/rig"
)

// target is what the CPU time per answer may be, as a multiple of a static handler's.
const target = 1.3

// report is everything that a run found; results.json is it.
type report struct {
	Time        time.Time         `json:"time"`
	Command     string            `json:"command"`
	Program     string            `json:"program"`
	Commit      string            `json:"commit"` // of the work tree
	Machine     rig.Machine       `json:"machine"`
	Postgres    map[string]string `json:"postgres"`
	Connections int               `json:"connections"`
	Formats     []outcome         `json:"formats"`
}

// outcome is a format with all its rounds; each has every server once.
type outcome struct {
	Format string       `json:"format"`
	Rounds [][]measured `json:"rounds"`
}

func (r *report) add(format string, round []measured) {
	at := slices.IndexFunc(r.Formats, func(o outcome) bool { return o.Format == format })
	if at < 0 {
		at = len(r.Formats)
		r.Formats = append(r.Formats, outcome{Format: format})
	}
	r.Formats[at].Rounds = append(r.Formats[at].Rounds, round)
}

func cpuOf(m measured) float64  { return m.CPUMicros }
func lastOf(m measured) float64 { return m.LastMillis }

// median is that of one server's figure over the rounds.
func (o *outcome) median(server string, figure func(measured) float64) float64 {
	return o.over(func(round []measured) float64 { return figure(of(round, server)) })
}

// ratio is the median over the rounds of one server's CPU time by another's:
// within a round both saw the same mood of the machine.
func (o *outcome) ratio(server, by string) float64 {
	return o.over(func(round []measured) float64 { return of(round, server).CPUMicros / of(round, by).CPUMicros })
}

func (o *outcome) over(value func([]measured) float64) float64 {
	var values []float64
	for _, round := range o.Rounds {
		values = append(values, value(round))
	}
	return rig.Median(values)
}

func of(round []measured, server string) measured {
	return round[slices.IndexFunc(round, func(m measured) bool { return m.Server == server })]
}

// statements are the fewest and the most that one burst has cost.
func (o *outcome) statements(server string) string {
	var all []int
	for _, round := range o.Rounds {
		all = append(all, of(round, server).Statements)
	}
	least, most := slices.Min(all), slices.Max(all)
	if least == most {
		return fmt.Sprint(least)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

// table is in Markdown.
func (r *report) table() string {
	var b strings.Builder
	b.WriteString("| answer | server | statements | CPU per answer, µs | × static | × static, sized | last answer, ms |\n|---|---|---:|---:|---:|---:|---:|\n")
	for _, o := range r.Formats {
		answer := fmt.Sprintf("%s, %.1f KB", o.Format, o.median(ours, func(m measured) float64 { return float64(m.Bytes) / 1000 }))
		for _, name := range servers {
			fmt.Fprintf(&b, "| %s | %s | %s | %.1f | %.2f | %.2f | %.0f |\n", answer, name, o.statements(name),
				o.median(name, cpuOf), o.ratio(name, plain), o.ratio(name, sized), o.median(name, lastOf))
			answer = ""
		}
	}
	return b.String()
}

func (r *report) warning() string {
	if !r.Machine.TooBusy(r.Machine.Busy) {
		return ""
	}
	return fmt.Sprintf("\n**The machine was busy with other things (%.2f of its %d CPUs): times say little.**\n", r.Machine.Busy, r.Machine.CPUs)
}

func (r *report) print(to io.Writer) error {
	_, err := fmt.Fprintf(to, "\n%s%s", r.table(), r.warning())
	return err
}

func (r *report) plot() string {
	var panels []bars.Panel
	for _, o := range r.Formats {
		p := bars.Panel{Title: o.Format + ": server CPU per answer, µs"}
		for _, name := range servers {
			value := o.median(name, cpuOf)
			p.Bars = append(p.Bars, bars.Bar{Label: name, Value: value, Text: fmt.Sprintf("%.1f", value), Ours: name == ours || name == kept})
		}
		panels = append(panels, p)
	}
	return bars.SVG("Cost of refetching", fmt.Sprintf("%d connections ask again after one write", r.Connections), r.Machine.String(), panels)
}

// version is PostgreSQL's without its packager's.
func (r *report) version() string {
	version, _, _ := strings.Cut(r.Postgres["server_version"], " ")
	return version
}

// save writes the folder of results.
func (r *report) save(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	write := func(name string, data []byte) error { return os.WriteFile(filepath.Join(dir, name), data, 0o644) } //nolint:gosec // for everybody
	return errors.Join(
		write("README.md", []byte(r.readme())),
		write("results.json", append(data, '\n')),
		write("refetch.svg", []byte(r.plot())))
}

func (r *report) readme() string {
	return fmt.Sprintf(readmeText, r.Time.Format("2 January 2006"), r.warning(), r.table(), r.Connections, len(r.Formats[0].Rounds), target,
		r.Command, r.Program, r.Commit, r.Machine, r.Machine.Busy, r.version())
}

const readmeText = `# Refetching, %s
%s
![Server CPU per answer, beside a static handler](refetch.svg)

%s
After one write by SQL, and its notice, %d keep-alive HTTP/1.1 connections send the same ListMessages (50 messages) at-least the notice's revision. Again: the same once more, without a write between. Medians of %d rounds, which alternate between the servers; × is the median of the rounds' ratios (target: %.1f). The static handler is net/http's, in a process of its own, with the same header and bytes: sent as net/http sends what it doesn't know the length of, as Freshet is; and with Content-Length. CPU is the server process's, the kernel's work for it included, Postgres' not. Server and driver share the machine: the time until the last answer holds the driver's work too.

| | |
|---|---|
| Command | ` + "`%s`" + ` |
| Program | %s, commit %s |
| Machine | %v; %.2f CPUs busy with other things before the start |
| Database | PostgreSQL %s |

What is measured, and how, is in [the program's comment](../../refetch/doc.go).
`
