package testkit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Database creates an empty database on the shared server and returns its URL. At the test's end it
// goes, with its replication slots and whoever is still connected.
func Database(t testing.TB) string {
	t.Helper()
	return Postgres(t).Database(t)
}

// Template is Database with contents: prepare fills a template database, once for all tests of
// the binary that give the same name, and each gets a copy. prepare must leave no connection open.
func Template(t testing.TB, name string, prepare func(ctx context.Context, url string) error) string {
	t.Helper()
	return Postgres(t).Template(t, name, prepare)
}

// Database is Database on this server.
func (p *Server) Database(t testing.TB) string {
	t.Helper()
	return p.create(t, "template1")
}

type template struct {
	once sync.Once
	err  error
}

// Template is Template on this server.
func (p *Server) Template(t testing.TB, name string, prepare func(ctx context.Context, url string) error) string {
	t.Helper()
	p.mu.Lock()
	tmpl := p.templates[name]
	if tmpl == nil {
		tmpl = &template{}
		p.templates[name] = tmpl
	}
	p.mu.Unlock()
	database := "template_" + name
	tmpl.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if tmpl.err = exec(ctx, p.URL("postgres"), "create database "+quote(database)); tmpl.err == nil {
			tmpl.err = prepare(ctx, p.URL(database))
		}
	})
	require.NoError(t, tmpl.err, "prepare the template database %q", name)
	return p.create(t, database)
}

func (p *Server) create(t testing.TB, from string) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", p.databases.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, exec(ctx, p.URL("postgres"), "create database "+quote(name)+" template "+quote(from)))
	t.Cleanup(func() {
		select {
		case <-p.server.Done(): // a test of its own server left it down; its data goes as a whole
			return
		default:
		}
		if err := p.drop(name); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return p.URL(name)
}

// drop removes a database with all that would keep it: replication slots and their walsenders,
// prepared transactions, sessions.
func (p *Server) drop(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := p.rollbackPrepared(ctx, conn, name); err != nil {
		return err
	}
	// Nobody comes back: a feed that is still running would take its slot again. Not in force yet
	// for those who are in.
	if _, err := conn.Exec(ctx, "alter database "+quote(name)+" allow_connections false"); err != nil {
		return err
	}
	if err := dropSlots(ctx, conn, name); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "drop database "+quote(name)+" with (force)")
	return err
}

func dropSlots(ctx context.Context, conn *pgx.Conn, database string) error {
	const terminate = `select pg_terminate_backend(active_pid, 10000) from pg_replication_slots where database = $1 and active_pid is not null`
	const drop = `select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1 and not active`
	for {
		if _, err := conn.Exec(ctx, terminate, database); err != nil {
			return err
		}
		// A walsender gives its slot back a little after it has gone from view; then the slot shows
		// as active by nobody we saw.
		_, dropErr := conn.Exec(ctx, drop, database)
		var left int
		err := conn.QueryRow(ctx, "select count(*) from pg_replication_slots where database = $1", database).Scan(&left)
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), dropErr)
		}
	}
}

func (p *Server) rollbackPrepared(ctx context.Context, conn *pgx.Conn, database string) error {
	rows, err := conn.Query(ctx, "select gid from pg_prepared_xacts where database = $1", database)
	if err != nil {
		return err
	}
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, gid := range gids {
		err = errors.Join(err, exec(ctx, p.URL(database), "rollback prepared '"+strings.ReplaceAll(gid, "'", "''")+"'"))
	}
	return err
}

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }

// WithParam returns a URL with one more parameter, such as WithParam(u, "replication", "database").
func WithParam(t testing.TB, raw, name, value string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// Root is the folder of the repository, where Freshet's own go.mod is: tests of
// a module further down have another on the way.
func Root() string {
	dir, err := os.Getwd() // go test runs a package's tests in its folder
	if err != nil {
		panic(err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module github.com/freshet-dev/freshet\n") {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			panic("testkit: no go.mod of Freshet above the working directory")
		}
		dir = parent
	}
}
