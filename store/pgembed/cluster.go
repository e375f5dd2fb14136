package pgembed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// VersionError says that a data directory was made by a major version that isn't at hand.
type VersionError struct {
	Cluster string         // PostgreSQL's data directory
	Major   int            // the version that made it
	Found   []Installation // what there is to run
}

func (e *VersionError) Error() string {
	var found []string
	for _, in := range e.Found {
		found = append(found, in.String())
	}
	return fmt.Sprintf(`the data in %s was made by PostgreSQL %d, and another major version can't open it (found: %s)
Do one of:
  - install PostgreSQL %d, or name its folder with --postgres-bin DIR
  - move the data over: pg_dumpall with PostgreSQL %d, or pg_upgrade
  - start afresh: move the folder away, or choose another one with --data-dir`,
		e.Cluster, e.Major, strings.Join(found, "; "), e.Major, e.Major)
}

// clusterMajor is the major version that made the cluster; 0: there is none yet.
func (s *site) clusterMajor() (int, error) {
	name := filepath.Join(s.cluster, "PG_VERSION")
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s holds %q", name, text)
	}
	return major, nil
}

// create makes the cluster unless it is there: an empty one, or a copy of a primary's. It is built beside its place and moved in when it is
// whole: a start that was cut off leaves nothing that looks like data.
func (s *site) create(ctx context.Context, in Installation, primary *Server) error {
	if major, err := s.clusterMajor(); err != nil || major != 0 {
		return err
	}
	if entries, err := os.ReadDir(s.cluster); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s holds something that isn't a PostgreSQL data directory; move it away", s.cluster)
	}
	parts, _ := filepath.Glob(s.cluster + ".part-*") // the pattern is well-formed
	for _, old := range parts {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	part, err := os.MkdirTemp(s.home, filepath.Base(s.cluster)+".part-") // mode 0700
	if err != nil {
		return err
	}
	if primary == nil {
		err = s.initdb(ctx, in, part)
	} else {
		err = s.copyOfPrimary(ctx, primary.site, part)
	}
	if err != nil {
		return err
	}
	return os.Rename(part, s.cluster)
}

// initdb makes an empty cluster.
func (s *site) initdb(ctx context.Context, in Installation, part string) error {
	if err := s.as.own(part); err != nil {
		return err
	}
	// The locale C is the same on every system, and sorts as Freshet's own code does.
	cmd := exec.CommandContext(ctx, filepath.Join(in.BinDir, "initdb"), "--pgdata", part, "--username", superuser,
		"--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-instructions")
	s.as.apply(cmd)
	cmd.WaitDelay = 5 * time.Second
	if out, err := runTied(cmd); err != nil {
		hint := ""
		if bytes.Contains(out, []byte("could not look up effective user ID")) {
			hint = "\nPostgreSQL wants its user to have a name: give this user id a line in /etc/passwd"
		}
		return fmt.Errorf("initdb: %w\n%s%s", err, bytes.TrimSpace(out), hint)
	}
	return nil
}

// runTied runs a command that dies with this process where the system has that; see spawn for the
// thread.
func runTied(cmd *exec.Cmd) ([]byte, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dieWithParent(cmd.SysProcAttr, syscall.SIGKILL)
	return cmd.CombinedOutput()
}

// configFile is what PostgreSQL reads: the cluster's own postgresql.conf, then our settings, then
// (PostgreSQL does that by itself) those of ALTER SYSTEM.
const configFile = "freshet.conf"

// configure writes what this program decides: settings, and that whoever is through the door is
// trusted. There is no line for TCP: also with a listener nobody could come in that way.
func (s *site) configure(c Config) error {
	const hba = "# Written by freshet at each start. The socket's folder (mode 0700) is the door.\n" +
		"local all all trust\nlocal replication all trust\n"
	for name, text := range map[string][]byte{configFile: c.settingsFile(), hbaFile: []byte(hba)} {
		if err := s.write(filepath.Join(s.cluster, name), text); err != nil {
			return err
		}
	}
	return nil
}

// write replaces a file of the cluster. The folder is the account's, so root goes by descriptor and
// never through a link that may have been put there.
func (s *site) write(path string, text []byte) error {
	part := path + ".part"
	if err := remove(part); err != nil {
		return err
	}
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if s.as != nil {
		err = errors.Join(err, f.Chown(s.as.uid, s.as.gid))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(part, path)
}
