package wal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// The standbys of these tests are made with what npm's package of the server
// has too, which is initdb, pg_ctl and postgres, and no client program.

// cluster is a data directory, and whoever owns it: Postgres refuses to run as
// root.
type cluster struct {
	dir      string
	bin      string // folder of the programs that run it
	uid, gid uint32
}

// clusterOf finds a running server's.
func clusterOf(t *testing.T, url string) cluster {
	t.Helper()
	var c cluster
	require.NoError(t, testkit.Conn(t, url).QueryRow(testkit.Context(t), `select current_setting('data_directory')`).Scan(&c.dir))
	info, err := os.Stat(c.dir)
	require.NoError(t, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	c.uid, c.gid = stat.Uid, stat.Gid
	options, err := os.ReadFile(filepath.Join(c.dir, "postmaster.opts"))
	require.NoError(t, err)
	program, _, _ := strings.Cut(string(options), ` "`)
	c.bin = filepath.Dir(program)
	return c
}

// ctl runs pg_ctl on the cluster, as its owner.
func (c cluster) ctl(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also in a cleanup
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "pg_ctl"), append(args, "--pgdata", c.dir)...)
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.gid}}
	}
	out, err := cmd.CombinedOutput()
	require.NoErrorf(t, err, "pg_ctl %v: %s", args, out)
}

// standby makes a streaming standby of a server, in home, where its socket is
// too; it is not started. The manual calls it a low-level base backup.
func (c cluster) standby(t *testing.T, primary, home string) cluster {
	t.Helper()
	require.NoError(t, os.Chown(home, int(c.uid), int(c.gid)))
	s := c
	s.dir = filepath.Join(home, "data")
	conn, ctx := testkit.Conn(t, primary), testkit.Context(t)
	_, err := conn.Exec(ctx, `select pg_backup_start('standby', fast => true)`)
	require.NoError(t, err)
	s.copyFrom(t, c.dir)
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
func (c cluster) copyFrom(t *testing.T, from string) {
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
			if err := c.make(filepath.Join(c.dir, name)); err != nil {
				return err
			}
			if empty[name] {
				return fs.SkipDir
			}
			return nil
		case strings.HasPrefix(name, "postmaster.") || !entry.Type().IsRegular():
			return nil
		}
		return c.copyFile(path, filepath.Join(c.dir, name))
	}))
}

func (c cluster) make(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return os.Chown(dir, int(c.uid), int(c.gid))
}

func (c cluster) copyFile(from, to string) error {
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
func (c cluster) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	_, err = file.WriteString(text)
	require.NoError(t, errors.Join(err, file.Chown(int(c.uid), int(c.gid)), file.Close()))
}

// receiver is receiveWAL's application_name, and its slot.
const receiver = "receiver"

// receiveWAL is a physical standby that keeps nothing and confirms everything at
// once, as `pg_receivewal --synchronous` does.
func receiveWAL(t *testing.T, url string) (stop func()) {
	t.Helper()
	url = testkit.WithParam(t, testkit.WithParam(t, url, "replication", "true"), "application_name", receiver)
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgconn.Connect(ctx, url)
	require.NoError(t, err)
	system, err := pglogrepl.IdentifySystem(ctx, conn)
	require.NoError(t, err)
	_, err = pglogrepl.CreateReplicationSlot(ctx, conn, receiver, "", pglogrepl.CreateReplicationSlotOptions{Temporary: true, Mode: pglogrepl.PhysicalReplication})
	require.NoError(t, err)
	require.NoError(t, pglogrepl.StartReplication(ctx, conn, receiver, system.XLogPos,
		pglogrepl.StartReplicationOptions{Timeline: system.Timeline, Mode: pglogrepl.PhysicalReplication}))
	done := make(chan error, 1)
	go func() { done <- confirm(ctx, conn, system.XLogPos) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("receive WAL: %v", err)
		}
	}
	t.Cleanup(stop)
	look := testkit.Conn(t, testkit.WithParam(t, url, "replication", "false"))
	require.Eventually(t, func() bool {
		var n int
		err := look.QueryRow(testkit.Context(t), `select count(*) from pg_stat_replication where application_name = $1 and state = 'streaming'`, receiver).Scan(&n)
		return err == nil && n == 1
	}, 10*time.Second, 10*time.Millisecond)
	return stop
}

// confirm confirms what comes until ctx ends; it closes the connection.
func confirm(ctx context.Context, conn *pgconn.PgConn, position pglogrepl.LSN) error {
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the server may be gone
	}()
	for {
		msg, err := receiveWithin(ctx, conn, time.Second)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case pgconn.Timeout(err): // who becomes the synchronous standby only now is asked for an answer by nobody
		case err != nil:
			return err
		}
		if data, ok := msg.(*pgproto3.CopyData); ok && data.Data[0] == pglogrepl.XLogDataByteID {
			wal, err := pglogrepl.ParseXLogData(data.Data[1:])
			if err != nil {
				return err
			}
			position = wal.WALStart + pglogrepl.LSN(len(wal.WALData))
		}
		if err := pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: position}); err != nil {
			return err
		}
	}
}

func receiveWithin(ctx context.Context, conn *pgconn.PgConn, d time.Duration) (pgproto3.BackendMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return conn.ReceiveMessage(ctx)
}
