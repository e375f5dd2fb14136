package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Machine is the kind of machine, never its name.
type Machine struct {
	OS        string  `json:"os"`
	Arch      string  `json:"arch"`
	CPUs      int     `json:"cpus"`
	MemoryGiB float64 `json:"memory_gib"`       // 0: not known
	Busy      float64 `json:"cpus_busy_before"` // with other things; -1: not known
}

// ThisMachine takes a while: it looks what else is running.
func ThisMachine(ctx context.Context) Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Busy: -1}
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
		Wait(ctx, 2*time.Second)
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

func (m Machine) String() string {
	return fmt.Sprintf("%d CPUs, %.0f GiB, %s/%s", m.CPUs, m.MemoryGiB, m.OS, m.Arch)
}

// TooBusy reports whether other programs used so much CPU that figures are of
// no use.
func (m Machine) TooBusy(cpus float64) bool { return cpus > 0.1*float64(m.CPUs) }

// Warning says that figures are of no use because others used this many CPUs;
// empty: those are few.
func (m Machine) Warning(others float64) string {
	if !m.TooBusy(others) {
		return ""
	}
	return fmt.Sprintf("\n**The machine was busy with other things (up to %.2f of its %d CPUs): these figures say little.**\n", others, m.CPUs)
}

// Settings are those of a database that figures depend on.
type Settings map[string]string

// Version is PostgreSQL's without its packager's.
func (s Settings) Version() string {
	version, _, _ := strings.Cut(s["server_version"], " ")
	return version
}

// String names what decides how long a commit takes.
func (s Settings) String() string {
	return fmt.Sprintf("fsync %s, synchronous_commit %s, shared_buffers %s", s["fsync"], s["synchronous_commit"], s["shared_buffers"])
}

// settings are the names of what ReadSettings reads.
var settings = []string{"server_version", "fsync", "synchronous_commit", "wal_level", "shared_buffers", "synchronous_standby_names"}

// ReadSettings reads them.
func ReadSettings(ctx context.Context, databaseURL string) (_ Settings, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	values := make(Settings)
	for _, name := range settings {
		var value string
		if err := conn.QueryRow(ctx, "select current_setting($1)", name).Scan(&value); err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, nil
}

// CommitOfTree names the commit of the work tree, with "-dirty" if tracked files
// have changed since. Builds don't always carry it (-buildvcs=false).
func CommitOfTree(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// Origin is where results come from; reports embed it.
type Origin struct {
	Time     time.Time `json:"time"`
	Command  string    `json:"command"`
	Program  string    `json:"program"` // its version, once it has been started
	Commit   string    `json:"commit"`  // of the work tree
	Machine  Machine   `json:"machine"`
	Postgres Settings  `json:"postgres"` // once it has been started
}

// ThisRun is the origin of what this run of a benchmark finds. name and target are
// Command's.
func ThisRun(ctx context.Context, name, target string) Origin {
	return Origin{
		Time: time.Now().UTC(), Command: Command(name, target, os.Args[1:]),
		Commit: CommitOfTree(ctx), Machine: ThisMachine(ctx),
	}
}

// Save writes a folder of results, by the names of its files.
func Save(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var errs []error
	for name, text := range files {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)) //nolint:gosec // for everybody
	}
	return errors.Join(errs...)
}

// Wait lets d pass, or ends with ctx.
func Wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Command is how to run a benchmark again: with its target of make, or, where it
// had flags, by its package under bench. URLs may hold passwords and name hosts.
func Command(name, target string, args []string) string {
	words := []string{"go", "run", "./bench/" + name}
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(args[i], "=")
		switch {
		case name != "--url" && name != "--database-url":
			words = append(words, args[i])
		default:
			words = append(words, name+"=…")
			if !joined {
				i++
			}
		}
	}
	if len(args) == 0 {
		return target
	}
	return strings.Join(words, " ")
}
