package pgembed

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestServer_life(t *testing.T) {
	t.Parallel()
	for _, origin := range []string{"system", "npm"} {
		t.Run(origin, func(t *testing.T) {
			c := config(t)
			if origin == "npm" {
				c.search = &search{}
			} else {
				c.NPMDir = c.DataDir
			}
			_, err := Find(testContext(t), c)
			if !prerequisite(t, err == nil, "no PostgreSQL of this origin here; `make deps` installs the system's, `make test` the npm package") {
				return
			}
			s := start(t, c)
			require.Equal(t, "logical", query(t, s.URL(""), "show wal_level"))
			require.Equal(t, DefaultDatabase, query(t, s.URL(""), "select current_database()"))
			require.Equal(t, "UTF8", query(t, s.URL("postgres"), "show server_encoding"))
			require.Equal(t, s.Version(), query(t, s.URL(""), "select split_part(current_setting('server_version'), ' ', 1)"))
			mark(t, s.URL(""))
			url := s.URL("")
			stop(t, s)
			stop(t, s) // harmless
			select {
			case <-s.Done():
			default:
				t.Fatal("not done after Stop")
			}
			require.NoError(t, s.Err())
			require.NoFileExists(t, filepath.Join(s.site.socketDir, socketName))

			again := start(t, c)
			require.Equal(t, url, again.URL(""))
			require.Equal(t, clean, query(t, again.URL(""), marks))
			require.NoError(t, again.Restart(testContext(t)))
			require.Equal(t, clean, query(t, again.URL(""), marks))
			again.Kill()
			<-again.Done()
			require.Error(t, again.Err())
			require.NoError(t, again.Restart(testContext(t)))
			require.NoError(t, again.Err())
			require.Equal(t, crashed, query(t, again.URL(""), marks))
		})
	}
}

// gatedLog is a log that takes nothing while somebody holds its lock.
type gatedLog struct {
	sync.Mutex
	text bytes.Buffer
}

func (l *gatedLog) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.text.Write(p)
}

// Whoever runs the server may be paused, or unable to write its log; others may be at
// home there. It serves on, whatever it logs, and is heard again.
func TestServer_logThatNobodyReads(t *testing.T) {
	t.Parallel()
	var log gatedLog
	c := config(t)
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := start(t, c)
	warn := func(times int, text string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(testContext(t), 30*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, s.URL(""))
		require.NoError(t, err)
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, fmt.Sprintf(`set client_min_messages = error; do $$ begin for i in 1..%d loop raise warning '%s'; end loop; end $$`, times, text))
		require.NoError(t, err)
	}
	func() {
		log.Lock()
		defer log.Unlock()                    // also when it fails, so that the server can be stopped
		warn(4000, strings.Repeat("x", 1000)) // four times what its pipe holds
	}()
	require.Eventually(t, func() bool {
		warn(1, "heard again")
		log.Lock()
		defer log.Unlock()
		return strings.Contains(log.text.String(), "WARNING: heard again")
	}, time.Minute, 10*time.Millisecond)
}

func TestServer_diesByItself(t *testing.T) {
	t.Parallel()
	s := start(t, config(t))
	require.NoError(t, s.Err())
	done := s.Done()
	require.NoError(t, s.current().cmd.Process.Signal(syscall.SIGQUIT))
	<-done
	quoted(t, s.Err(), "last words", "received immediate shutdown request")
	require.NoError(t, s.Restart(testContext(t)))
}

func TestServer_stopCutsOffWhenItsTimeIsUp(t *testing.T) {
	t.Parallel()
	c := config(t)
	s := start(t, c)
	mark(t, s.URL(""))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Stop(ctx), errForced)
	require.Equal(t, crashed, query(t, start(t, c).URL(""), marks))
}

func TestStart_endsWithItsContext(t *testing.T) {
	t.Parallel()
	c := config(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, c)
	require.ErrorIs(t, err, context.Canceled)
	start(t, c) // nothing is left that would be in the way
}

