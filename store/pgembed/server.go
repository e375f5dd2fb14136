package pgembed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Server is a private PostgreSQL. All methods are safe for concurrent use; those that start or end
// it take turns.
type Server struct {
	config  Config
	site    *site
	version string

	turn sync.Mutex // one Stop, Kill or Restart at a time

	mu      sync.Mutex // guards what follows
	run     *process   // the current or last run
	stopped bool       // Stop has given the site back; guarded by turn too
}

// Start runs the private server of a data directory and returns when it accepts connections; the
// database DefaultDatabase then exists. ctx limits the start only: afterwards the server runs until
// Stop. A start after a crash takes as long as PostgreSQL's recovery does.
//
// Errors: *InUseError, *NotFoundError, *VersionError, and whatever PostgreSQL says,
// with the end of its log.
func Start(ctx context.Context, c Config) (*Server, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	site, err := openSite(c)
	if err != nil {
		return nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	s := &Server{config: c, site: site}
	if c.primary != nil {
		err = site.clearStandby(ctx, c.logger())
	}
	if err == nil {
		err = s.start(ctx)
	}
	if err != nil {
		site.close()
		return nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	began := time.Now()
	log := s.config.logger()
	in, err := s.site.binaries(ctx, s.config)
	if err != nil {
		return err
	}
	if err := s.site.clearLeftover(ctx, log); err != nil {
		return err
	}
	if err := s.site.create(ctx, in, s.config.primary); err != nil {
		return err
	}
	if err := s.site.configure(s.config); err != nil {
		return err
	}
	p, err := s.launch(ctx, in)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.run, s.version = p, in.Version
	s.mu.Unlock()
	log.LogAttrs(ctx, slog.LevelInfo, "private PostgreSQL is ready", slog.String("version", in.Version),
		slog.String("binaries", in.BinDir), slog.String("data", s.site.cluster), slog.Duration("took", time.Since(began)))
	return nil
}

// launch starts the postmaster, again while backends of a server that was killed are still on their
// way out.
func (s *Server) launch(ctx context.Context, in Installation) (*process, error) {
	const patience = 15 * time.Second
	for began := time.Now(); ; {
		if err := s.site.clearSockets(); err != nil {
			return nil, err
		}
		p, err := s.site.spawn(s.config, in)
		if err != nil {
			return nil, err
		}
		err = s.ready(ctx, p)
		if err == nil {
			return p, nil
		}
		if !p.ended() {
			p.stopping.Store(true)
			p.kill()
		}
		orphaned := strings.Contains(p.logs.tail(), "shared memory block") && strings.Contains(p.logs.tail(), "still in use")
		if !orphaned || time.Since(began) > patience {
			return nil, err
		}
		for _, pid := range orphans(s.site.cluster) {
			s.config.logger().LogAttrs(ctx, slog.LevelWarn, "ending a backend of a server that was killed", slog.Int("pid", pid))
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone by itself: as well
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// ready waits until the server accepts connections and DefaultDatabase exists.
func (s *Server) ready(ctx context.Context, p *process) error {
	tick := time.NewTicker(10 * time.Millisecond) // nothing but the log announces it
	defer tick.Stop()
	for {
		if s.site.postmasterReady(p.cmd.Process.Pid) {
			err := s.createDefaultDatabase(ctx)
			var said *pgconn.PgError
			// 57P03: it went back to starting up. Any other word from the server is its last.
			if err == nil || errors.As(err, &said) && said.Code != "57P03" {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-p.done:
			return p.died()
		case <-ctx.Done():
			return fmt.Errorf("%w while PostgreSQL was starting; its last words:\n%s", ctx.Err(), p.logs.tail())
		}
	}
}

func (s *Server) createDefaultDatabase(ctx context.Context) (err error) {
	conn, err := pgx.Connect(ctx, s.site.url("postgres"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var exists bool
	err = conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", DefaultDatabase).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "create database "+DefaultDatabase)
	return err
}

// URL is the connection string of a database, as superuser, over the Unix socket; psql and pgx take
// it. "" stands for DefaultDatabase; other databases are the caller's to create. It is the same
// after a Restart and in later runs.
func (s *Server) URL(database string) string { return s.site.url(database) }

// Version is the server's version, such as "15.14".
func (s *Server) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// PID is the process of the current run's postmaster, or of the last one's if that has ended.
func (s *Server) PID() int { return s.current().cmd.Process.Pid }

// DataDir is PostgreSQL's own data directory.
func (s *Server) DataDir() string { return s.site.cluster }

func (s *Server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

// Done is closed when the current run of the server has ended, for whatever reason; Err then tells
// which. After a Restart, ask anew.
func (s *Server) Done() <-chan struct{} { return s.current().done }

// Err is nil while the server runs and after a Stop; when it ended otherwise it says how, with the
// end of its log.
func (s *Server) Err() error {
	if p := s.current(); p.ended() {
		return p.err()
	}
	return nil
}

// Stop ends the server in order: sessions are ended, a checkpoint is written. When ctx ends first,
// the server is cut off, and Stop says so in its error: the next start recovers, as after a crash
// (which commits with synchronous_commit=off and unlogged tables don't survive). Close replication
// connections beforehand: PostgreSQL waits for a walsender until its reader has confirmed
// everything. Calling it again, or when the server has died, does no harm. The Server can't be used
// afterwards.
func (s *Server) Stop(ctx context.Context) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	defer s.site.close()
	if s.current().ended() {
		return nil
	}
	return s.current().stop(ctx)
}

// Kill crashes the server: every process of it gets SIGKILL. It returns when they are gone. Restart
// brings it back. Meant for tests.
func (s *Server) Kill() {
	s.turn.Lock()
	defer s.turn.Unlock()
	if p := s.current(); !p.ended() {
		p.kill()
	}
}

// Restart stops the server in order if it runs, as Stop does, and starts it again; ctx limits both.
// When it fails, the server is down, and Restart may be tried again.
func (s *Server) Restart(ctx context.Context) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.stopped {
		return errors.New("private PostgreSQL: restart after Stop")
	}
	if p := s.current(); !p.ended() {
		if err := p.stop(ctx); err != nil {
			return fmt.Errorf("private PostgreSQL: %w", err)
		}
	}
	if err := s.start(ctx); err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	return nil
}
