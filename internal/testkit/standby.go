package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// Standbys are made with what npm's package of the server has too, which is
// initdb, pg_ctl and postgres, and no client program.

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
type Standby struct {
	cluster Cluster
	socket  string // its folder
}

const standbyPort = 5433 // names the socket only

// Standby makes a streaming standby of this server, as it is now, and starts
// it.
func (p *Server) Standby(t testing.TB) *Standby {
	t.Helper()
	home, err := os.MkdirTemp("", "freshet-standby-")
	require.NoError(t, err)
	log := filepath.Join(home, "log")
	t.Cleanup(func() {
		if text, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("the standby's log:\n%s", text)
		}
		_ = os.RemoveAll(home)
	})
	s := &Standby{cluster: p.backup(t, home), socket: home}
	s.cluster.Ctl(t, "start", "--wait", "--log", log,
		"--options", fmt.Sprintf("-c listen_addresses= -c port=%d -c unix_socket_directories='%s' %s", standbyPort, home, p.minima(t)))
	t.Cleanup(func() { s.cluster.Ctl(t, "stop", "--mode=immediate") })
	return s
}

// Host is the folder of the standby's socket.
func (s *Standby) Host() string { return s.socket }

// Port is the number in the name of its socket.
func (s *Standby) Port() string { return strconv.Itoa(standbyPort) }

// Socket is the path of its socket, which Proxy.Point takes.
func (s *Standby) Socket() string { return filepath.Join(s.socket, ".s.PGSQL."+s.Port()) }

// URL is the standby's for a database of its primary, whose URL it takes.
func (s *Standby) URL(t testing.TB, primary string) string {
	t.Helper()
	return WithParam(t, WithParam(t, primary, "host", s.Host()), "port", s.Port())
}

// Promote makes a primary of it.
func (s *Standby) Promote(t testing.TB) {
	t.Helper()
	s.cluster.Ctl(t, "promote", "--wait")
}

// minima returns the settings in which a standby must not be below its primary.
func (p *Server) minima(t testing.TB) (options string) {
	t.Helper()
	require.NoError(t, Conn(t, p.URL("postgres")).QueryRow(Context(t), `
select string_agg(format('-c %s=%s', name, setting), ' ') from pg_settings where name in ('wal_level', 'max_connections',
  'max_worker_processes', 'max_wal_senders', 'max_replication_slots', 'max_prepared_transactions', 'max_locks_per_transaction')`).Scan(&options))
	return options
}

// backup makes a standby's data directory in home. The manual calls it a
// low-level base backup.
func (p *Server) backup(t testing.TB, home string) Cluster {
	t.Helper()
	c := p.Cluster(t)
	require.NoError(t, os.Chown(home, int(c.uid), int(c.gid)))
	s := c
	s.Dir = filepath.Join(home, "data")
	primary := p.URL("postgres")
	conn, ctx := Conn(t, primary), Context(t)
	_, err := conn.Exec(ctx, `select pg_backup_start('standby', fast => true)`)
	require.NoError(t, err)
	s.copyFrom(t, c.Dir)
	var label string
	require.NoError(t, conn.QueryRow(ctx, `select labelfile from pg_backup_stop(wait_for_archive => false)`).Scan(&label))

	config, err := pgconn.ParseConfig(primary)
	require.NoError(t, err)
	s.write(t, "backup_label", label)
	s.write(t, "standby.signal", "")
	s.write(t, "postgresql.auto.conf", fmt.Sprintf("primary_conninfo = 'host=''%s'' port=%d user=''%s'' password=''%s'''\n",
		config.Host, config.Port, config.User, config.Password))
	return s
}

// copyFrom copies the data directory of a server that runs, without what a base
// backup leaves out: its WAL, slots, and what it keeps for as long as it runs.
func (c Cluster) copyFrom(t testing.TB, from string) {
	t.Helper()
	empty := map[string]bool{"pg_wal": true, "pg_replslot": true, "pg_dynshmem": true, "pg_notify": true, "pg_serial": true,
		"pg_snapshots": true, "pg_stat_tmp": true, "pg_subtrans": true}
	require.NoError(t, filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a temporary file: the server runs
		} else if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			if err := c.make(filepath.Join(c.Dir, name)); err != nil {
				return err
			}
			if empty[name] {
				return fs.SkipDir
			}
			return nil
		case strings.HasPrefix(name, "postmaster.") || !entry.Type().IsRegular():
			return nil
		}
		return c.copyFile(path, filepath.Join(c.Dir, name))
	}))
}

func (c Cluster) make(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return os.Chown(dir, int(c.uid), int(c.gid))
}

func (c Cluster) copyFile(from, to string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chown(int(c.uid), int(c.gid)), out.Close())
}

// write writes a file, or adds to it.
func (c Cluster) write(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(c.Dir, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	_, err = file.WriteString(text)
	require.NoError(t, errors.Join(err, file.Chown(int(c.uid), int(c.gid)), file.Close()))
}
