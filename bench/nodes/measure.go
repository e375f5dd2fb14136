package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/bench/rig"
)

// patience is how long anything but the writing itself may take before the run
// fails. It is far above what a sound one takes.
const patience = time.Minute

// writers are that many connections, which share the rate.
const writers = 4

// stage is what all cells share.
type stage struct {
	*options

	postgres *rig.Postgres
}

// cell is one number of nodes with one number of rows in one round.
type cell struct {
	Nodes         int          `json:"nodes"`
	Rows          int          `json:"rows_per_commit"`
	Round         int          `json:"round"`
	Seconds       float64      `json:"seconds"`
	Commits       int64        `json:"commits"`
	CommitsPerSec float64      `json:"commits_per_second"`
	CPU           rig.CPUShare `json:"cpus_busy"` // server's: of all nodes
	Walsenders    float64      `json:"cpus_busy_walsenders"`
	Sessions      float64      `json:"cpus_busy_sessions"` // other connections of nodes
	Slots         int          `json:"slots"`
}

// measure runs the cells of one number of nodes.
func (s *stage) measure(ctx context.Context, nodes, round int) (cells []*cell, err error) {
	limit := time.Duration(len(s.Rows))*(s.Warmup+s.Duration) + 2*patience
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not finished after %v", limit))
	defer cancel()
	if _, err := s.postgres.Admin.Exec(ctx, "truncate messages"); err != nil {
		return nil, err
	}
	if nodes == 0 { // no slot: WAL is as it would be without us
		if err := s.postgres.TearDown(ctx); err != nil {
			return nil, err
		}
	}
	var running []*rig.Server
	defer func() {
		for _, node := range running {
			err = errors.Join(err, node.Stop())
		}
	}()
	for range nodes {
		node, err := rig.Start(ctx, s.Freshet, s.postgres.URL)
		if err != nil {
			return nil, err
		}
		running = append(running, node)
	}
	for _, rows := range s.Rows {
		if _, err := s.postgres.Admin.Exec(ctx, "checkpoint"); err != nil {
			return nil, err
		}
		c := &cell{Nodes: nodes, Rows: rows, Round: round + 1}
		if err := s.write(ctx, running, c); err != nil {
			return nil, err
		}
		cells = append(cells, c)
	}
	return cells, nil
}

// usage is CPU time so far.
type usage struct {
	at                          time.Time
	commits                     int64
	all                         rig.CPUTimes
	nodes, walsenders, sessions time.Duration
}

func (s *stage) read(ctx context.Context, nodes []*rig.Server, commits *atomic.Int64) (u usage, err error) {
	rows, err := s.postgres.Admin.Query(ctx, `select pid, backend_type = 'walsender' from pg_stat_activity
where backend_type in ('walsender', 'client backend') and application_name = 'freshet'`)
	if err != nil {
		return u, err
	}
	var pid int
	var walsender bool
	u.at, u.commits, u.all = time.Now(), commits.Load(), rig.ReadCPU(rig.None, s.postgres.PID)
	_, err = pgx.ForEachRow(rows, []any{&pid, &walsender}, func() error {
		used, err := rig.CPUOf(pid)
		if walsender {
			u.walsenders += used
		} else {
			u.sessions += used
		}
		return err
	})
	if err != nil {
		return u, err
	}
	for _, node := range nodes {
		used, err := rig.CPUOf(node.PID)
		if err != nil {
			return u, err
		}
		u.nodes += used
	}
	return u, nil
}

// write is the part of a cell with writers in it.
func (s *stage) write(ctx context.Context, nodes []*rig.Server, c *cell) error {
	enough, stop := context.WithCancel(ctx)
	defer stop()
	var commits atomic.Int64
	g, running := errgroup.WithContext(enough)
	for range writers {
		g.Go(func() error { return s.writer(ctx, running, c.Rows, &commits) })
	}
	rig.Wait(running, s.Warmup)
	before, err := s.read(ctx, nodes, &commits)
	if err != nil {
		return err
	}
	rig.Wait(running, s.Duration)
	after, err := s.read(ctx, nodes, &commits)
	if err != nil {
		return err
	}
	if err := s.postgres.Admin.QueryRow(ctx, `select count(*) from pg_replication_slots`).Scan(&c.Slots); err != nil {
		return err
	}
	if want := len(nodes) + min(1, len(nodes)); c.Slots != want {
		return fmt.Errorf("%d slots, want %d: a node isn't there", c.Slots, want)
	}
	stop()
	if err := g.Wait(); err != nil {
		return err
	}
	wall := after.at.Sub(before.at)
	c.Seconds, c.Commits = wall.Seconds(), after.commits-before.commits
	c.CommitsPerSec = float64(c.Commits) / c.Seconds
	c.CPU = before.all.Until(after.all, wall)
	share := func(a, b time.Duration) float64 { return (b - a).Seconds() / c.Seconds }
	ofNodes := share(before.nodes, after.nodes)
	c.CPU.Server = &ofNodes
	if c.CPU.Others != nil {
		others := max(0, *c.CPU.Others-ofNodes)
		c.CPU.Others = &others
	}
	c.Walsenders, c.Sessions = share(before.walsenders, after.walsenders), share(before.sessions, after.sessions)
	return nil
}

// writer commits at its share of the rate until enough ends; what it has begun by then
// goes on.
func (s *stage) writer(ctx, enough context.Context, rows int, commits *atomic.Int64) error {
	conn, err := pgx.Connect(ctx, s.postgres.URL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	ticker := time.NewTicker(time.Second * writers / time.Duration(s.Rate))
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-enough.Done():
			return nil
		case <-ticker.C:
		}
		_, err := conn.Exec(ctx, `
insert into messages (conversation, author, body) select $1, 'bench', repeat('x', 200) from generate_series(1, $2)`, fmt.Sprint(n%100), rows)
		if err != nil {
			return err
		}
		commits.Add(1)
	}
}
