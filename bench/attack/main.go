// Program attack asks whether those who behave notice those who don't.
//
//	go build -o bin/freshet ./cmd/freshet && go run ./bench/attack
//
// A server is started in a process of its own, with authentication, grants and every
// other default. Thousands of streams are opened with tokens, a rate of reads (one in
// a hundred a write) goes on, each with a token and timed from when it was due, reads
// at-least the last write to what they read, and `freshet check` judges clients of its
// own. First nobody attacks; then one attacker
// of each class is at work, from an address of its own (127.0.0.2); then nobody again.
// What is told: the latency of the reads, the server's memory, CPU and goroutines,
// streams that ended, and what the checker says. Clients, attackers, Postgres and
// server share the machine. Attackers are a process of their own with the least
// priority (nice 19), since elsewhere they would have CPUs of their own: what they cost
// the server counts here, what they cost themselves for the most part doesn't.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/freshet-dev/freshet/bench/rig"
)

type options struct {
	Freshet  string        `default:"bin/freshet" help:"The program to start."`
	Streams  int           `default:"10000" help:"Streams of those who behave."`
	Rate     float64       `default:"1000" help:"Their calls a second."`
	Warmup   time.Duration `default:"30s" help:"Time in each part that doesn't count."`
	Duration time.Duration `default:"10m" help:"How long attackers are at work, warm-up aside."`
	Calm     time.Duration `default:"2m" help:"How long nobody attacks, before and after, warm-up aside."`
	Results  string        `default:"bench/results" help:"Folder to write a folder of results to; empty: none."`

	Attackers string `hidden:"" help:"Be the attackers of this world, until told to stop."`
}

func main() {
	rig.Main("attack", "Measures what those who behave notice of those who attack.", func(ctx context.Context, o *options, to io.Writer) error {
		if o.Attackers != "" {
			return attack(ctx, o.Attackers, to)
		}
		return run(ctx, o, to)
	})
}

// part is a part of a run, and what came of it.
type part struct {
	name     string
	length   time.Duration
	attacked bool

	calls    summary
	memory   series // resident, MiB
	heap     series // Go's heap after a collection, and stacks, MiB
	routines series
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

	if err := w.fill(); err != nil {
		return err
	}
	fmt.Fprintf(to, "opening %d streams\n", o.Streams)
	streams, err := w.openStreams(ctx, o.Streams)
	if err != nil {
		return err
	}
	defer streams.close()
	var parts []part
	for _, p := range []part{
		{name: "nobody attacks", length: o.Calm},
		{name: "attackers at work", length: o.Duration, attacked: true},
		{name: "nobody again", length: o.Calm},
	} {
		p.length += o.Warmup
		fmt.Fprintf(to, "%s: %v\n", p.name, p.length)
		if err := w.part(ctx, o, s, streams, &p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
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
	return rig.Save(out, map[string]string{"attack.svg": plot(o, parts), "README.md": fmt.Sprintf(
		"# Attackers beside, %s\n\n```\n%s```\n\n![latency and memory](attack.svg)\n\n%d streams and %.0f calls a second of those who behave; attackers for %v, before and after them nobody for %v; a warm-up of %v before each doesn't count.\n\n| | |\n|---|---|\n| Command | `%s` |\n| Commit | %s |\n| Machine | %v; %.2f CPUs busy with other things before the start |\n\nWhat is measured, and how, is in [the program's comment](../../attack/main.go); what the attackers do in [attackers.go](../../attack/attackers.go).\n",
		began.Format("2 January 2006"), text, o.Streams, o.Rate, o.Duration, o.Calm, o.Warmup, rig.Command("attack", "go run ./bench/attack", os.Args[1:]), rig.CommitOfTree(ctx), machine, machine.Busy)})
}

// part runs one part.
func (w *world) part(ctx context.Context, o *options, s *rig.Server, streams *streams, p *part) (err error) {
	ctx, stop := context.WithTimeout(ctx, p.length)
	defer stop()
	lost := streams.ended.Load()
	checked := make(chan string, 1)
	go func() { checked <- w.check(ctx, o, s, p.length) }()
	attacked := func() (string, error) { return "", nil }
	if p.attacked {
		if attacked, err = w.startAttackers(ctx); err != nil {
			return err
		}
	}
	counts := time.Now().Add(o.Warmup)
	busy, err := rig.CPUOf(w.pid)
	if err != nil {
		return err
	}
	sampled := make(chan error, 1)
	go func() { sampled <- w.sample(ctx, counts, p) }()
	p.calls = w.calls(ctx, o.Rate, counts)
	after, err := rig.CPUOf(w.pid)
	p.cpus = (after - busy).Seconds() / p.length.Seconds()
	var told error
	p.attacks, told = attacked()
	p.check = <-checked
	p.ended = streams.ended.Load() - lost
	return errors.Join(err, told, <-sampled)
}

// check runs the checker for most of a part, and returns its last lines.
func (w *world) check(ctx context.Context, o *options, s *rig.Server, length time.Duration) string {
	// It takes some seconds to begin and to end.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*length+2*time.Minute) // its clients' coming to rest doesn't count
	length = max(length-20*time.Second, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ending, o.Freshet, "check", "--url", s.URL, "--database-url", s.DatabaseURL, //nolint:gosec // our own
		"--token-file", w.token, "--clients=100", "--rate=50", "--duration="+length.String(), "--patience=60s")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return err.Error() + ":\n" + string(out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return "ok: " + lines[len(lines)-1]
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
	calm := (parts[0].calls.quantile(0.99) + parts[2].calls.quantile(0.99)) / 2
	fmt.Fprintf(&b, "\np99 with attackers: %.2f × of the mean of those without\n", parts[1].calls.quantile(0.99)/calm)
	for _, p := range parts {
		fmt.Fprintf(&b, "\nfreshet check, %s: %s\n", p.name, p.check)
		if p.attacks != "" {
			fmt.Fprintf(&b, "%s\n", p.attacks)
		}
	}
	return b.String()
}
