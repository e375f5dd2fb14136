package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/bench/rig"
)

// patience is how long anything but the writing itself may take before the run
// fails. It is far above what a sound one takes.
const patience = time.Minute

// stage is what all variants share.
type stage struct {
	*options

	postgres *rig.Postgres
}

func setUp(ctx context.Context, o *options) (*stage, error) {
	postgres, err := rig.StartPostgres(ctx, o.Freshet)
	if err != nil {
		return nil, err
	}
	// The server that has made the schema left these.
	if err := postgres.TearDown(ctx); err != nil {
		return nil, errors.Join(err, postgres.Stop())
	}
	return &stage{options: o, postgres: postgres}, nil
}

// cell is one variant with one number of writers in one round.
type cell struct {
	Variant      string       `json:"variant"`
	Writers      int          `json:"writers"`
	Round        int          `json:"round"`
	Seconds      float64      `json:"seconds"`
	Written      int64        `json:"written"`
	WritesPerSec float64      `json:"writes_per_second"`
	CPU          rig.CPUShare `json:"cpus_busy"`
	Walsender    float64      `json:"cpus_busy_walsender"` // within Postgres'
	Sessions     float64      `json:"cpus_busy_followers"` // within Postgres': other sessions of those who follow
	ToldMillis   *float64     `json:"all_told_after_ms"`   // after the last COMMIT; nil: nobody tells
	PollsPerSec  float64      `json:"polls_per_second,omitempty"`
}

// measure runs one cell: an empty table, whoever follows, a warm-up, the time
// that counts, and then all of it must have been told.
func (s *stage) measure(ctx context.Context, v variant, round, writers int) (_ *cell, err error) {
	cause := fmt.Errorf("not finished %v after it should have been", patience)
	ctx, cancel := context.WithTimeoutCause(ctx, s.Warmup+s.Duration+patience, cause)
	defer cancel()
	for _, statement := range []string{"truncate messages", "checkpoint"} {
		if _, err := s.postgres.Admin.Exec(ctx, statement); err != nil {
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
	}
	f, err := v.follow(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.end(context.WithoutCancel(ctx))) }()
	writing, err := gather(ctx, s.postgres.URL, writers, s.Conversations)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writing.close(context.WithoutCancel(ctx))) }()

	g, running := errgroup.WithContext(ctx)
	following, stopFollowing := context.WithCancel(running)
	defer stopFollowing()
	ready := make(chan struct{})
	g.Go(func() error { return f.run(following, sync.OnceFunc(func() { close(ready) })) })
	select {
	case <-ready:
	case <-running.Done():
		return nil, g.Wait()
	}
	c := &cell{Variant: v.name, Writers: writers, Round: round + 1}
	err = s.write(running, writing, f, c)
	stopFollowing()
	if err := errors.Join(g.Wait(), err); err != nil {
		return nil, err
	}
	return c, nil
}

// write is the part of a cell with writers in it.
func (s *stage) write(ctx context.Context, writing *crowd, f follower, c *cell) error {
	enough, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		defer stop() // an error ends the wait below
		ended <- writing.write(ctx, enough)
	}()
	rig.Wait(enough, s.Warmup)
	following, sessionsErr := s.sessions(ctx)
	before := s.read(writing, f, following)
	rig.Wait(enough, s.Duration)
	after := s.read(writing, f, following)
	stop()
	err := <-ended
	last := time.Now()
	if err := errors.Join(err, sessionsErr); err != nil {
		return err
	}
	c.fill(before, after)

	written := writing.written.Load()
	tells, err := f.told(ctx, written)
	if err != nil {
		return err
	}
	if tells {
		ms := float64(time.Since(last)) / float64(time.Millisecond)
		c.ToldMillis = &ms
	}
	var rows int64
	if err := s.postgres.Admin.QueryRow(ctx, "select count(*) from messages where conversation <> $1", lastConversation).Scan(&rows); err != nil {
		return err
	}
	if rows != written {
		return fmt.Errorf("the table has %d rows of %d that were committed", rows, written)
	}
	return nil
}

// reading is what is read before and after the time that counts.
type reading struct {
	at             time.Time
	written, polls int64
	cpu            rig.CPUTimes
	sessions       sessionTimes
}

func (s *stage) read(writing *crowd, f follower, who []session) reading {
	return reading{time.Now(), writing.written.Load(), f.polls(), rig.ReadCPU(f.serverPID(), s.postgres.PID), spent(who)}
}

// session is one of Postgres' that isn't a writer's.
type session struct {
	PID       int
	Walsender bool
}

// sessions are those of whoever follows.
func (s *stage) sessions(ctx context.Context) ([]session, error) {
	rows, err := s.postgres.Admin.Query(ctx, `select pid, backend_type = 'walsender' from pg_stat_activity
		where backend_type in ('walsender', 'client backend') and application_name <> $1 and pid <> pg_backend_pid()`, writerName)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[session])
}

// sessionTimes is the CPU time of sessions so far.
type sessionTimes struct{ walsender, others time.Duration }

// spent leaves out sessions that have ended.
func spent(who []session) (t sessionTimes) {
	for _, session := range who {
		used, err := rig.CPUOf(session.PID)
		switch {
		case err != nil:
		case session.Walsender:
			t.walsender += used
		default:
			t.others += used
		}
	}
	return t
}

func (c *cell) fill(before, after reading) {
	wall := after.at.Sub(before.at)
	c.Seconds = wall.Seconds()
	c.Written = after.written - before.written
	c.WritesPerSec = float64(c.Written) / c.Seconds
	c.PollsPerSec = float64(after.polls-before.polls) / c.Seconds
	c.Walsender = (after.sessions.walsender - before.sessions.walsender).Seconds() / c.Seconds
	c.Sessions = (after.sessions.others - before.sessions.others).Seconds() / c.Seconds
	c.CPU = before.cpu.Until(after.cpu, wall)
}
