// Program attack asks whether those who behave notice those who don't.
//
//	go build -o bin/freshet ./cmd/freshet && go run ./bench/attack
//
// A server is started in a process of its own, with authentication, grants and every
// other default. Thousands of streams are opened with tokens, a rate of reads (one in
// a hundred a write) goes on, each with a token and timed from when it was due, and
// `freshet check` judges clients of its own. First nobody attacks; then one attacker
// of each class is at work, from an address of its own (127.0.0.2). What is told: the
// latency of the reads, the server's memory, CPU and goroutines, streams that ended,
// and what the checker says. Clients, attackers, Postgres and server share the
// machine: what attackers cost themselves counts against the server here.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"

	"github.com/freshet-dev/freshet/bench/rig"
)

type options struct {
	Freshet  string        `default:"bin/freshet" help:"The program to start."`
	Streams  int           `default:"10000" help:"Streams of those who behave."`
	Rate     float64       `default:"1000" help:"Their calls a second."`
	Warmup   time.Duration `default:"30s" help:"Time in each part that doesn't count."`
	Duration time.Duration `default:"10m" help:"How long each part is."`
	Results  string        `default:"bench/results" help:"Folder to write a folder of results to; empty: none."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	kong.Parse(&o, kong.Name("attack"), kong.Description("Measures what those who behave notice of those who attack."))
	err := run(ctx, &o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1)
	}
}

// part is what came of one part of a run.
type part struct {
	name     string
	calls    summary
	memory   span // resident, MiB
	heap     span // Go's, MiB
	routines span
	cpus     float64 // busy with the server
	ended    int64   // streams of those who behave
	check    string
	attacks  string
}

func run(ctx context.Context, o *options, to io.Writer) (err error) {
	began, machine := time.Now(), rig.ThisMachine(ctx)
	fmt.Fprintf(to, "machine: %v; %.2f CPUs busy with other things\n", machine, machine.Busy)
	dir, err := os.MkdirTemp("", "freshet-attack-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w, err := newWorld(dir)
	if err != nil {
		return err
	}
	admin, err := rig.FreeAddr(ctx)
	if err != nil {
		return err
	}
	s, err := rig.StartWith(ctx, o.Freshet, rig.Options{Flags: []string{
		"--admin-addr=" + admin, "--jwt-keys=" + w.keys, "--jwt-audience=bench", "--grants=" + w.grants,
		fmt.Sprintf("--max-streams=%d", o.Streams+1000), fmt.Sprintf("--max-streams-per-address=%d", o.Streams+400),
		"--max-connections-per-address=12000",
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	w.url, w.admin, w.pid = s.URL, rig.Admin(admin), s.PID

	fmt.Fprintf(to, "opening %d streams\n", o.Streams)
	streams, err := w.openStreams(ctx, o.Streams)
	if err != nil {
		return err
	}
	defer streams.close()
	var parts []part
	for _, name := range []string{"nobody attacks", "attackers at work"} {
		fmt.Fprintf(to, "%s: %v\n", name, o.Duration)
		p, err := w.part(ctx, o, s, streams, name, name != "nobody attacks")
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		parts = append(parts, p)
	}
	text := table(parts)
	fmt.Fprintf(to, "\n%s", text)
	if o.Results == "" {
		return nil
	}
	out := filepath.Join(o.Results, began.Format(time.DateOnly)+"-attack")
	fmt.Fprintln(to, "written to", out)
	return rig.Save(out, map[string]string{"README.md": fmt.Sprintf(
		"# Attackers beside, %s\n\n```\n%s```\n\n%d streams and %.0f calls a second of those who behave; each part %v, of which %v of warm-up don't count.\n\n| | |\n|---|---|\n| Command | `%s` |\n| Commit | %s |\n| Machine | %v; %.2f CPUs busy with other things before the start |\n\nWhat is measured, and how, is in [the program's comment](../../attack/main.go); what the attackers do in [attackers.go](../../attack/attackers.go).\n",
		began.Format("2 January 2006"), text, o.Streams, o.Rate, o.Duration, o.Warmup, rig.Command("attack", "go run ./bench/attack", os.Args[1:]), rig.CommitOfTree(ctx), machine, machine.Busy)})
}

// part runs one part.
func (w *world) part(ctx context.Context, o *options, s *rig.Server, streams *streams, name string, attacked bool) (p part, err error) {
	p.name = name
	ctx, stop := context.WithTimeout(ctx, o.Duration)
	defer stop()
	lost := streams.ended.Load()
	checked := make(chan string, 1)
	go func() { checked <- w.check(ctx, o, s) }()
	attackers := newAttackers(w)
	if attacked {
		attackers.start(ctx)
	}
	counts := time.Now().Add(o.Warmup)
	busy, err := rig.CPUOf(w.pid)
	if err != nil {
		return p, err
	}
	sampled := make(chan error, 1)
	go func() { sampled <- w.sample(ctx, counts, &p) }()
	p.calls = w.calls(ctx, o.Rate, counts)
	after, err := rig.CPUOf(w.pid)
	p.cpus = (after - busy).Seconds() / o.Duration.Seconds()
	attackers.wait()
	p.attacks = attackers.told()
	p.check = <-checked
	p.ended = streams.ended.Load() - lost
	return p, errors.Join(err, <-sampled)
}

// check runs the checker for most of a part, and returns its last lines.
func (w *world) check(ctx context.Context, o *options, s *rig.Server) string {
	// It takes some seconds to begin and to end.
	length := max(o.Duration-20*time.Second, 5*time.Second)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Duration+2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ending, o.Freshet, "check", "--url", s.URL, "--database-url", s.DatabaseURL, //nolint:gosec // our own
		"--token-file", w.token, "--clients=100", "--rate=50", "--duration="+length.String(), "--patience=60s")
	out, err := cmd.CombinedOutput()
	said := []string{"ok"}
	if err != nil {
		return err.Error() + ":\n" + string(out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "violation") || strings.Contains(line, "observations") {
			said = append(said, strings.TrimSpace(line))
		}
	}
	return strings.Join(said, "; ")
}

func table(parts []part) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name string, of func(part) string) {
		fmt.Fprint(t, name)
		for _, p := range parts {
			fmt.Fprint(t, "\t", of(p))
		}
		fmt.Fprintln(t)
	}
	row("", func(p part) string { return p.name })
	row("calls answered", func(p part) string { return fmt.Sprint(p.calls.n) })
	row("calls that failed", func(p part) string { return p.calls.failures() })
	for _, q := range []float64{0.5, 0.9, 0.99, 0.999} {
		row(fmt.Sprintf("p%g, ms", 100*q), func(p part) string { return fmt.Sprintf("%.2f", p.calls.quantile(q)) })
	}
	row("resident, MiB", func(p part) string { return p.memory.String() })
	row("Go's heap and stacks in use, MiB", func(p part) string { return p.heap.String() })
	row("goroutines", func(p part) string { return p.routines.String() })
	row("CPUs busy with the server", func(p part) string { return fmt.Sprintf("%.2f", p.cpus) })
	row("streams that ended", func(p part) string { return fmt.Sprint(p.ended) })
	if err := t.Flush(); err != nil {
		panic(err) // a strings.Builder takes everything
	}
	for _, p := range parts {
		fmt.Fprintf(&b, "\nfreshet check, %s: %s\n", p.name, p.check)
		if p.attacks != "" {
			fmt.Fprintf(&b, "%s\n", p.attacks)
		}
	}
	return b.String()
}
