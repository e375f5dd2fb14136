package pgembed

import (
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// nobody runs PostgreSQL for root where the system has no user named postgres, and by that name none
// either.
const nobody = 65534

// account is the user that PostgreSQL runs as when that isn't the program's own; nil is the
// program's own.
type account struct{ uid, gid int }

// accountFor decides who runs the cluster: nil unless the program is root. A cluster that exists
// keeps its owner, so that installing a system package, which creates the user postgres, doesn't
// lock anybody out of their data.
func accountFor(cluster string) *account {
	if os.Geteuid() != 0 {
		return nil
	}
	if info, err := os.Stat(cluster); err == nil {
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 {
			return &account{int(owner.Uid), int(owner.Gid)}
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue // no such user, or no list of users at all
		}
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if errUID == nil && errGID == nil && uid != 0 {
			return &account{uid, gid}
		}
	}
	return &account{nobody, nobody}
}

// apply makes a command run as the account, in a clean environment and in a folder that everyone
// may enter: initdb and postgres fail where they can't read the working directory.
func (a *account) apply(cmd *exec.Cmd) {
	cmd.Dir = "/"
	cmd.Env = environment()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// A group of its own: the terminal's Ctrl-C goes to the program alone, which stops the server
	// when it has finished with it.
	cmd.SysProcAttr.Setpgid = true
	if a != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: []uint32{}}
	}
}

// own gives a folder to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// environment is what the server's processes see of ours: nothing that configures PostgreSQL, and
// no secrets. The locale is C, since a locale that isn't installed is an error on some systems.
func environment() []string {
	env := []string{"LC_ALL=C", "LANG=C"}
	for _, name := range []string{"PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// closeOnExec keeps descriptors that this process inherited from going on to its children. Go opens
// its own this way already; but a shell's `flock 9` or a supervisor's pipe would be held
// for as long as the server lives.
func closeOnExec() {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil { // a bare chroot
		for fd := 3; fd < 1024; fd++ {
			syscall.CloseOnExec(fd)
		}
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd) // closed meanwhile: nothing to do
		}
	}
}

// makeDir creates a folder (and its parents) and gives it exactly this mode, whatever the umask.
func makeDir(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
