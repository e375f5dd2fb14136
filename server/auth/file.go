package auth

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// lookInterval is how often a file of keys is looked at. It is read, not asked for
// its time: a volume of Kubernetes swaps links.
const lookInterval = 5 * time.Second

// file is keys in a file.
type file struct {
	path   string
	logger *slog.Logger
	reload chan struct{} // capacity 1
	set    atomic.Pointer[keySet]
	stale  atomic.Bool
	told   string // the last complaint; run's own
}

func (f *file) current() *keySet { return f.set.Load() }

func (f *file) find(_ context.Context, kid, alg string) ([]key, *keySet, error) {
	set := f.set.Load()
	return set.fitting(kid, alg), set, nil
}

// read takes the file as it is now. What is broken changes nothing.
func (f *file) read() error {
	opened, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	defer func() { _ = opened.Close() }()
	text, err := io.ReadAll(io.LimitReader(opened, maxKeysBytes+1))
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	if set := f.set.Load(); set != nil && bytes.Equal(set.text, text) {
		return nil
	}
	set, err := parseKeys(text, true)
	if err != nil {
		return fmt.Errorf("keys in %s: %w", f.path, err)
	}
	f.set.Store(set)
	return nil
}

// staleness is 1 while the file isn't what counts, and can't be.
func (f *file) staleness() float64 {
	if f.stale.Load() {
		return 1
	}
	return 0
}

// run reads the file again and again, until ctx ends.
func (f *file) run(ctx context.Context) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-f.reload:
			asked = true
		}
		f.look(ctx, asked)
	}
}

// look reads the file and says what came of it: once, unless somebody asked.
func (f *file) look(ctx context.Context, asked bool) {
	before := f.set.Load()
	err := f.read()
	f.stale.Store(err != nil)
	switch {
	case err != nil && (asked || err.Error() != f.told):
		f.told = err.Error()
		f.logger.ErrorContext(ctx, "the keys that tokens are checked with can't be read again: those of before are kept", "error", err)
	case err != nil:
	case f.set.Load() != before || asked || f.told != "":
		f.told = ""
		f.logger.InfoContext(ctx, "the keys that tokens are checked with were read again", "file", f.path, "keys", len(f.set.Load().keys))
	}
}