func TestStart_concurrently(t *testing.T) {
	t.Parallel()
	c := config(t)
	alias := c
	alias.DataDir = filepath.Join(filepath.Dir(c.DataDir), "alias")
	require.NoError(t, os.Mkdir(c.DataDir, 0o700))
	require.NoError(t, os.Symlink(c.DataDir, alias.DataDir)) // another name is no way around the lock
	var (
		all     sync.WaitGroup
		mu      sync.Mutex
		servers []*Server
		errs    []error
	)
	ctx := testContext(t)
	for i := range 6 {
		all.Go(func() {
			s, err := Start(ctx, []Config{c, alias}[i%2])
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				servers = append(servers, s)
			} else {
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	require.Len(t, servers, 1)
	require.Len(t, errs, 5)
	for _, err := range errs {
		var other *InUseError
		require.ErrorAs(t, err, &other)
		require.ErrorIs(t, err, ErrInUse)
		quoted(t, err, servers[0].URL(""), "--data-dir")
		config, err := other.Connect()
		require.NoError(t, err)
		require.Equal(t, "1", query(t, config.ConnString(), "select 1"))
	}
	require.Equal(t, "1", query(t, servers[0].URL(""), "select 1"), "the losers leave the winner alone")
	stop(t, servers[0])
}

func TestStart_otherProgramHasTheDataDirectory(t *testing.T) {
	t.Parallel()
	c := config(t)
	other := startProgram(t, order{DataDir: c.DataDir, RootDir: c.RootDir})
	_, err := Start(testContext(t), c)
	require.ErrorIs(t, err, ErrInUse)
	quoted(t, err, "another freshet (process ")
	require.NoError(t, other.stdin.Close())
	require.NoError(t, other.cmd.Wait())
	start(t, c)
}

func TestStart_settings(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.Settings = map[string]string{"max_slot_wal_keep_size": "1GB", "freshet.note": `it's a \ backslash`}
	s := start(t, c)
	require.Equal(t, "1GB", query(t, s.URL(""), "show max_slot_wal_keep_size"))
	require.Equal(t, `it's a \ backslash`, query(t, s.URL(""), "show freshet.note"))
	query(t, s.URL(""), "alter system set max_slot_wal_keep_size = '2GB'")
	require.NoError(t, s.Restart(testContext(t)))
	require.Equal(t, "2GB", query(t, s.URL(""), "show max_slot_wal_keep_size"), "ALTER SYSTEM wins")
}

func TestStart_refusesSettings(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"listen_addresses": "*", "hba_file": "/tmp/x", "config_file": "/tmp/x", "data_directory": "/tmp/x", "unix_socket_directories": "/tmp",
		"Port": "1", "a b": "1", "": "1", "work_mem": "1MB'\nlisten_addresses = '*",
	} {
		c := config(t)
		c.Settings = map[string]string{name: value}
		_, err := Start(t.Context(), c)
		require.Error(t, err, name)
		require.NoDirExists(t, c.DataDir)
	}
	_, err := Start(t.Context(), Config{})
	require.ErrorContains(t, err, "no data directory")
}

func TestServer_listensOnItsSocketOnly(t *testing.T) {
	t.Parallel()
	c := config(t)
	s := start(t, c)
	// The owner of the data may do what it likes: it doesn't open the door by accident.
	query(t, s.URL(""), "alter system set listen_addresses = '*'")
	query(t, s.URL(""), "alter system set unix_socket_directories = '/tmp'")
	query(t, s.URL(""), "alter system set hba_file = '/dev/null'")
	require.NoError(t, s.Restart(testContext(t)))
	require.Empty(t, query(t, s.URL(""), "show listen_addresses"))
	require.Equal(t, s.site.socketDir, query(t, s.URL(""), "show unix_socket_directories"))
	pid, err := os.ReadFile(filepath.Join(s.DataDir(), "postmaster.pid"))
	require.NoError(t, err)
	require.NotContains(t, string(pid), "localhost")

	for _, dir := range []string{s.site.socketDir, s.DataDir()} {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), dir)
	}
}

func TestServer_environment(t *testing.T) {
	t.Setenv("PGHOST", "nowhere.invalid")
	t.Setenv("PGPORT", "1")
	t.Setenv("PGDATABASE", "other")
	t.Setenv("PGDATA", "/nowhere")
	t.Setenv("PGSSLMODE", "verify-full")
	t.Setenv("LC_ALL", "xx_YY.UTF-8")
	t.Setenv("DATABASE_URL", "postgres://secret")
	s := start(t, config(t))
	require.Equal(t, DefaultDatabase, query(t, s.URL(""), "select current_database()"))
	for _, kv := range environment() {
		require.NotContains(t, kv, "secret")
	}
}

func TestServer_socketInTmpWhereThePathIsLong(t *testing.T) {
	t.Parallel()
	c := config(t)
	long := filepath.Join(filepath.Dir(c.DataDir), "a-folder-with-quite-a-long-name-so-that-no-socket-fits-into-it-on-any-system-that-we-know-of")
	c.DataDir, c.RootDir = filepath.Join(long, "data"), filepath.Join(long, "root")
	require.NoError(t, os.Mkdir(long, 0o711))
	s := start(t, c)
	require.Equal(t, "/tmp", filepath.Dir(s.site.socketDir))
	require.Equal(t, "1", query(t, s.URL(""), "select 1"))
	var other *InUseError
	_, err := Start(testContext(t), c)
	require.ErrorAs(t, err, &other)
	_, err = other.Connect()
	require.NoError(t, err)
	stop(t, s)
	require.NoDirExists(t, s.site.socketDir)
	_, err = other.Connect()
	require.Error(t, err)

	// Somebody else's folder or link of that name isn't used.
	require.NoError(t, os.Symlink(folder(t), s.site.socketDir))
	defer os.Remove(s.site.socketDir)
	_, err = Start(testContext(t), c)
	quoted(t, err, "is in the way")
	_, err = other.Connect()
	quoted(t, err, "is in the way")
	if os.Geteuid() == 0 {
		require.NoError(t, os.Remove(s.site.socketDir))
		require.NoError(t, os.Mkdir(s.site.socketDir, 0o755))
		require.NoError(t, os.Chown(s.site.socketDir, 12345, 12345))
		_, err = Start(testContext(t), c)
		quoted(t, err, "is in the way")
	}
}

func TestStart_wordsOfPostgres(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.Settings = map[string]string{"shared_buffers": "a lot"}
	_, err := Start(testContext(t), c)
	quoted(t, err, "last words", "shared_buffers")
	c.Settings = nil
	start(t, c)
}

func TestServer_lockIsGivenBackWhenAStartFails(t *testing.T) {
	t.Parallel()
	c := config(t)
	require.NoError(t, os.MkdirAll(c.DataDir, 0o700))
	site, err := openSite(c)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(site.cluster, "what is this"), 0o700))
	site.close()
	for range 2 {
		_, err := Start(testContext(t), c)
		quoted(t, err, "isn't a PostgreSQL data directory")
		require.NotErrorIs(t, err, ErrInUse)
	}
}

func TestServer_restartAfterStop(t *testing.T) {
	t.Parallel()
	s := start(t, config(t))
	stop(t, s)
	require.ErrorContains(t, s.Restart(testContext(t)), "after Stop")
	_, err := pgx.Connect(testContext(t), s.URL(""))
	require.Error(t, err)
}
