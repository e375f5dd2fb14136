//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/bench/fanout"
	"github.com/freshet-dev/freshet/bench/rig"
)

// patience is how long anything may take before the run fails. It is far above
// every time worth reporting.
const patience = 10 * time.Second

// bench is everything that runs while it is measured.
type bench struct {
	connections int
	server      *rig.Server
	admin       string // its address of profiles; empty: none
	database    *database
	notices     *notices
	driver      *fanout.Process[order, tally]
	static      *fanout.Process[answer, where]
	at          map[string]string // addresses
	said        map[string]answer // Freshet's last answer, by format; see like
	written     string            // the last message
	rev         freshet.Revision  // of its notice
	close       func() error
}

// Run measures.
func (o *runOptions) Run(ctx context.Context) (err error) {
	to := os.Stdout
	r := &report{
		Time: time.Now().UTC(), Command: rig.Command("refetch", "make bench/refetch", os.Args[1:]),
		Commit: rig.CommitOfTree(ctx), Machine: rig.ThisMachine(ctx), Connections: o.Connections,
	}
	fmt.Fprintf(to, "machine: %v; %.2f CPUs busy with other things\n", r.Machine, r.Machine.Busy)
	b, err := o.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	return o.measure(ctx, b, r, to)
}

func (o *runOptions) measure(ctx context.Context, b *bench, r *report, to io.Writer) (err error) {
	r.Program = b.server.Version
	if r.Postgres, err = rig.ReadSettings(ctx, b.server.DatabaseURL); err != nil {
		return err
	}
	for round := range o.Rounds + 1 {
		for i, f := range formats {
			m, err := b.measure(ctx, f, round+i)
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", round, f.name, err)
			}
			if round > 0 { // the first one warms up
				r.add(f.name, m)
			}
		}
		fmt.Fprintf(to, "round %d of %d\n", round, o.Rounds)
	}
	if err := r.print(to); err != nil {
		return err
	}
	if o.Results != "" {
		dir := filepath.Join(o.Results, r.Time.Format(time.DateOnly)+"-refetch")
		if err := r.save(dir); err != nil {
			return err
		}
		fmt.Fprintln(to, "\nwritten to", dir)
	}
	if o.Profile != "" {
		return b.profile(ctx, o.Profile)
	}
	return nil
}

// start starts the three processes, and connects.
func (o *runOptions) start(ctx context.Context) (_ *bench, err error) {
	b := &bench{connections: o.Connections, at: map[string]string{}, said: map[string]answer{}}
	var closers []func() error
	b.close = func() (err error) {
		for i := range closers {
			err = errors.Join(err, closers[len(closers)-1-i]())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	options := rig.Options{Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}}
	if o.Profile != "" {
		if b.admin, err = rig.FreeAddr(ctx); err != nil {
			return nil, err
		}
		options.Flags = []string{"--admin-addr=" + b.admin}
	}
	if b.server, err = rig.StartWith(ctx, o.Freshet, options); err != nil {
		return nil, err
	}
	closers = append(closers, b.server.Stop)
	if b.database, err = openDatabase(ctx, b.server.DatabaseURL); err != nil {
		return nil, err
	}
	closers = append(closers, b.database.close)
	if b.notices, err = listen(ctx, b.server.URL); err != nil {
		return nil, err
	}
	closers = append(closers, b.notices.close)
	if b.driver, err = fanout.Spawn[order, tally](ctx, "drive"); err != nil {
		return nil, err
	}
	closers = append(closers, b.driver.Stop)
	if b.static, err = fanout.Spawn[answer, where](ctx, "static"); err != nil {
		return nil, err
	}
	closers = append(closers, b.static.Stop)
	return b, b.connect()
}

func (b *bench) connect() error {
	at, err := b.static.Do(answer{})
	if err != nil {
		return err
	}
	b.at[ours] = strings.TrimPrefix(b.server.URL, "http://")
	b.at[plain], b.at[sized] = at.Address, at.Address
	for _, name := range []string{ours, plain} {
		if _, err := b.drive(order{Connect: &connecting{b.at[name], b.connections}}); err != nil {
			return fmt.Errorf("connect to %s: %w", name, err)
		}
	}
	return nil
}

func (b *bench) drive(o order) (tally, error) {
	t, err := b.driver.Do(o)
	if err == nil && t.Error != "" {
		err = errors.New(t.Error)
	}
	return t, err
}

// profile takes one of the server for each format, while bursts follow each other.
func (b *bench) profile(ctx context.Context, dir string) error {
	for _, f := range formats {
		if err := b.profileOf(ctx, f, filepath.Join(dir, f.file+".pprof")); err != nil {
			return fmt.Errorf("profile %s: %w", f.name, err)
		}
	}
	return nil
}

func (b *bench) profileOf(ctx context.Context, f format, to string) error {
	const seconds = 6
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	ctx, cancel := context.WithTimeout(ctx, seconds*time.Second+patience)
	defer cancel()
	go func() {
		data, err := get(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", b.admin, seconds))
		done <- result{data, err}
	}()
	for {
		if _, _, err := b.refetch(ctx, f, true); err != nil {
			return err
		}
		select {
		case r := <-done:
			return errors.Join(r.err, os.WriteFile(to, r.data, 0o600))
		default:
		}
	}
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return data, err
}
