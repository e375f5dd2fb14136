package pgembed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestStart_stalePIDFile(t *testing.T) {
	t.Parallel()
	c := config(t)
	s := start(t, c)
	mark(t, s.URL(""))
	stop(t, s)

	// A living program of the account: PostgreSQL itself takes it for a postmaster.
	sleeper := exec.Command("sleep", "1000")
	s.site.as.apply(sleeper)
	require.NoError(t, sleeper.Start())
	defer func() {
		require.NoError(t, sleeper.Process.Kill())
		_ = sleeper.Wait()
	}()
	gone := exec.Command("true")
	require.NoError(t, gone.Run())

	for name, pid := range map[string]string{
		"another program":          strconv.Itoa(sleeper.Process.Pid),
		"ourselves":                strconv.Itoa(os.Getpid()),
		"our parent":               strconv.Itoa(os.Getppid()),
		"a process that's no more": strconv.Itoa(gone.Process.Pid),
		"init":                     "1",
		"garbage":                  "no number",
		"nothing":                  "",
	} {
		t.Run(name, func(t *testing.T) {
			rest := fmt.Sprintf("\n%s\n1700000000\n5432\n%s\n\n 12345 67890\nready\n", s.DataDir(), s.site.socketDir)
			if pid == "" {
				rest = ""
			}
			for _, file := range []string{filepath.Join(s.DataDir(), "postmaster.pid"), filepath.Join(s.site.socketDir, socketName+".lock")} {
				require.NoError(t, os.WriteFile(file, []byte(pid+rest), 0o600))
				require.NoError(t, s.site.as.own(file))
			}
			s := start(t, c)
			require.Equal(t, clean, query(t, s.URL(""), marks))
			stop(t, s)
		})
	}
}

// Where the kernel doesn't tell the server of its program's end, the server lives on.
func TestStart_stopsAServerThatOutlivedItsProgram(t *testing.T) {
	t.Parallel()
	c := config(t)
	other := startProgram(t, order{DataDir: c.DataDir, RootDir: c.RootDir, NoDeathSig: true})
	site := &site{cluster: clusterOf(t, c)}
	site.socketDir = filepath.Join(filepath.Dir(site.cluster), "socket")
	mark(t, site.url(""))
	require.NoError(t, other.cmd.Process.Kill())
	_ = other.cmd.Wait()
	require.True(t, isPostmaster(other.postmaster, site.cluster))
	require.Equal(t, clean, query(t, site.url(""), marks), "still serving")

	// Someone is still in it; that doesn't hold the start up.
	conn, err := pgx.Connect(testContext(t), site.url(""))
	require.NoError(t, err)
	defer conn.Close(testContext(t))
	s := start(t, c)
	require.NotEqual(t, other.postmaster, s.current().cmd.Process.Pid)
	require.False(t, isPostmaster(other.postmaster, site.cluster))
	require.Equal(t, clean, query(t, s.URL(""), marks))
}

func clusterOf(t *testing.T, c Config) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(filepath.Join(c.DataDir, "postgres"))
	require.NoError(t, err)
	return dir
}

func TestServer_stopsInOrderWhenItsProgramIsKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // no parent death signals; the next start does it, which the test before this one shows
	}
	c := config(t)
	other := startProgram(t, order{DataDir: c.DataDir, RootDir: c.RootDir})
	site := &site{cluster: clusterOf(t, c)}
	site.socketDir = filepath.Join(filepath.Dir(site.cluster), "socket")
	mark(t, site.url(""))
	require.NoError(t, other.cmd.Process.Kill())
	_ = other.cmd.Wait()
	eventually(t, "the server ends", func() bool { return !isPostmaster(other.postmaster, site.cluster) })
	require.NoFileExists(t, filepath.Join(site.cluster, "postmaster.pid"))
	require.Equal(t, clean, query(t, start(t, c).URL(""), marks))

	// A start while the old server is still on its way out waits for it.
	again := config(t)
	other = startProgram(t, order{DataDir: again.DataDir, RootDir: again.RootDir})
	require.NoError(t, other.cmd.Process.Kill())
	_ = other.cmd.Wait()
	start(t, again)
}

// The postmaster alone is killed, as the kernel does when memory is short, while a backend is too
// busy to notice.
func TestStart_endsOrphanedBackends(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // they can't be told apart there; doc.go promises nothing
	}
	c := config(t)
	s := start(t, c)
	mark(t, s.URL(""))
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, s.URL(""))
	require.NoError(t, err)
	busy := make(chan error, 1)
	const loop = "do $$ begin loop end loop; end $$" // looks at nothing, not even for its postmaster's death
	go func() {
		_, err := conn.PgConn().Exec(ctx, loop).ReadAll()
		busy <- err
	}()
	watch := s.URL("")
	eventually(t, "the loop runs", func() bool {
		return query(t, watch, "select count(*) from pg_stat_activity where query like 'do $$%' and state = 'active'") == "1"
	})
	require.NoError(t, s.current().cmd.Process.Kill())
	<-s.Done()
	require.NotEmpty(t, orphans(s.DataDir()))
	require.NoError(t, s.Restart(ctx))
	require.Error(t, <-busy)
	require.Equal(t, crashed, query(t, s.URL(""), marks))
}

// Ctrl-C goes to all processes of the foreground group.
func TestServer_survivesCtrlC(t *testing.T) {
	t.Parallel()
	c := config(t)
	other := startProgram(t, order{DataDir: c.DataDir, RootDir: c.RootDir})
	group, err := syscall.Getpgid(other.postmaster)
	require.NoError(t, err)
	require.NotEqual(t, other.cmd.Process.Pid, group)

	require.NoError(t, syscall.Kill(-other.cmd.Process.Pid, syscall.SIGINT))
	require.Equal(t, "interrupted", other.line(t))
	site := &site{socketDir: filepath.Join(filepath.Dir(clusterOf(t, c)), "socket")}
	require.Equal(t, "1", query(t, site.url(""), "select 1"))
	require.NoError(t, other.stdin.Close())
	require.NoError(t, other.cmd.Wait())
}

// The lock of a shell that runs `flock 9` must not live on in the server.
func TestServer_inheritsNoDescriptors(t *testing.T) {
	name := filepath.Join(folder(t), "lock")
	fd, err := syscall.Open(name, syscall.O_CREAT|syscall.O_RDWR, 0o600) // without O_CLOEXEC, as an inherited one is
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(fd, syscall.LOCK_EX))
	start(t, config(t))
	require.NoError(t, syscall.Close(fd))
	again, err := os.Open(name)
	require.NoError(t, err)
	defer again.Close()
	require.NoError(t, syscall.Flock(int(again.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), "the server holds the lock")
}

func TestStart_afterAnInitdbThatWasCutOff(t *testing.T) {
	t.Parallel()
	c := config(t)
	require.NoError(t, os.MkdirAll(c.DataDir, 0o700))
	site, err := openSite(c)
	require.NoError(t, err)
	site.close()
	part := site.cluster + ".part-123"
	require.NoError(t, os.MkdirAll(filepath.Join(part, "base"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(part, "PG_VERSION"), []byte("15\n"), 0o600))
	start(t, c)
	require.NoDirExists(t, part)
}
