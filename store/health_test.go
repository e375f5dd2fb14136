package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// watch looks at the pool until the test ends.
func watch(t *testing.T, d *store.DB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Watch(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// awaitReady waits until the pool is said to be of use, or, with a reason, of
// none because of that.
func awaitReady(t *testing.T, d *store.DB, reason string) {
	t.Helper()
	var last error
	defer func() {
		if t.Failed() {
			t.Logf("at last: %v", last)
		}
	}()
	waitFor(t, "ready: "+reason, func() bool {
		last = d.Ready()
		if reason == "" {
			return last == nil
		}
		return last != nil && strings.Contains(last.Error(), reason)
	})
	if reason != "" {
		require.NotContains(t, last.Error(), "\n", "it is for a log")
	}
}

// F59: a pool that can't connect says so, and is well again by itself.
func TestReady_F59_refused(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, migrated(t))
	p.Refuse()
	d := open(t, store.Config{URL: strings.Replace(p.URL(), "sslmode=disable", "sslmode=prefer", 1), MaxConns: 2}) // what fails, fails twice
	require.Error(t, d.Ready(), "not looked at yet")
	watch(t, d)
	awaitReady(t, d, "can't connect")
	p.Resume()
	awaitReady(t, d, "")
	p.Refuse()
	p.Cut()
	awaitReady(t, d, "connect") // without a call that fails
	p.Resume()
	awaitReady(t, d, "")
}

// role makes a role that may connect, and no more, and returns a URL for it.
func role(t *testing.T, url, options string) (name, as string) {
	t.Helper()
	conn := testkit.Conn(t, url)
	name = fmt.Sprintf("role_%d", one[int32](t, conn, "select pg_backend_pid()"))
	testkit.Exec(t, url, "create role "+name+" login "+options)
	testkit.Exec(t, url, "grant usage on schema freshet to "+name+"; grant select on all tables in schema freshet to "+name)
	t.Cleanup(func() {
		ctx := context.Background()
		conn, err := pgx.Connect(ctx, url)
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(ctx)) }()
		_, err = conn.Exec(ctx, "drop owned by "+name+"; drop role "+name)
		require.NoError(t, err)
	})
	return name, testkit.WithParam(t, url, "user", name)
}

// F59: a role that may open fewer connections than the pool wants.
func TestReady_F59_connectionLimit(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	name, as := role(t, url, "connection limit 3")
	testkit.Exec(t, url, "grant select on messages to "+name)
	d := open(t, store.Config{URL: as, MaxConns: 4})
	watch(t, d)
	awaitReady(t, d, "CONNECTION LIMIT")
	testkit.Exec(t, url, "alter role "+name+" connection limit 4")
	awaitReady(t, d, "")
}

// F59: calls are refused for want of a privilege.
func TestReady_F59_missingGrant(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	name, as := role(t, url, "")
	d := open(t, store.Config{URL: as, Sources: []string{"public.messages"}})
	watch(t, d)
	awaitReady(t, d, "") // a role may read through views alone: a call has to tell
	require.Error(t, d.Read(testkit.Context(t), list))
	awaitReady(t, d, "grant usage on the schema")
	testkit.Exec(t, url, "grant select on messages to "+name)
	awaitReady(t, d, "")
	require.NoError(t, d.Read(testkit.Context(t), list))
}

// F59: a password file that is rotated is read again.
func TestReady_F59_rotatedPassword(t *testing.T) {
	t.Parallel()
	server := testkit.NewServer(t, nil)
	url := server.URL("postgres")
	require.NoError(t, prepare(testkit.Context(t), url))
	testkit.Exec(t, url, "create role rotated login superuser password 'old'")
	conn := testkit.Conn(t, url)
	hba := one[string](t, conn, "show hba_file")
	rules, err := os.ReadFile(hba)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(hba, append([]byte("local all rotated scram-sha-256\nhost all rotated all scram-sha-256\n"), rules...), 0o600))
	testkit.Exec(t, url, "select pg_reload_conf()")
	passfile := filepath.Join(t.TempDir(), "pgpass")
	write := func(password string) {
		require.NoError(t, os.WriteFile(passfile, []byte("*:*:*:rotated:"+password+"\n"), 0o600))
	}
	write("old")
	d := open(t, store.Config{URL: testkit.WithParam(t, testkit.WithParam(t, url, "user", "rotated"), "passfile", passfile), MaxConns: 2})
	watch(t, d)
	awaitReady(t, d, "")
	testkit.Exec(t, url, "alter role rotated password 'new'")
	testkit.Exec(t, url, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotated'")
	awaitReady(t, d, "can't connect")
	write("new")
	awaitReady(t, d, "")
	require.NoError(t, d.Read(testkit.Context(t), list))
}

// F52: unqualified names find another table than the contract's source.
func TestReady_F52_searchPath(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	testkit.Exec(t, url, "create schema app; create table app.messages (like public.messages including all)")
	app := testkit.WithParam(t, url, "search_path", "app,public")
	d := open(t, store.Config{URL: app, Sources: []string{"public.messages"}})
	watch(t, d)
	awaitReady(t, d, "app.messages stands before public.messages")

	// Another source, and a view of the source, are followed all the same.
	d = open(t, store.Config{URL: app, Sources: []string{"public.messages", "app.messages"}})
	watch(t, d)
	awaitReady(t, d, "")
	testkit.Exec(t, url, "drop table app.messages; create view app.messages as select * from public.messages")
	d = open(t, store.Config{URL: app, Sources: []string{"public.messages"}})
	watch(t, d)
	awaitReady(t, d, "")
}
