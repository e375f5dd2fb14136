package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/store/pgembed"
)

// privatePostgres is a Postgres of our own: started when it is asked for, and
// again whenever it ends though nobody asked for that.
//
// Of the nodes on one data folder, one runs it: whoever has the folder's lock, which
// the kernel takes back when that process ends, however it does. The others use it,
// and one of them starts it anew then. So it is there for as long as a node is, and
// whoever comes back joins.
type privatePostgres struct {
	cfg    pgembed.Config
	ending <-chan struct{} // closed when this node begins to stop: from then on it takes nothing over
	asked  chan struct{}   // closed by start
	is     chan struct{}   // closed when somebody runs it, or it can't be

	how func() (*pgx.ConnConfig, error) // set before that
	err error                           // why it can't be
}

func newPrivatePostgres(cfg pgembed.Config, ending <-chan struct{}) *privatePostgres {
	return &privatePostgres{cfg: cfg, ending: ending, asked: make(chan struct{}), is: make(chan struct{})}
}

// start has run start it, and returns when it has. It is called once.
func (p *privatePostgres) start(ctx context.Context) error {
	close(p.asked)
	select {
	case <-p.is:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// connect says how to connect to it.
func (p *privatePostgres) connect(ctx context.Context) (*pgx.ConnConfig, error) {
	select {
	case <-p.is:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.err != nil {
		return nil, p.err
	}
	return p.how()
}

// postgresStopTimeout is what an orderly stop may take: a checkpoint.
const postgresStopTimeout = 30 * time.Second

// run is the life of it. It ends with ctx.
func (p *privatePostgres) run(ctx context.Context) error {
	select {
	case <-p.asked:
	case <-ctx.Done():
		return nil
	}
	p.cfg.Logger.InfoContext(ctx, "no database URL: serving from the private Postgres of a folder", "data_dir", p.cfg.DataDir)
	pg, err := pgembed.Start(ctx, p.cfg)
	var inUse *pgembed.InUseError
	switch {
	case err == nil:
		p.how = func() (*pgx.ConnConfig, error) { return pgx.ParseConfig(pg.URL("")) }
		close(p.is)
	case errors.As(err, &inUse):
		pg, err = p.join(ctx, inUse)
	}
	if err != nil {
		p.err = err
		close(p.is) // whoever asked tells
	}
	if pg == nil {
		<-ctx.Done()
		return nil
	}
	return keepPostgres(ctx, p.cfg.Logger, "the private Postgres", pg)
}

// joinInterval is how often a node that has joined looks whether whoever runs Postgres
// has ended: a system call, and how long everybody is without it, at least.
const joinInterval = 250 * time.Millisecond

// join uses the Postgres that another process runs until that one has ended, starts it
// then, and returns it; nil: this node has ended before. The error says why there has
// never been one.
func (p *privatePostgres) join(ctx context.Context, inUse *pgembed.InUseError) (*pgembed.Server, error) {
	p.cfg.Logger.InfoContext(ctx, "another node runs the private Postgres of this folder: joining it", "process", inUse.Process)
	p.how = inUse.Connect
	pause, answers := joinInterval, false
	said := ""
	for {
		if !answers && p.answers(ctx) {
			answers = true
			close(p.is)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, nil
		case <-p.ending:
			timer.Stop()
			return nil, nil
		}
		pg, err := pgembed.Start(ctx, p.cfg)
		switch {
		case err == nil:
			p.cfg.Logger.InfoContext(ctx, "whoever ran the private Postgres has ended: this node runs it now")
			if !answers {
				close(p.is)
			}
			return pg, nil
		case errors.Is(err, pgembed.ErrInUse):
			pause, said = joinInterval, ""
		case !answers:
			return nil, err
		case ctx.Err() == nil:
			if said != err.Error() {
				said = err.Error()
				p.cfg.Logger.ErrorContext(ctx, "whoever ran the private Postgres has ended, and here it does not start", "error", err)
			}
			pause = min(max(2*pause, firstPause), longestPause)
		}
	}
}

// answers reports whether it can be used. Whoever runs it may be at making it yet: the
// database comes last, and asking by its name would be an error in the other's log.
func (p *privatePostgres) answers(ctx context.Context) (there bool) {
	config, err := p.how()
	if err != nil {
		return false
	}
	name := config.Database
	config.Database = "postgres"
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(ctx) }() // it has answered
	err = conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", name).Scan(&there)
	return err == nil && there
}

// keepPostgres is the life of a Postgres that has been started. It ends with ctx.
func keepPostgres(ctx context.Context, logger *slog.Logger, name string, pg *pgembed.Server) error {
	keep(ctx, logger, name, pg)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), postgresStopTimeout)
	defer cancel()
	return pg.Stop(stopping)
}

// kept is something that is started again when it ends though nobody asked for that.
type kept interface {
	Done() <-chan struct{} // closed when the present run has ended
	Err() error            // says why; nil: in order, because somebody asked it to
	Restart(ctx context.Context) error
}

// One that ends again and again is started after a pause that doubles, from
// nothing; one that has lived for a while is new.
const (
	firstPause   = time.Second
	longestPause = 30 * time.Second
	livesLong    = time.Minute
)

// keep starts it again, whenever it ends, until ctx ends.
func keep(ctx context.Context, logger *slog.Logger, name string, it kept) {
	pause, since := time.Duration(0), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-it.Done():
		}
		if ctx.Err() != nil {
			return // who ended us may have ended it, too
		}
		if time.Since(since) > livesLong {
			pause = 0
		}
		if err := it.Err(); err != nil {
			logger.ErrorContext(ctx, name+" ended: it is started again", "error", err, "pause", pause)
		} else {
			logger.InfoContext(ctx, name+" was stopped: it is started again", "pause", pause)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(max(2*pause, firstPause), longestPause)
		since = time.Now()
		if err := it.Restart(ctx); err != nil && ctx.Err() == nil {
			logger.ErrorContext(ctx, name+" does not start", "error", err)
		}
	}
}
