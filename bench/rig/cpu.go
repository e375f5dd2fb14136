package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of /proc's times: USER_HZ, 100 a second on every Linux that
// Go runs on (proc(5), times(7)).
const tick = 10 * time.Millisecond

// process is what proc(5) says of one: its parent, and the CPU time it has
// used, and that its children which have ended had.
type process struct {
	parent        int
	own, children time.Duration
}

var errStat = errors.New("unknown form of /proc/<pid>/stat")

// parseStat reads a /proc/<pid>/stat. Its second field is a name in
// parentheses that may hold spaces and parentheses; the last one ends it.
func parseStat(text []byte) (process, error) {
	_, rest, ok := bytes.Cut(text[max(0, bytes.LastIndexByte(text, ')')):], []byte(") "))
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 15 {
		return process{}, errStat
	}
	var n [15]int
	for i := 1; i < len(n); i++ { // field 0 is the state, a letter
		var err error
		if n[i], err = strconv.Atoi(string(fields[i])); err != nil {
			return process{}, fmt.Errorf("%w: %w", errStat, err)
		}
	}
	// Counted from 1 as in proc(5): ppid is 4, utime 14, stime 15, cutime 16, cstime 17.
	return process{
		parent:   n[1],
		own:      time.Duration(n[11]+n[12]) * tick,
		children: time.Duration(n[13]+n[14]) * tick,
	}, nil
}

// CPUOf is the CPU time that a process has used so far.
func CPUOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	p, err := parseStat(text)
	return p.own, err
}

// cpuOfTree is that of a process, its children, and those children that have
// ended: of a postmaster, everything that its backends did.
func cpuOfTree(pid int) (time.Duration, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it ended meanwhile
		}
		p, err := parseStat(text)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case filepath.Base(filepath.Dir(name)) == strconv.Itoa(pid):
			total += p.own + p.children
		case p.parent == pid:
			total += p.own
		}
	}
	return total, nil
}

// CPUTimes are CPU times so far; nil where the process isn't ours, or the
// system has no /proc. machine is that of everything.
type CPUTimes struct{ server, postgres, driver, machine *time.Duration }

// None is the process id of what there is not, which uses no CPU time.
const None = -1

// ReadCPU reads those of a server and a postmaster, by their process ids (0:
// not ours), of this program and of the machine.
func ReadCPU(serverPID, postgresPID int) CPUTimes {
	read := func(pid int, of func(int) (time.Duration, error)) *time.Duration {
		switch pid {
		case 0:
			return nil
		case None:
			return new(time.Duration)
		}
		used, err := of(pid)
		if err != nil {
			return nil
		}
		return &used
	}
	times := CPUTimes{
		server:   read(serverPID, CPUOf),
		postgres: read(postgresPID, cpuOfTree),
		driver:   read(os.Getpid(), CPUOf),
	}
	if busy, _, ok := readTicks(); ok {
		machine := time.Duration(busy) * tick
		times.machine = &machine
	}
	return times
}

// CPUShare is how many CPUs were busy: CPU seconds per second. nil: not known.
type CPUShare struct {
	Server   *float64 `json:"server"`
	Postgres *float64 `json:"postgres"`
	Driver   *float64 `json:"driver"`
	Others   *float64 `json:"others"` // what had nothing to do with us, and may have disturbed
}

// Until is what was used from before to after.
func (before CPUTimes) Until(after CPUTimes, wall time.Duration) CPUShare {
	share := func(a, b *time.Duration) *float64 {
		if a == nil || b == nil {
			return nil
		}
		cpus := (*b - *a).Seconds() / wall.Seconds()
		return &cpus
	}
	c := CPUShare{
		Server:   share(before.server, after.server),
		Postgres: share(before.postgres, after.postgres),
		Driver:   share(before.driver, after.driver),
	}
	if all := share(before.machine, after.machine); all != nil && c.Server != nil && c.Postgres != nil && c.Driver != nil {
		others := max(0, *all-*c.Server-*c.Postgres-*c.Driver) // each is rounded to ticks
		c.Others = &others
	}
	return c
}
