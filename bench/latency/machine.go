package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// machine is the kind of machine, never its name.
type machine struct {
	OS        string  `json:"os"`
	Arch      string  `json:"arch"`
	CPUs      int     `json:"cpus"`
	MemoryGiB float64 `json:"memory_gib"`       // 0: not known
	Busy      float64 `json:"cpus_busy_before"` // with other things; -1: not known
}

// thisMachine takes a while: it looks what else is running.
func thisMachine(ctx context.Context) machine {
	m := machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Busy: -1}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			var kib float64
			if n, _ := fmt.Sscanf(line, "MemTotal: %f kB", &kib); n == 1 {
				m.MemoryGiB = kib / (1 << 20)
			}
		}
	}
	// Not the load average: it still shows the build of the program.
	if busy, total, ok := readTicks(); ok {
		wait(ctx, 2*time.Second)
		if busyLater, totalLater, _ := readTicks(); totalLater > total {
			m.Busy = (busyLater - busy) / (totalLater - total) * float64(m.CPUs)
		}
	}
	return m
}

// readTicks reads the time that all CPUs together have been busy, of that which
// has passed.
func readTicks() (busy, total float64, ok bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, false
	}
	return parseTicks(string(text))
}

// parseTicks reads the first line of /proc/stat: cpu, user, nice, system, idle,
// iowait, irq, softirq, steal (proc(5)); what follows is within user already.
func parseTicks(text string) (busy, total float64, ok bool) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0, false
	}
	for i, field := range fields[1:9] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, 0, false
		}
		total += n
		if i != 3 && i != 4 {
			busy += n
		}
	}
	return busy, total, true
}

func (m machine) String() string {
	return fmt.Sprintf("%d CPUs, %.0f GiB, %s/%s", m.CPUs, m.MemoryGiB, m.OS, m.Arch)
}

// tooBusy reports whether other programs used so much CPU that figures are of
// no use.
func (m machine) tooBusy(cpus float64) bool { return cpus > 0.1*float64(m.CPUs) }

// settings are those of the database that figures depend on.
var settings = []string{"server_version", "fsync", "synchronous_commit", "wal_level", "shared_buffers", "synchronous_standby_names"}

func readSettings(ctx context.Context, databaseURL string) (_ map[string]string, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	values := make(map[string]string)
	for _, name := range settings {
		var value string
		if err := conn.QueryRow(ctx, "select current_setting($1)", name).Scan(&value); err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, nil
}

// readTransactions is how many transactions the database has ended so far. Each
// backend reports its own once a second at most, so over a run the difference
// is right to a few per cent.
func readTransactions(ctx context.Context, databaseURL string) (n int64, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	err = conn.QueryRow(ctx, `select xact_commit + xact_rollback from pg_stat_database where datname = current_database()`).Scan(&n)
	return n, err
}

// commitOfTree names the commit of the work tree, with "-dirty" if tracked files
// have changed since. Builds don't always carry it (-buildvcs=false).
func commitOfTree(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
