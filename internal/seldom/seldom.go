// Package seldom bounds a log: what an outage, or somebody who means it, can have
// said again and again is said a few times, and then now and then, with how often it
// was left out. Safe for concurrent use.
package seldom

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A message may be said Burst times at once, and once per Every after.
const (
	Burst = 20
	Every = 10 * time.Second
)

// most bounds how many messages are remembered: they are texts of programs, and few.
const most = 1000

// Logger returns a logger that says less than l. Lines are told apart by level and
// message, not by their attributes. Those below Info are let through: who turned them
// on wants them. The loggers made of it by With count together.
func Logger(l *slog.Logger) *slog.Logger {
	if _, is := l.Handler().(*handler); is {
		return l
	}
	return slog.New(&handler{next: l.Handler(), said: &said{of: map[key]*account{}}})
}

type key struct {
	level   slog.Level
	message string
}

// account is a token bucket.
type account struct {
	left    int       // lines that may be said at once
	since   time.Time // when left was counted
	skipped int       // lines left out since the last one that was said
}

type said struct {
	mu sync.Mutex // guards of
	of map[key]*account
}

// take reports whether a line may be said, and how many were left out before it.
func (s *said) take(k key, now time.Time) (skipped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.of[k]
	if a == nil {
		if len(s.of) >= most {
			clear(s.of)
		}
		a = &account{left: Burst, since: now}
		s.of[k] = a
	}
	if due := int(now.Sub(a.since) / Every); due > 0 {
		a.left = min(a.left+due, Burst)
		a.since = a.since.Add(time.Duration(due) * Every)
	}
	if a.left == 0 {
		a.skipped++
		return 0, false
	}
	a.left--
	skipped, a.skipped = a.skipped, 0
	return skipped, true
}

type handler struct {
	next slog.Handler
	said *said
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.next.Handle(ctx, r)
	}
	skipped, ok := h.said.take(key{r.Level, r.Message}, time.Now())
	if !ok {
		return nil
	}
	if skipped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", skipped))
	}
	return h.next.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.next.WithAttrs(attrs), h.said}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.next.WithGroup(name), h.said}
}
