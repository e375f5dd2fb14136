package pgembed

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	socketPort = "5432" // names the socket file; there is no TCP port
	socketName = ".s.PGSQL." + socketPort
	// maxSocketPath is the shortest sun_path among our systems (macOS: 104 with the final NUL).
	maxSocketPath = 103
	superuser     = "postgres"
	hbaFile       = "freshet_hba.conf"
)

// site is where one private server lives, and who owns it. It holds the lock.
type site struct {
	home      string   // the folder of everything below; lock, and root's copy of the binaries
	cluster   string   // PostgreSQL's data directory
	socketDir string   // mode 0700
	as        *account // who runs it
	lock      *os.File
}

// openSite resolves and creates the folders and takes the lock; close gives it back.
func openSite(c Config) (_ *site, err error) {
	if err := makeDataDir(c.DataDir); err != nil {
		return nil, err
	}
	dataDir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return nil, err
	}
	if dataDir, err = filepath.EvalSymlinks(dataDir); err != nil { // one name, so one hash
		return nil, err
	}
	s := &site{home: dataDir}
	seen := filepath.Join(dataDir, "postgres")
	if os.Geteuid() == 0 {
		if s.home, err = rootHome(c, dataDir, seen); err != nil {
			return nil, err
		}
	} else if link, err := os.Readlink(seen); err == nil {
		return nil, fmt.Errorf("%s is a link to %s: root started this private server; go on as root, or choose another data directory", seen, link)
	}
	s.cluster = filepath.Join(s.home, "postgres")
	s.as = accountFor(s.cluster)
	if c.primary != nil {
		s.as = c.primary.site.as // whose socket nobody else can come to
	}
	if err := s.takeLock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.home != dataDir {
		// For the user who wonders where the data is.
		if link, _ := os.Readlink(seen); link != s.cluster {
			if err := errors.Join(remove(seen), os.Symlink(s.cluster, seen)); err != nil {
				return nil, err
			}
		}
	}
	if s.socketDir, err = s.makeSocketDir(); err != nil {
		return nil, err
	}
	return s, nil
}

func makeDataDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err // there already, with a mode of its owner's choice
	}
	return makeDir(dir, 0o700)
}

// rootHome is the folder under RootDir for a data directory.
func rootHome(c Config, dataDir, seen string) (string, error) {
	if info, err := os.Lstat(seen); err == nil && info.IsDir() {
		return "", fmt.Errorf("%s belongs to the user with id %d: run freshet as that user, not as root, or choose another data directory",
			seen, info.Sys().(*syscall.Stat_t).Uid)
	}
	root := c.RootDir
	if root == "" {
		root = DefaultRootDir
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(dataDir))
	home := filepath.Join(root, hex.EncodeToString(sum[:8]))
	for _, dir := range []string{root, home} {
		if err := os.MkdirAll(dir, 0o711); err != nil { // the account passes through
			return "", err
		}
		info, err := os.Lstat(dir)
		if err != nil {
			return "", err
		}
		// Root works in here with names that it expects to be its own.
		if owner := info.Sys().(*syscall.Stat_t).Uid; !info.IsDir() || owner != 0 || info.Mode().Perm()&0o022 != 0 {
			return "", fmt.Errorf("%s must be a folder that only root can write to (owner %d, mode %v)", dir, owner, info.Mode())
		}
		if err := os.Chmod(dir, info.Mode().Perm()|0o111); err != nil { // others may pass through
			return "", err
		}
	}
	return home, nil
}

// takeLock makes this the only program on the site. The kernel drops the lock with the process,
// however that ends; the process id in the file is for the message only.
func (s *site) takeLock() error {
	name := filepath.Join(s.home, "lock")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", name, err)
		}
		holder, _ := os.ReadFile(name)
		there := *s
		there.socketDir, _ = s.socketPath()
		return &InUseError{Process: strings.TrimSpace(string(holder)), site: &there}
	}
	s.lock = f
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// makeSocketDir makes the door: a folder that only the account can enter. It is beside the cluster,
// or, where the path would be too long for a socket, in /tmp.
func (s *site) makeSocketDir() (string, error) {
	dir, shared := s.socketPath()
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		err = nil
		if shared { // then anybody could have made it first
			err = s.checkOwner(dir)
		}
	}
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.Chmod(dir, 0o700), s.as.own(dir)); err != nil {
		return "", err
	}
	return dir, nil
}

// socketPath is where the door is, and whether others may make folders there.
func (s *site) socketPath() (dir string, shared bool) {
	dir = filepath.Join(s.home, "socket")
	if len(filepath.Join(dir, socketName)) <= maxSocketPath {
		return dir, false
	}
	sum := sha256.Sum256([]byte(s.home))
	return filepath.Join("/tmp", fmt.Sprintf("freshet-%d-%s", os.Geteuid(), hex.EncodeToString(sum[:8]))), true
}

// checkOwner refuses what isn't a folder of ours. (Nobody else can replace one in /tmp, which is
// sticky.)
func (s *site) checkOwner(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if !info.IsDir() || owner != os.Geteuid() && (s.as == nil || owner != s.as.uid) {
		return fmt.Errorf("%s is in the way: it isn't a folder of ours (owner %d); remove it", dir, owner)
	}
	return nil
}

// clearSockets removes what earlier runs left. A socket's lock file names a process, and that id
// may be another program's by now, which PostgreSQL would take for a server. Nobody else uses the
// folder while we hold the lock, except a server that outlived its program; clearLeftover has ended
// that.
func (s *site) clearSockets() error {
	return errors.Join(remove(filepath.Join(s.socketDir, socketName)), remove(filepath.Join(s.socketDir, socketName+".lock")))
}

func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// close gives the lock back. A socket folder in /tmp goes too, once the server has left it.
func (s *site) close() {
	if s.socketDir != "" && !strings.HasPrefix(s.socketDir, s.home) {
		_ = os.Remove(s.socketDir) // not empty: a server that wouldn't stop
	}
	if s.lock != nil {
		// Said, not left to Close: a child that is just being forked has the
		// descriptor too, until its exec, and would hold the lock that long.
		_ = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN)
		_ = s.lock.Close()
		s.lock = nil
	}
}

// url is the connection string of one database; the form is understood by pgx and by psql. It says
// everything, so that PGPORT and its like in the environment don't matter.
func (s *site) url(database string) string {
	if database == "" {
		database = DefaultDatabase
	}
	query := url.Values{"host": {s.socketDir}, "port": {socketPort}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}
