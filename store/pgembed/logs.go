package pgembed

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"strings"
	"sync"
)

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
