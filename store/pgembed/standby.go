package pgembed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// StartStandby runs a streaming standby of a private server that runs: a copy of it as it is now, which
// follows it and answers reads. It is as Start otherwise, with these differences: Settings are the
// primary's, with c's over them; binaries are of its major version; and what an earlier standby left in
// the data directory is replaced. A directory that holds anything else, such as one that was promoted, is
// refused.
//
// A standby that was away for longer than the primary keeps WAL for can't go on: give the primary the
// setting wal_keep_size. Stop it before the primary.
func StartStandby(ctx context.Context, c Config, primary *Server) (*Server, error) {
	c.primary = primary
	all := map[string]string{}
	maps.Copy(all, primary.config.Settings)
	maps.Copy(all, c.Settings)
	all["primary_conninfo"] = fmt.Sprintf("host='%s' port=%s user=%s", primary.site.socketDir, socketPort, superuser)
	c.Settings = all
	major, _, _ := strings.Cut(primary.Version(), ".")
	var err error
	if c.Major, err = strconv.Atoi(major); err != nil {
		return nil, fmt.Errorf("private PostgreSQL: version %q: %w", primary.Version(), err)
	}
	if c.Binaries == "" {
		c.Binaries, c.NPMDir = primary.config.Binaries, primary.config.NPMDir
	}
	return Start(ctx, c)
}

// standbyMark is the file by which PostgreSQL knows a standby.
const standbyMark = "standby.signal"

// clearStandby removes what an earlier standby left.
func (s *site) clearStandby(ctx context.Context, log *slog.Logger) error {
	major, err := s.clusterMajor()
	if err != nil || major == 0 {
		return err // create says what is in the way
	}
	if _, err := os.Lstat(filepath.Join(s.cluster, standbyMark)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is no standby's, or was promoted; move it away, or choose another data directory", s.cluster)
	} else if err != nil {
		return err
	}
	return errors.Join(s.clearLeftover(ctx, log), os.RemoveAll(s.cluster))
}

// notCopied is what a base backup leaves empty: WAL, slots, and what a server keeps for as long as it runs.
var notCopied = map[string]bool{
	"pg_wal": true, "pg_replslot": true, "pg_dynshmem": true, "pg_notify": true, "pg_serial": true,
	"pg_snapshots": true, "pg_stat_tmp": true, "pg_subtrans": true,
}

// copyOfPrimary fills a folder with a standby's data directory. The manual calls it a low-level base
// backup: npm's package of the server has no program that makes one.
func (s *site) copyOfPrimary(ctx context.Context, primary *site, part string) (err error) {
	conn, err := pgx.Connect(ctx, primary.url("postgres"))
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, conn.Close(closing)) // ends a backup that has begun, too
	}()
	if _, err := conn.Exec(ctx, "select pg_backup_start('standby', fast => true)"); err != nil {
		return err
	}
	if err := s.copyTree(ctx, primary.cluster, part); err != nil {
		return fmt.Errorf("copy %s: %w", primary.cluster, err)
	}
	var label string
	if err := conn.QueryRow(ctx, "select labelfile from pg_backup_stop(wait_for_archive => false)").Scan(&label); err != nil {
		return err
	}
	for name, text := range map[string]string{"backup_label": label, standbyMark: ""} {
		if err := s.write(filepath.Join(part, name), []byte(text)); err != nil {
			return err
		}
	}
	return s.as.own(part) // last: until now root worked in it by itself
}

// copyTree copies the data directory of a server that runs. The folder belongs to the account, so root
// follows no link in it.
func (s *site) copyTree(ctx context.Context, from, to string) error {
	source, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // it was only read
	return fs.WalkDir(source.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			return nil // a temporary file: the server runs
		case err != nil:
			return err
		case name == ".":
			return nil
		case entry.IsDir():
			dir := filepath.Join(to, name)
			if err := errors.Join(os.Mkdir(dir, 0o700), s.as.own(dir)); err != nil {
				return err
			}
			if notCopied[name] {
				return fs.SkipDir
			}
			return nil
		case strings.HasPrefix(name, "postmaster.") || !entry.Type().IsRegular():
			return nil
		}
		return s.copyFile(source, name, filepath.Join(to, name))
	})
}

func (s *site) copyFile(source *os.Root, name, to string) error {
	in, err := source.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), s.as.own(to))
}
