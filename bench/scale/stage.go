package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/bench/fanout"
	"github.com/freshet-dev/freshet/bench/rig"
)

// patience is how long anything but the measuring itself may take before the run
// fails. It is far above what a sound one takes.
const patience = time.Minute

// What a process of Postgres' does, as CPU time is told apart by it.
const (
	walsenders = "walsenders"
	gates      = "gates"
	probes     = "probes"
	pools      = "pools"   // nodes' other connections
	writing    = "writers" // the benchmark's
	background = "background"
)

// stage is a private Postgres, and some nodes on it.
type stage struct {
	postgres *rig.Postgres
	nodes    []*node
	readers  *fanout.Process[fanout.Command, fanout.Report]

	commits, called atomic.Int64 // so far
}

type node struct {
	*rig.Server

	admin rig.Admin
}

// raise starts so many nodes. Close the stage also after an error.
func (s *stage) raise(ctx context.Context, freshet string, nodes int) error {
	for range nodes {
		admin, err := rig.FreeAddr(ctx)
		if err != nil {
			return err
		}
		server, err := rig.StartWith(ctx, freshet, rig.Options{DatabaseURL: s.postgres.URL, Flags: []string{
			"--admin-addr=" + admin, "--max-streams=19000", "--max-streams-per-address=0", "--max-connections-per-address=0",
		}})
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, &node{server, rig.Admin(admin)})
	}
	return nil
}

// close ends nodes and readers, not Postgres.
func (s *stage) close() error {
	err := s.leave()
	for _, n := range s.nodes {
		err = errors.Join(err, n.Stop())
	}
	s.nodes = nil
	return err
}

// follow opens streams to each node, of so many topics in turn, and returns when each
// has its answer's head.
func (s *stage) follow(ctx context.Context, each, topics int) (err error) {
	if s.readers, err = fanout.Spawn[fanout.Command, fanout.Report](ctx, "read"); err != nil {
		return err
	}
	for _, n := range s.nodes {
		_, err := s.read(fanout.Command{Connect: &fanout.Connect{
			Address: strings.TrimPrefix(n.URL, "http://"), Path: "/events?throttle=0&topic=conversations/c{}/messages", Number: each, Spread: topics,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) read(c fanout.Command) (fanout.Report, error) {
	r, err := s.readers.Do(c)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	return r, err
}

// leave closes all streams.
func (s *stage) leave() error {
	if s.readers == nil {
		return nil
	}
	err := s.readers.Stop()
	s.readers = nil
	return err
}

// usage is what everything has used so far: CPU time of each node, and of each process
// of Postgres' by what it does.
type usage struct {
	at        time.Time
	nodes     []time.Duration
	processes map[int]process
	snapshots float64 // that nodes' gates have taken
	frames    uint64  // that readers have read

	commits, called int64
	all             rig.CPUTimes
}

type process struct {
	does string
	ran  time.Duration
}

// uses reads it. What ends in between is not in the difference: nothing of ours does.
func (s *stage) uses(ctx context.Context) (u usage, err error) {
	for _, n := range s.nodes {
		metrics, err := n.admin.Metrics(ctx)
		if err != nil {
			return u, err
		}
		u.snapshots += metrics["freshet_feed_gate_queries_total"]
	}
	rows, err := s.postgres.Admin.Query(ctx, `select pid, backend_type, coalesce(application_name, ''), coalesce(query, '') from pg_stat_activity
where pid <> pg_backend_pid()`)
	if err != nil {
		return u, err
	}
	u.processes = map[int]process{}
	var pid int
	var kind, application, query string
	_, err = pgx.ForEachRow(rows, []any{&pid, &kind, &application, &query}, func() error {
		u.processes[pid] = process{does: doing(kind, application, query)}
		return nil
	})
	if err != nil {
		return u, err
	}
	u.at, u.all = time.Now(), rig.ReadCPU(rig.None, s.postgres.PID)
	u.commits, u.called = s.commits.Load(), s.called.Load()
	if s.readers != nil {
		report, err := s.read(fanout.Command{Report: true})
		if err != nil {
			return u, err
		}
		if report.Closed > 0 {
			return u, fmt.Errorf("%d streams ended", report.Closed)
		}
		u.frames = report.Notices
	}
	for pid, p := range u.processes {
		if p.ran, err = rig.RanFor(pid); err != nil {
			delete(u.processes, pid) // it has ended: nobody's of ours
			continue
		}
		u.processes[pid] = p
	}
	for _, n := range s.nodes {
		ran, err := rig.RanFor(n.PID)
		if err != nil {
			return u, err
		}
		u.nodes = append(u.nodes, ran)
	}
	return u, nil
}

// doing tells by the last statement what a node's connection is for.
func doing(kind, application, query string) string {
	switch {
	case kind == "walsender":
		return walsenders
	case kind != "client backend":
		return background
	case application == writerName:
		return writing
	case strings.Contains(query, "pg_current_snapshot"):
		return gates
	case strings.Contains(query, "pg_current_wal_flush_lsn"), strings.Contains(query, "pg_logical_emit_message"):
		return probes
	}
	return pools
}

// until fills a cell with what was used from u to later.
func (u usage) until(later usage, c *cell) {
	c.Seconds = later.at.Sub(u.at).Seconds()
	c.CPU = map[string]float64{}
	for i, ran := range later.nodes {
		c.NodeCPU = append(c.NodeCPU, (ran-u.nodes[i]).Seconds()/c.Seconds)
	}
	for pid, p := range later.processes {
		if before, ok := u.processes[pid]; ok {
			c.CPU[p.does] += (p.ran - before.ran).Seconds() / c.Seconds
		}
	}
	c.Snapshots = (later.snapshots - u.snapshots) / c.Seconds
	c.Frames = float64(later.frames-u.frames) / c.Seconds
	c.Commits = float64(later.commits-u.commits) / c.Seconds
	c.Called = float64(later.called-u.called) / c.Seconds
	c.Postgres = u.all.Until(later.all, later.at.Sub(u.at)).Postgres
}
