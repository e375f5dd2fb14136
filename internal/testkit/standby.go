package testkit

import (
	"context"
	"fmt"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/store/pgembed"
)

// Cluster is a data directory, and whoever owns it: Postgres refuses to run as
// root.
type Cluster struct {
	Dir      string
	bin      string // folder of the programs that run it
	uid, gid uint32
}

// Cluster is this server's. It must be running.
func (p *Server) Cluster(t testing.TB) Cluster {
	t.Helper()
	var c Cluster
	require.NoError(t, Conn(t, p.URL("postgres")).QueryRow(Context(t), `select current_setting('data_directory')`).Scan(&c.Dir))
	info, err := os.Stat(c.Dir)
	require.NoError(t, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	c.uid, c.gid = stat.Uid, stat.Gid
	options, err := os.ReadFile(filepath.Join(c.Dir, "postmaster.opts"))
	require.NoError(t, err)
	program, _, _ := strings.Cut(string(options), ` "`)
	c.bin = filepath.Dir(program)
	return c
}

// Ctl runs pg_ctl on the cluster, as its owner.
func (c Cluster) Ctl(t testing.TB, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also in a cleanup
	defer cancel()
	cmd := osexec.CommandContext(ctx, filepath.Join(c.bin, "pg_ctl"), append(args, "--pgdata", c.Dir)...)
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.gid}}
	}
	out, err := cmd.CombinedOutput()
	require.NoErrorf(t, err, "pg_ctl %v: %s", args, out)
}

// Standby is a streaming standby of a Server. It stops with the test.
type Standby struct{ server *pgembed.Server }

// Standby makes a streaming standby of this server, as it is now, and starts
// it.
func (p *Server) Standby(t testing.TB) *Standby {
	t.Helper()
	home, err := os.MkdirTemp("", "freshet-standby-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	require.NoError(t, os.Chmod(home, 0o711)) //nolint:gosec // for root: the server's own user passes through here
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s := &Standby{}
	s.server, err = pgembed.StartStandby(ctx, pgembed.Config{
		DataDir: filepath.Join(home, "data"), RootDir: filepath.Join(home, "root"), Logger: Logger(t),
	}, p.server)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, s.server.Stop(ctx))
	})
	return s
}

// Host is the folder of the standby's socket.
func (s *Standby) Host() string { return s.where().Get("host") }

// Port is the number in the name of its socket.
func (s *Standby) Port() string { return s.where().Get("port") }

func (s *Standby) where() url.Values {
	u, err := url.Parse(s.server.URL(""))
	if err != nil {
		panic(err) // it is pgembed's own
	}
	return u.Query()
}

// Socket is the path of its socket, which Proxy.Point takes.
func (s *Standby) Socket() string { return filepath.Join(s.Host(), ".s.PGSQL."+s.Port()) }

// URL is the standby's for a database of its primary, whose URL it takes.
func (s *Standby) URL(t testing.TB, primary string) string {
	t.Helper()
	return WithParam(t, WithParam(t, primary, "host", s.Host()), "port", s.Port())
}

// Stop ends it at once, as a crash does; Start brings it back.
func (s *Standby) Stop(t testing.TB) {
	t.Helper()
	s.server.Kill()
}

// Start starts it again after Stop.
func (s *Standby) Start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	require.NoError(t, s.server.Restart(ctx))
}

// Follow has it follow another standby, which is of the same server, from now on: it cascades.
func (s *Standby) Follow(t testing.TB, upstream *Standby) {
	t.Helper()
	conn := Conn(t, s.server.URL("postgres"))
	var info string
	require.NoError(t, conn.QueryRow(Context(t), `select current_setting('primary_conninfo')`).Scan(&info))
	// The last of two that are given counts.
	info += fmt.Sprintf(" host='%s' port=%s", upstream.Host(), upstream.Port())
	_, err := conn.Exec(Context(t), "alter system set primary_conninfo = '"+strings.ReplaceAll(info, "'", "''")+"'")
	require.NoError(t, err)
	_, err = conn.Exec(Context(t), `select pg_reload_conf()`)
	require.NoError(t, err)
}

// Detach has it follow nobody from now on, and returns once that holds: what the
// primary commits then is lost when it is promoted.
func (s *Standby) Detach(t testing.TB) {
	t.Helper()
	conn := Conn(t, s.server.URL("postgres"))
	_, err := conn.Exec(Context(t), "alter system set primary_conninfo = ''")
	require.NoError(t, err)
	_, err = conn.Exec(Context(t), `select pg_reload_conf()`)
	require.NoError(t, err)
	require.True(t, eventually(func() bool {
		var streams bool
		err := conn.QueryRow(Context(t), `select exists (select from pg_stat_wal_receiver)`).Scan(&streams)
		return err == nil && !streams
	}), "it doesn't stream any more")
}

// Promote makes a primary of it.
func (s *Standby) Promote(t testing.TB) {
	t.Helper()
	var done bool
	require.NoError(t, Conn(t, s.server.URL("postgres")).QueryRow(Context(t), `select pg_promote(true, 60)`).Scan(&done))
	require.True(t, done, "promoted within a minute")
}
