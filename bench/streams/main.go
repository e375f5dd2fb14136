// Program streams measures what a stream costs the server by each way that it can
// come: HTTP/1.1 and HTTP/2, with TLS and without.
//
//	go build -o bin/freshet ./cmd/freshet && go run ./bench/streams
//
// For each way a server is started in a process of its own, as users start it, and
// that many streams are opened to it. Memory is what the process has more of, by
// Go's own count (heap and stacks in use, after a garbage collection that its
// profiler runs) and by the kernel's (resident). Then a topic that all follow is told
// of so many times a second, without a throttle: CPU is the process', user and system
// time, less what it takes while nothing is told, over the frames that were read.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/freshet-dev/freshet/bench/bars"
	"github.com/freshet-dev/freshet/bench/rig"
)

type options struct {
	Freshet string        `default:"bin/freshet" help:"The program to start."`
	Streams int           `default:"5000" help:"Streams that are opened."`
	Rate    float64       `default:"10" help:"Notices a second."`
	Time    time.Duration `default:"5s" help:"How long they are told."`
	Rounds  int           `default:"3" help:"Rounds; all ways are measured in each."`
	Results string        `default:"bench/results" help:"Folder to write a folder of results to; empty: none."`
}

// way is how a stream comes.
type way struct {
	name       string
	tls, h2    bool
	perConn    int // streams of one connection
	GoKiB      []float64
	RSSKiB     []float64
	FrameMicro []float64
}

func ways() []*way {
	return []*way{
		{name: "HTTP/1.1", perConn: 1},
		{name: "HTTP/1.1, TLS", tls: true, perConn: 1},
		{name: "HTTP/2", h2: true, perConn: 1},
		{name: "HTTP/2, TLS", tls: true, h2: true, perConn: 1},
		{name: "HTTP/2, TLS, 100 each", tls: true, h2: true, perConn: 100},
	}
}

func main() {
	rig.Main("streams", "Measures what a stream costs by HTTP/1.1 and HTTP/2, with TLS and without.", run)
}

func run(ctx context.Context, o *options, to io.Writer) error {
	began, machine := time.Now(), rig.ThisMachine(ctx)
	fmt.Fprintf(to, "machine: %v; %.2f CPUs busy with other things\n", machine, machine.Busy)
	all := ways()
	for round := range o.Rounds {
		for _, w := range all {
			fmt.Fprintf(to, "round %d of %d: %s\n", round+1, o.Rounds, w.name)
			if err := w.measure(ctx, o); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "way\tKiB per stream: Go's\tresident\tµs per frame\t× HTTP/1.1\t")
	plain := rig.Median(all[0].FrameMicro)
	memory, cpu := bars.Panel{Title: "KiB of Go's memory per idle stream"}, bars.Panel{Title: "µs of the server's CPU per frame"}
	for _, w := range all {
		kib, frame := rig.Median(w.GoKiB), rig.Median(w.FrameMicro)
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%.1f\t%.2f\t\n", w.name, kib, rig.Median(w.RSSKiB), frame, frame/plain)
		memory.Bars = append(memory.Bars, bars.Bar{Label: w.name, Value: kib, Text: fmt.Sprintf("%.1f", kib), Ours: true})
		cpu.Bars = append(cpu.Bars, bars.Bar{Label: w.name, Value: frame, Text: fmt.Sprintf("%.1f", frame), Ours: true})
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(to, "\n%s", table.String())
	if o.Results == "" {
		return nil
	}
	subtitle := fmt.Sprintf("%d streams, %.0f notices a second; medians of %d rounds", o.Streams, o.Rate, o.Rounds)
	text := fmt.Sprintf("# Streams by TLS and HTTP/2, %s\n\n![Memory and CPU](streams.svg)\n\n```\n%s```\n\n%s.\n\n| | |\n|---|---|\n| Command | `%s` |\n| Commit | %s |\n| Machine | %v; %.2f CPUs busy with other things before the start |\n\nWhat is measured, and how, is in [the program's comment](../../streams/main.go).\n",
		began.Format("2 January 2006"), table.String(), subtitle, rig.Command("streams", "go run ./bench/streams", os.Args[1:]), rig.CommitOfTree(ctx), machine, machine.Busy)
	dir := filepath.Join(o.Results, began.Format(time.DateOnly)+"-streams")
	fmt.Fprintln(to, "\nwritten to", dir)
	return rig.Save(dir, map[string]string{
		"README.md":   text,
		"streams.svg": bars.SVG("streams", "What a stream costs the server", subtitle, []bars.Panel{memory, cpu}),
	})
}

// measure is one round of a way.
func (w *way) measure(ctx context.Context, o *options) (err error) {
	admin, err := rig.FreeAddr(ctx)
	if err != nil {
		return err
	}
	flags := []string{
		"--admin-addr=" + admin, fmt.Sprintf("--max-streams=%d", o.Streams+10), "--max-streams-per-address=0", "--max-connections-per-address=0",
		"--heartbeat=5m", "--throttle=0",
	}
	var pair *certificate
	if w.tls {
		if pair, err = newCertificate(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(pair.dir)) }()
		flags = append(flags, "--tls-cert="+pair.cert, "--tls-key="+pair.key)
	}
	s, err := rig.StartWith(ctx, o.Freshet, rig.Options{Flags: flags})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	p := process{pid: s.PID, admin: rig.Admin(admin)}
	before, err := p.memory(ctx)
	if err != nil {
		return err
	}
	f, err := w.follow(ctx, s.URL, pair, o.Streams)
	if err != nil {
		return err
	}
	defer f.close()
	after, err := p.memory(ctx)
	if err != nil {
		return err
	}
	w.GoKiB = append(w.GoKiB, (after.inGo-before.inGo)/1024/float64(o.Streams))
	w.RSSKiB = append(w.RSSKiB, (after.resident-before.resident)/1024/float64(o.Streams))
	micro, err := f.perFrame(ctx, p, s.DatabaseURL, o)
	w.FrameMicro = append(w.FrameMicro, micro)
	return err
}
