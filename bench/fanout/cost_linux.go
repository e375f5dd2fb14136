package fanout

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of /proc's times: USER_HZ, 100 a second (proc(5), times(7)).
const tick = 10 * time.Millisecond

// Cost is what a process and its children have used so far.
type Cost struct {
	CPU    time.Duration
	Memory int64 // resident bytes; what processes share counts once
}

// CostOf reads the cost of a process and its children.
func CostOf(pid int) (total Cost, err error) {
	pids, err := tree(pid)
	if err != nil {
		return total, err
	}
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			return total, err
		}
		cpu, _, err := parseStat(stat)
		if err != nil {
			return total, err
		}
		rollup, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
		if err != nil {
			return total, err
		}
		memory, err := parseRollup(rollup)
		if err != nil {
			return total, err
		}
		total.CPU += cpu
		total.Memory += memory
	}
	return total, nil
}

// tree is a process and its children; nobody measured here has grandchildren.
func tree(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	pids := []int{pid}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended meanwhile
		}
		if _, parent, err := parseStat(text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		} else if parent != pid {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, child)
	}
	return pids, nil
}

var errForm = errors.New("unknown form")

// parseStat reads a /proc/<pid>/stat; its second field is a name that may hold
// anything, up to the last parenthesis.
func parseStat(text []byte) (cpu time.Duration, parent int, err error) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, 0, errForm
	}
	var n [3]int
	for i, field := range []int{1, 11, 12} { // ppid, utime, stime: 4, 14, 15 in proc(5)
		if n[i], err = strconv.Atoi(string(fields[field])); err != nil {
			return 0, 0, fmt.Errorf("%w: %w", errForm, err)
		}
	}
	return time.Duration(n[1]+n[2]) * tick, n[0], nil
}

// parseRollup reads the proportional set size of a /proc/<pid>/smaps_rollup.
func parseRollup(text []byte) (memory int64, err error) {
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) == 3 && string(fields[0]) == "Pss:" {
			kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errForm
}
