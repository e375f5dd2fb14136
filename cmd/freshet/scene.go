package main

import (
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// sceneMark is a file in a scene, which is locked for as long as its owner lives: the
// kernel drops the lock with the process, however that ends.
const sceneMark = "in-use"

// newScene makes a folder for what is to be removed afterwards, and removes those of the
// same prefix whose owner was killed before it could.
func newScene(prefix string) (string, error) {
	sweepScenes(prefix)
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return "", err
	}
	fd, err := syscall.Open(filepath.Join(dir, sceneMark), syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return "", err
	}
	// It stays open until the process ends.
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return "", err
	}
	// For root: Postgres' own user passes through here.
	return dir, os.Chmod(dir, 0o711) //nolint:gosec // nothing but names can be found out
}

// sweepScenes removes scenes that nobody holds. Young ones stay: they may not be locked yet.
func sweepScenes(prefix string) {
	marks, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*", sceneMark)) // the pattern is well-formed
	for _, mark := range marks {
		info, err := os.Lstat(mark)
		if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < 10*time.Second {
			continue
		}
		f, err := os.OpenFile(mark, os.O_RDWR|syscall.O_NOFOLLOW, 0) //nolint:gosec // of a folder of ours
		if err != nil {
			continue // another user's
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(mark)) // what can't go now goes another time
		}
		_ = f.Close()
	}
}
