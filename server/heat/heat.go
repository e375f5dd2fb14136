// Package heat counts, while somebody measures, which topics cost most: how often they
// change, how many are told, what that has them read again, and how often in vain.
//
// It upholds G7: memory is O(limit) topics, whatever changes and is read; while nobody
// measures, nothing is counted and nothing is kept.
//
// # What it does not promise
//
// That it counts everything. With more topics than the limit those that are counted
// least make room for new ones, which begin at zero: counts are what was seen, at
// least. Any topic with more than a limit-th of all that is counted is among those that
// are kept (the Space-Saving algorithm: Metwally, Agrawal and El Abbadi 2005). Answers
// of methods that are uncached, or that nobody keeps, are compared with nothing.
package heat

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrBusy says that somebody measures already.
var ErrBusy = errors.New("somebody measures already: try again when they are done")

// Topic is what was counted of a topic. Needless is what was the same as before.
type Topic struct {
	Topic   string
	Changes int // commits that changed it
	Notices int // subscriptions that came to have it to tell; changes in a short time are one
	// Reads at-least a revision, of answers that it had made too old, by whatever way
	// they were answered; and queries that were run for these.
	Reads, NeedlessReads     int
	Queries, NeedlessQueries int
}

// Result of a measurement.
type Result struct {
	Window time.Duration
	Topics []Topic // all that were kept, in no order
	// Replaced counts how often a topic had to make room for another.
	Replaced int
}

// Meter measures, one at a time. Use New. All methods are safe for concurrent use.
type Meter struct {
	limit int
	on    atomic.Bool

	mu  sync.Mutex // guards what follows; it is held for moments
	top *sketch    // nil: nobody measures
}

// New returns a meter that keeps limit topics, at least one.
func New(limit int) *Meter { return &Meter{limit: max(limit, 1)} }

// Measure counts for so long, or until ctx ends, and then returns what was counted; with
// ctx's error, if that was first. The error may be ErrBusy.
func (m *Meter) Measure(ctx context.Context, window time.Duration) (Result, error) {
	m.mu.Lock()
	if m.top != nil {
		m.mu.Unlock()
		return Result{}, ErrBusy
	}
	m.top = newSketch(m.limit)
	m.on.Store(true)
	m.mu.Unlock()
	began := time.Now()
	timer := time.NewTimer(window)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	m.on.Store(false)
	m.mu.Lock()
	defer m.mu.Unlock()
	r := Result{Window: time.Since(began), Replaced: m.top.replaced}
	for _, c := range m.top.heap {
		r.Topics = append(r.Topics, c.Topic)
	}
	m.top = nil
	return r, ctx.Err()
}

// On reports whether somebody measures. It is cheap.
func (m *Meter) On() bool { return m.on.Load() }

// Len is how many topics are kept; 0 while nobody measures.
func (m *Meter) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.top == nil {
		return 0
	}
	return len(m.top.heap)
}

// Changed counts a change of a topic, which so many subscriptions have to tell now that
// had not before.
func (m *Meter) Changed(topic string, notices int) {
	m.count([]string{topic}, 1+notices, func(c *Topic) { c.Changes++; c.Notices += notices })
}

// Queried counts a query that ran since these topics had changed.
func (m *Meter) Queried(topics []string, needless bool) {
	m.count(topics, 1, func(c *Topic) {
		c.Queries++
		if needless {
			c.NeedlessQueries++
		}
	})
}

// Read counts a read of an answer in whose place another one was, until these topics
// changed.
func (m *Meter) Read(topics []string, needless bool) {
	m.count(topics, 1, func(c *Topic) {
		c.Reads++
		if needless {
			c.NeedlessReads++
		}
	})
}

func (m *Meter) count(topics []string, weight int, add func(*Topic)) {
	if !m.on.Load() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.top == nil {
		return
	}
	for _, topic := range topics {
		add(m.top.touch(topic, weight))
	}
}

// Worst returns the n topics of a result that cost most: those with most needless
// reads, then with most notices, then with most changes.
func (r Result) Worst(n int) []Topic {
	topics := slices.SortedFunc(slices.Values(r.Topics), compare)
	return topics[:min(n, len(topics))]
}
