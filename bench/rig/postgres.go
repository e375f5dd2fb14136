package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is a private one that belongs to no server: it runs with a server in
// front of it, and without.
type Postgres struct {
	URL     string
	PID     int
	Version string // of the program that made it

	Admin *pgx.Conn // of its own superuser

	stop func() error
}

// Stop ends it, and removes its data.
func (p *Postgres) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(p.Admin.Close(ctx), p.stop())
}

// TearDown drops slot and publication, as `freshet teardown` does: a slot keeps WAL
// also when nobody reads from it.
func (p *Postgres) TearDown(ctx context.Context) error {
	// A server that has ended may have a walsender that is still about to.
	for _, statement := range []string{
		"select pg_terminate_backend(active_pid, 10000) from pg_replication_slots where active",
		"select pg_drop_replication_slot(slot_name) from pg_replication_slots",
		"drop publication if exists freshet",
	} {
		if _, err := p.Admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("take down slot and publication: %w", err)
		}
	}
	return nil
}

// StartPostgres has `freshet serve` make a private Postgres with the schema in
// it, as it does for users; ends the server, and its Postgres with it; and runs
// the same Postgres again, by the same command.
func StartPostgres(ctx context.Context, binary string) (_ *Postgres, err error) {
	dir, err := os.MkdirTemp("", "freshet-bench-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeData(dir))
		}
	}()
	s, err := start(ctx, binary, "", dir)
	if err != nil {
		return nil, err
	}
	if err := s.Stop(); err != nil {
		return nil, err
	}
	cluster, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return nil, err
	}
	cmd, err := again(cluster)
	if err != nil {
		return nil, err
	}
	log := &bytes.Buffer{} // read it after ended
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Postgres again: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // what it says counts, in its log
	}()
	stop := func() error {
		_ = cmd.Process.Signal(syscall.SIGINT) // a fast shutdown; gone already: ended tells
		select {
		case <-ended:
			return nil
		case <-time.After(time.Minute):
			err := errors.Join(errors.New("Postgres doesn't stop; cut off"), cmd.Process.Signal(syscall.SIGQUIT)) //nolint:staticcheck // a name
			<-ended                                                                                               // it kills what is left after five seconds
			return err
		}
	}
	if err := accepts(ctx, s.DatabaseURL, ended); err != nil {
		return nil, fmt.Errorf("%w; Postgres said:\n%s", errors.Join(err, stop()), log)
	}
	admin, err := pgx.Connect(ctx, s.DatabaseURL)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &Postgres{
		URL: s.DatabaseURL, PID: cmd.Process.Pid, Version: s.Version, Admin: admin,
		stop: func() error { return errors.Join(stop(), removeData(dir)) },
	}, nil
}

// again is the command that ran a cluster last, for the user whose it is.
func again(cluster string) (*exec.Cmd, error) {
	text, err := os.ReadFile(filepath.Join(cluster, "postmaster.opts"))
	if err != nil {
		return nil, err
	}
	words := parseOptions(string(text))
	cmd := exec.Command(words[0], words[1:]...) //nolint:noctx // stopped in order, by signal
	// Postgres wants a working directory that its user can read, and no locale
	// that isn't installed. A group of its own: Ctrl-C is for us.
	cmd.Dir, cmd.Env = "/", append(environment(), "LC_ALL=C", "LANG=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	info, err := os.Stat(cluster)
	if err != nil {
		return nil, err
	}
	// It refuses to run as root, who has given the cluster to somebody else.
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid, Groups: []uint32{}}
	}
	return cmd, nil
}

// parseOptions reads a postmaster.opts: the program, then each argument in
// quotes, with nothing escaped (CreateOptsFile in PostgreSQL's postmaster.c).
func parseOptions(text string) []string {
	words := strings.Split(strings.TrimSuffix(text, "\n"), ` "`)
	for i := range words[1:] {
		words[i+1] = strings.TrimSuffix(words[i+1], `"`)
	}
	return words
}

// accepts waits until the database can be connected to.
func accepts(ctx context.Context, databaseURL string, ended <-chan struct{}) error {
	starting, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("Postgres isn't ready after a minute")) //nolint:staticcheck // a name
	defer cancel()
	for {
		conn, err := pgx.Connect(starting, databaseURL)
		if err == nil {
			return conn.Close(starting)
		}
		select {
		case <-ended:
			return errors.New("Postgres ended") //nolint:staticcheck // a name
		case <-starting.Done():
			return errors.Join(context.Cause(starting), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
