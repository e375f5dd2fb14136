package testkit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/scratch"
	"github.com/freshet-dev/freshet/store/pgembed"
)

// startTimeout is generous: on a loaded machine initdb alone has been seen to take seconds.
const startTimeout = time.Minute

// settings of every test server.
var settings = map[string]string{
	"max_connections":       "200",
	"max_replication_slots": "64",
	"max_wal_senders":       "64",
	// Two-phase commits are among what users do to us.
	"max_prepared_transactions": "16",
	"shared_buffers":            "64MB",
}

// Server is a PostgreSQL server that tests run against. Safe for concurrent use.
type Server struct {
	server *pgembed.Server
	dir    *scratch.Dir

	mu        sync.Mutex           // guards templates
	templates map[string]*template // by name
	databases atomic.Int64         // numbers the names of databases
}

// shared is the server that all tests of a binary share.
var shared sharedServer

type sharedServer struct {
	mu       sync.Mutex
	postgres *Server
	err      error
	tried    bool
}

// Postgres returns the server that all tests of this binary share; the first call starts it, Main
// stops it. It runs with fsync off: nothing is lost when the server crashes, but don't crash it,
// others are using it. What is cluster-wide (settings, restarts, crashes, synchronous standbys)
// needs NewServer.
func Postgres(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.tried {
		shared.tried = true
		shared.postgres, shared.err = start(0, map[string]string{"fsync": "off", "full_page_writes": "off"}, nil)
	}
	require.NoError(t, shared.err)
	return shared.postgres
}

func (s *sharedServer) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.postgres == nil {
		return nil
	}
	return s.postgres.stop()
}

// NewServer starts a server for this test alone, with fsync on unless settings say otherwise, and
// removes it afterwards.
func NewServer(t testing.TB, settings map[string]string) *Server {
	t.Helper()
	return NewServerOf(t, 0, settings)
}

// NewServerOf is NewServer with a PostgreSQL of this major version, which Majors names; zero is the
// one that all tests run on.
func NewServerOf(t testing.TB, major int, settings map[string]string) *Server {
	t.Helper()
	p, err := start(major, settings, Logger(t))
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("stop PostgreSQL: %v", err)
		}
	})
	return p
}

// Majors are the major versions that this machine has binaries of, in ascending order; there is at
// least one. A machine that `make deps` has prepared has the system's and the npm package's.
func Majors(t testing.TB) []int {
	t.Helper()
	found, err := pgembed.Find(Context(t), pgembed.Config{NPMDir: npmDir()})
	require.NoError(t, err)
	var majors []int
	for _, in := range found {
		majors = append(majors, in.Major)
	}
	slices.Sort(majors)
	return slices.Compact(majors)
}

func npmDir() string { return filepath.Join(Root(), "web", "node_modules") }

func start(major int, own map[string]string, log *slog.Logger) (*Server, error) {
	dir, err := scratch.New("freshet-test-", 30*time.Minute)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(settings)
	maps.Copy(all, own)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	server, err := pgembed.Start(ctx, pgembed.Config{
		DataDir:  filepath.Join(dir.Path, "data"),
		RootDir:  filepath.Join(dir.Path, "root"),
		Major:    major,
		NPMDir:   npmDir(),
		Logger:   log,
		Settings: all,
	})
	if err != nil {
		return nil, fmt.Errorf("%w (tests need a real PostgreSQL)", errors.Join(err, dir.Remove()))
	}
	return &Server{server: server, dir: dir, templates: map[string]*template{}}, nil
}

// stop ends the server and removes its data.
func (p *Server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return errors.Join(p.server.Stop(ctx), p.dir.Remove())
}

// URL is the connection string of a database, as superuser; "" is the database "freshet".
func (p *Server) URL(database string) string { return p.server.URL(database) }

// Version is the server's version, such as "15.14".
func (p *Server) Version() string { return p.server.Version() }

// Restart stops the server in order and starts it again: URLs and data stay.
func (p *Server) Restart(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	require.NoError(t, p.server.Restart(ctx))
}

// Kill crashes the server (SIGKILL to each process); Restart brings it back.
func (p *Server) Kill() { p.server.Kill() }

// Stop ends the server in order before the test's end; Restart can't bring it back after that.
func (p *Server) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	require.NoError(t, p.server.Stop(ctx))
}

// Conn connects to url and closes the connection at the test's end.
func Conn(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(Context(t), url)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the server may be gone by now, or was to be
	})
	return conn
}

// Exec runs SQL on a connection of its own; without arguments it may be several statements.
func Exec(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, exec(ctx, url, sql, args...), sql)
}

func exec(ctx context.Context, url, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	} else {
		_, err = conn.Exec(ctx, sql, args...)
	}
	return errors.Join(err, conn.Close(ctx))
}
