package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/store/pgembed"
)

// privatePostgres is a Postgres of our own: started when it is asked for, and
// again whenever it ends though nobody asked for that.
type privatePostgres struct {
	cfg   pgembed.Config
	asked chan struct{} // closed by start
	is    chan struct{} // closed when it has been started, or can't be
	url   string        // set before that
	err   error         // why it can't be
}

func newPrivatePostgres(cfg pgembed.Config) *privatePostgres {
	return &privatePostgres{cfg: cfg, asked: make(chan struct{}), is: make(chan struct{})}
}

// start has run start it, and returns when it has. It is called once.
func (p *privatePostgres) start(ctx context.Context) error {
	close(p.asked)
	_, err := p.connect(ctx)
	return err
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
	return pgx.ParseConfig(p.url)
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
	p.cfg.Logger.InfoContext(ctx, "no database URL: starting a private Postgres", "data_dir", p.cfg.DataDir)
	pg, err := pgembed.Start(ctx, p.cfg)
	if err != nil {
		p.err = err
		close(p.is)
		<-ctx.Done() // whoever asked tells
		return nil
	}
	p.url = pg.URL("")
	close(p.is)
	return keepPostgres(ctx, p.cfg.Logger, "the private Postgres", pg)
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
	Err() error            // says why
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
		if time.Since(since) > livesLong {
			pause = 0
		}
		logger.ErrorContext(ctx, name+" ended: it is started again", "error", it.Err(), "pause", pause)
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
