// Package scratch has folders for what a process needs while it runs. Whoever makes one
// removes it; what a process leaves that was killed goes when the next folder of its kind
// is made.
package scratch

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// mark is a file in a folder, which is locked for as long as its owner lives: the kernel
// drops the lock with the process, however that ends.
const mark = "in-use"

// Dir is a folder that is in use until it is removed.
type Dir struct {
	Path string
	lock *os.File
}

// New makes a folder whose name begins with prefix, and removes those of the same prefix
// that nobody uses. Those younger than age stay: they may not be locked yet, or what
// their owner has started may still be stopping.
func New(prefix string, age time.Duration) (*Dir, error) {
	sweep(prefix, age)
	path, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, err
	}
	d := &Dir{Path: path}
	d.lock, err = lock(path, os.O_CREATE)
	if err == nil {
		// For root: Postgres' own user passes through here.
		err = os.Chmod(path, 0o711) //nolint:gosec // nothing but names can be found out
	}
	if err != nil {
		return nil, errors.Join(err, d.Remove())
	}
	return d, nil
}

// Remove removes the folder with all that is in it. It may be called again, and on nil.
func (d *Dir) Remove() error {
	if d == nil {
		return nil
	}
	err := os.RemoveAll(d.Path)
	_ = d.lock.Close() // nothing was written to it
	return err
}

func lock(dir string, create int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, mark), os.O_RDWR|syscall.O_NOFOLLOW|create, 0o600) //nolint:gosec // a folder of ours
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func sweep(prefix string, age time.Duration) {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*")) // the pattern is well-formed
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < age {
			continue
		}
		f, err := lock(dir, 0)
		if err != nil {
			continue // in use, another user's, or none that was made here
		}
		_ = os.RemoveAll(dir) // what can't go now goes another time
		_ = f.Close()
	}
}
