package rig

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// RanFor is how long the threads of a process have run, in nanoseconds and not
// in the ticks of /proc/<pid>/stat: a burst takes but ten of those. Linux only. A thread's
// time goes with it, so it is right for programs that end no threads, as Go's.
// (Linux, Documentation/scheduler/sched-stats.rst: /proc/<pid>/schedstat.)
func RanFor(pid int) (total time.Duration, err error) {
	names, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "schedstat"))
	if err != nil {
		return 0, err
	}
	if len(names) == 0 {
		return 0, fmt.Errorf("process %d has no threads", pid)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return 0, err
		}
		own, _, _ := bytes.Cut(text, []byte(" "))
		n, err := strconv.ParseInt(string(own), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		total += time.Duration(n)
	}
	return total, nil
}
