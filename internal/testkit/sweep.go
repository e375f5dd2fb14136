package testkit

import (
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const dirPattern = "freshet-test-"

// hold marks a folder as in use for as long as the file that it returns is open, which ends with
// the process at the latest.
func hold(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "in-use"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// sweep removes what test binaries left that were killed, or panicked. Young folders stay: they may
// not be marked yet, or their server may still be stopping.
func sweep(temp string, age time.Duration) {
	dirs, _ := filepath.Glob(filepath.Join(temp, dirPattern+"*")) // the pattern is well-formed
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < age {
			continue
		}
		f, err := hold(dir)
		if err != nil {
			continue // in use, or another user's
		}
		_ = os.RemoveAll(dir) // what can't go now goes another time
		_ = f.Close()
	}
}
