package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Validate is called by kong.
func (o *runOptions) Validate() error {
	if o.Rounds < 1 || o.Connections < 1 || o.Rate < 1 || o.Duration < time.Second || o.Idle < 2 {
		return errors.New("want one round, one connection, one notice, a second and two idle connections at least")
	}
	if len(o.Peers) == 0 {
		for _, p := range peers() {
			if err := p.installed(); err != nil {
				fmt.Fprintf(os.Stderr, "*** %s is left out: %v\n", p.name, err)
				continue
			}
			o.Peers = append(o.Peers, p.name)
		}
	}
	for _, name := range o.Peers {
		if _, err := peerOf(name); err != nil {
			return err
		}
	}
	return nil
}

// Run measures everything and writes the results.
func (o *runOptions) Run(ctx context.Context) error {
	r := &report{
		Time: time.Now().UTC(), Command: commandOf("make bench/peers", os.Args[1:]), Commit: commitOfTree(ctx), Machine: thisMachine(), Options: *o,
		Rounds: map[string][]*measured{},
	}
	fmt.Fprintf(os.Stdout, "machine: %s; load %s\n", r.Machine, loadOf())
	for i := range o.Rounds {
		// Each round begins with another peer.
		for j := range o.Peers {
			name := o.Peers[(i+j)%len(o.Peers)]
			m, err := round(ctx, name, o)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", name, i+1, err)
			}
			r.Rounds[name] = append(r.Rounds[name], m)
			r.Loads = append(r.Loads, loadOf())
			fmt.Fprintf(os.Stdout, "round %d of %d, %s: %.2f µs per notice, %.2f frames, p99 %.1f ms; stalled %.2f frames, p99 %.1f → %.1f ms; idle %.1f KiB; last %.0f ms (load %s)\n",
				i+1, o.Rounds, name, m.CPUMicros, m.Frames, m.DelayP99, m.StalledGot, m.BeforeP99, m.StalledP99, m.BytesIdle/1024, m.LastMillis, loadOf())
		}
	}
	if slices.Contains(o.Peers, "freshet") && o.Many > 0 {
		if err := r.Own.measure(ctx, o); err != nil {
			return fmt.Errorf("freshet alone: %w", err)
		}
		fmt.Fprintf(os.Stdout, "freshet alone: %+v\n", r.Own)
	}
	fmt.Fprintf(os.Stdout, "\n%s\n", r.table())
	if o.Results == "" {
		return nil
	}
	dir := filepath.Join(o.Results, r.Time.Format(time.DateOnly)+"-fanout")
	if err := r.save(dir); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "written to", dir)
	return nil
}

// own is what is measured of Freshet alone.
type own struct {
	Many           int     `json:"many_connections"`
	ManyMiB        float64 `json:"many_mib_above_empty"`
	HeartbeatCores float64 `json:"many_heartbeat_cores"`

	Commits       int     `json:"commits_per_second"`
	CommitCores   float64 `json:"commits_cores"`
	CommitFrames  float64 `json:"commits_frames_per_second_and_connection"`
	AllAreCurrent bool    `json:"commits_all_current"`
}

// heartbeats is how long heartbeats are watched: two of them.
const heartbeats = 30 * time.Second

func (w *own) measure(ctx context.Context, o *runOptions) error {
	p, err := startPair(ctx, "freshet-default", 0)
	if err != nil {
		return err
	}
	if err := errors.Join(w.many(p, o.Many), p.stop()); err != nil {
		return err
	}
	if p, err = startPair(ctx, "freshet-default", 0); err != nil {
		return err
	}
	return errors.Join(w.commits(p), p.stop())
}

func (w *own) many(p *pair, n int) error {
	if err := p.connect(1); err != nil {
		return err
	}
	empty, err := p.memory()
	if err != nil {
		return err
	}
	if err := p.connect(n - 1); err != nil {
		return err
	}
	full, err := p.memory()
	if err != nil {
		return err
	}
	before, err := p.cost()
	if err != nil {
		return err
	}
	time.Sleep(heartbeats)
	after, err := p.cost()
	w.Many, w.ManyMiB = n, float64(full-empty)/(1<<20)
	w.HeartbeatCores = (after.CPU - before.CPU).Seconds() / heartbeats.Seconds()
	return err
}

func (w *own) commits(p *pair) error {
	const connections, rate, seconds = 1000, 10_000, 5
	if err := p.connect(connections); err != nil {
		return err
	}
	used, got, told, err := p.tell(rate*seconds, rate, connections)
	if err != nil {
		return err
	}
	w.Commits = int(float64(rate*seconds) / told.Took.Seconds())
	w.CommitCores = used.CPU.Seconds() / told.Took.Seconds()
	w.CommitFrames = float64(got.Notices) / connections / told.Took.Seconds()
	w.AllAreCurrent = got.Position == told.Position
	return nil
}

type renderOptions struct {
	Folder string `arg:""`
}

// Run writes what is made of results.json.
func (o renderOptions) Run() error {
	data, err := os.ReadFile(filepath.Join(o.Folder, "results.json"))
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	if r.Rounds != nil {
		return r.save(o.Folder)
	}
	var s scaling
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	return s.save(o.Folder)
}

// save writes the folder of results.
func (r *report) save(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeFolder(dir, map[string]string{
		"README.md": r.readme(), "results.json": string(data) + "\n", "benchstat.txt": r.benchstat(), "fanout.svg": r.plot(),
	})
}

func writeFolder(dir string, files map[string]string) error {
	err := os.MkdirAll(dir, 0o755)
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)) //nolint:gosec // for everybody
	}
	return err
}
