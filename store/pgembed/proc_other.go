//go:build unix && !linux

package pgembed

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// isPostmaster reports whether the process is a PostgreSQL that runs this cluster, going by its
// command line, which spawn wrote. A zombie's is empty or in parentheses.
func isPostmaster(pid int, cluster string) bool {
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), "postgres -D "+cluster+" ")
}

// children lists the processes whose parent is pid.
func children(pid int) []int {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil
	}
	var found []int
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var child, parent int
		if _, err := fmt.Sscan(lines.Text(), &child, &parent); err == nil && parent == pid {
			found = append(found, child)
		}
	}
	return found
}

// dieWithParent has no counterpart here: the next start stops what was left running.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// orphans can't be told from other servers' backends here: they are waited for.
func orphans(string) []int { return nil }

// enlarge has no counterpart here.
func enlarge(*os.File) {}
