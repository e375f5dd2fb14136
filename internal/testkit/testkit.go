// Package testkit is what tests share: a real PostgreSQL and a fresh database for each test, a
// proxy that cuts and stalls connections, and a context and a logger that end with the test. Only
// tests import it.
//
// A package that uses it has one line in its TestMain:
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
package testkit

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main runs a package's tests, then stops the shared server, and fails when a goroutine is left over.
func Main(m *testing.M, options ...goleak.Option) {
	// Programs that are begun with SIGHUP ignored, by tests under nohup, leave it so. What
	// is caught here is as usual there.
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	goleak.VerifyTestMain(runner{m}, options...)
}

type runner struct{ m *testing.M }

func (r runner) Run() int {
	code := r.m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "testkit: stop the shared server:", err)
		return max(code, 1)
	}
	return code
}

// patience is the longest that a Context lasts: a hung test should fail by itself, not take its
// package along.
const patience = 2 * time.Minute

// Context ends with the test, or 10 seconds before `go test -timeout` would kill the whole binary,
// or after two minutes, whichever is first. It is over when cleanup functions run.
func Context(t testing.TB) context.Context {
	t.Helper()
	deadline := time.Now().Add(patience)
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, ok := d.Deadline(); ok && end.Add(-10*time.Second).Before(deadline) {
			deadline = end.Add(-10 * time.Second)
		}
	}
	ctx, cancel := context.WithDeadline(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// Logger writes to the test's log, at debug level. What is logged after the test's end is dropped
// (testing would panic).
func Logger(t testing.TB) *slog.Logger {
	t.Helper()
	w := &testWriter{t: t}
	t.Cleanup(w.close)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct {
	mu sync.Mutex // also held while writing, so that close waits for a line under way
	t  testing.TB // nil: the test is over
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(string(bytes.TrimRight(p, "\n")))
	}
	return len(p), nil
}

func (w *testWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}
