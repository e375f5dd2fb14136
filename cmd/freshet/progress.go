package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/freshet-dev/freshet/check"
)

// progress shows how a check goes on: on a terminal as one line that changes,
// elsewhere as a line every now and then. Not safe for concurrent use.
type progress struct {
	out      io.Writer
	terminal bool
	next     time.Duration // when the next line is due
	accused  bool          // a violation has been told
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

const progressEvery = 10 * time.Second

func (p *progress) tell(now check.Progress) {
	what := now.Phase
	if now.Fault != "" {
		what = now.Fault
	}
	// Fits into 80 columns, or the next one would not replace it.
	line := fmt.Sprintf("%4.0fs  %-16s %d/%d up, %d faults, %d checked, %d violations",
		now.Elapsed.Seconds(), what, now.Connected, now.Clients, now.Faults, now.Observations, now.Violations)
	switch {
	case p.terminal:
		fmt.Fprintf(p.out, "\r\x1b[K%s", line)
	case now.Elapsed >= p.next, now.Violations > 0 && !p.accused:
		p.next = now.Elapsed + progressEvery
		fmt.Fprintln(p.out, line)
	}
	p.accused = now.Violations > 0
}

// end leaves the line.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprintln(p.out)
	}
}
