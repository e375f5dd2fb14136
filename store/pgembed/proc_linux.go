package pgembed

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// isPostmaster reports whether the process is a PostgreSQL that runs this cluster: a server's
// working directory is its data directory. A zombie has none, and another user's process doesn't
// tell; neither is a server of ours.
func isPostmaster(pid int, cluster string) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	dir, err := os.Readlink(filepath.Join(proc, "cwd"))
	if err != nil || dir != cluster {
		return false
	}
	comm, err := os.ReadFile(filepath.Join(proc, "comm"))
	return err == nil && strings.HasPrefix(string(comm), "postgres")
}

// orphans lists the processes that are at home in the cluster: when its postmaster is gone,
// backends that are too busy to notice.
func orphans(cluster string) []int {
	return processes(func(pid int, _ int) bool { return isPostmaster(pid, cluster) })
}

// children lists the processes whose parent is pid.
func children(pid int) []int {
	return processes(func(_ int, parent int) bool { return parent == pid })
}

func processes(match func(pid, parent int) bool) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	var found []int
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // ended meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		// "pid (comm) state ppid …", and comm may hold blanks and parentheses.
		var state string
		var parent int
		rest := string(text[bytes.LastIndexByte(text, ')')+1:])
		if _, err := fmt.Sscan(rest, &state, &parent); err == nil && match(pid, parent) {
			found = append(found, pid)
		}
	}
	return found
}

// dieWithParent has the kernel send a signal when the thread that starts the process ends. So that
// thread must be locked until the process has ended.
func dieWithParent(attr *syscall.SysProcAttr, signal syscall.Signal) { attr.Pdeathsig = signal }

// enlarge gives a pipe room for a burst of lines: 1 MiB, which anybody may have.
func enlarge(pipe *os.File) {
	const setPipeSize = 1031                                                    // F_SETPIPE_SZ, fcntl(2)
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, pipe.Fd(), setPipeSize, 1<<20) // else it has 64 KiB
}
