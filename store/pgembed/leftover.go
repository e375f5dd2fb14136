package pgembed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clearLeftover deals with a postmaster.pid that an earlier run left behind. We hold the site's
// lock, so no living program looks after it.
//
//   - Its process is gone: PostgreSQL removes the file itself.
//   - Its process is another program by now: PostgreSQL would refuse to start, so the file goes. (Should
//     backends of the old server still be about, their shared memory, found by the data
//     directory's inode, still keeps a second server out.)
//   - Its process is a server that outlived its program: it is stopped in order, and at once if that doesn't
//     happen in time.
func (s *site) clearLeftover(ctx context.Context, log *slog.Logger) error {
	name := filepath.Join(s.cluster, "postmaster.pid")
	pid, err := readPID(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	switch {
	case err != nil: // half written, when the machine stopped
		log.LogAttrs(ctx, slog.LevelWarn, "removing an unreadable postmaster.pid", slog.String("file", name), slog.Any("error", err))
		return remove(name)
	case isPostmaster(pid, s.cluster):
		log.LogAttrs(ctx, slog.LevelWarn, "stopping the PostgreSQL that an earlier run left running", slog.Int("pid", pid))
		return s.stopLeftover(ctx, pid)
	case syscall.Kill(pid, 0) == nil || pid == os.Getpid():
		log.LogAttrs(ctx, slog.LevelInfo, "removing a stale postmaster.pid; its process is another program now",
			slog.String("file", name), slog.Int("pid", pid))
		return remove(name)
	}
	return nil
}

func readPID(name string) (int, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("%q is not a process id", first)
	}
	return pid, nil
}

// postmasterReady reads what the postmaster says of itself, as pg_ctl does: the process in the
// first line, its state in the eighth (src/include/utils/pidfile.h). Knocking instead would fill
// the log with refusals.
func (s *site) postmasterReady(pid int) bool {
	text, err := os.ReadFile(filepath.Join(s.cluster, "postmaster.pid"))
	lines := strings.Split(string(text), "\n")
	return err == nil && len(lines) >= 8 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
}

// stopLeftover asks with more and more force. The process isn't our child, so its end can only be
// polled.
func (s *site) stopLeftover(ctx context.Context, pid int) error {
	steps := []struct {
		signal syscall.Signal
		wait   time.Duration
	}{
		{syscall.SIGINT, 20 * time.Second}, // fast: sessions are ended, a checkpoint written
		{syscall.SIGQUIT, 10 * time.Second},
		{syscall.SIGKILL, 5 * time.Second},
	}
	for _, step := range steps {
		if err := syscall.Kill(pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the PostgreSQL that an earlier run left running (process %d): %w", pid, err)
		}
		deadline := time.NewTimer(step.wait)
		defer deadline.Stop()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for waiting := true; waiting; {
			if !isPostmaster(pid, s.cluster) {
				return nil
			}
			select {
			case <-tick.C:
			case <-deadline.C:
				waiting = false
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return fmt.Errorf("the PostgreSQL that an earlier run left running (process %d) doesn't stop", pid)
}
