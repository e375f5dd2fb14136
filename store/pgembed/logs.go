package pgembed

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// logPipe is what PostgreSQL logs to: a pipe that all its processes hold. It never makes
// them wait: where nobody reads, because this program is paused, or can't write its own
// log, what the pipe has no room for is lost. Other programs may use the server.
type logPipe struct {
	read, write *os.File
	ended       chan struct{} // closed when everything has been read
}

// openLogs gives a command its pipe, before it is started.
func openLogs(cmd *exec.Cmd) (*logPipe, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	enlarge(write)
	cmd.Stdout, cmd.Stderr = write, write
	return &logPipe{read: read, write: write, ended: make(chan struct{})}, nil
}

// begin passes on what the command logs, once its start has come to this; if that
// failed nothing is left open.
func (l *logPipe) begin(started error, to io.Writer) error {
	// Not before the start, which lets the file that it hands on block. It is the same
	// open file here and there.
	_ = syscall.SetNonblock(int(l.write.Fd()), true)
	_ = l.write.Close() // the child has its own
	if started != nil {
		_ = l.read.Close()
		return started
	}
	go func() {
		defer close(l.ended)
		_, _ = io.Copy(to, l.read) // until the last process that holds the pipe has ended, or end
	}()
	return nil
}

// lastWords is how long after the postmaster its processes may still log.
const lastWords = 5 * time.Second

// end returns when everything has been read, or lastWords have passed.
func (l *logPipe) end() {
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-l.ended:
	case <-timer.C:
	}
	_ = l.read.Close()
	<-l.ended
}

// tailLines is how much of the log an error message quotes.
const tailLines = 12

// logWriter passes on PostgreSQL's log line by line, and keeps the last ones. Safe for concurrent
// use.
type logWriter struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	partial []byte     // a line that hasn't ended yet
	last    []string   // at most tailLines
}

func newLogWriter(log *slog.Logger) *logWriter { return &logWriter{log: log} }

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.partial = append(w.partial, p...)
	for {
		line, rest, ended := bytes.Cut(w.partial, []byte("\n"))
		if !ended {
			return len(p), nil
		}
		w.emit(string(line))
		w.partial = rest
	}
}

// flush passes on a last line without an end.
func (w *logWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.partial) > 0 {
		w.emit(string(w.partial))
		w.partial = nil
	}
}

// severity matches a line under the default log_line_prefix, "2026-11-22 22:27:52.123 UTC [42] LOG:
// …".
var severity = regexp.MustCompile(`^.*?\[\d+\] ([A-Z]+[0-9]?):  `)

// emit is called with mu held.
func (w *logWriter) emit(line string) {
	if line = strings.TrimRight(line, "\r"); line == "" {
		return
	}
	if len(w.last) == tailLines {
		w.last = append(w.last[:0], w.last[1:]...)
	}
	w.last = append(w.last, line)
	level, text := slog.LevelDebug, line
	if m := severity.FindStringSubmatch(line); m != nil {
		level, text = logLevel(m[1]), m[1]+": "+line[len(m[0]):]
	}
	w.log.LogAttrs(context.Background(), level, "postgres", slog.String("line", text))
}

func (w *logWriter) tail() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.last, "\n")
}
