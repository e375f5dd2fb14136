// Package share bounds how much of something is in use at once: in all, and by each
// of those who use it, so that none can have all of it.
package share

import "sync"

// Verdict is what becomes of somebody who asks.
type Verdict int

// The verdicts.
const (
	Granted Verdict = iota // it has to be given back
	Full                   // all of it is in use
	Over                   // this one has as much as one may have
)

// Share counts what is in use. Use New. All methods are safe for concurrent use.
type Share[K comparable] struct {
	all, each int

	mu    sync.Mutex // guards what follows
	inUse int
	of    map[K]int // of each; nobody has none
}

// New returns a Share of all, of which each may have so many. Zero: no bound.
func New[K comparable](all, each int) *Share[K] {
	return &Share[K]{all: all, each: each, of: map[K]int{}}
}

// Take takes so much, or nothing. Of the zero K there are many, who have no bound but
// that of all.
func (s *Share[K]) Take(who K, much int) Verdict {
	var nobody K
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.each > 0 && who != nobody && s.of[who]+much > s.each:
		return Over // also when it is full: this one is why
	case s.all > 0 && s.inUse+much > s.all:
		return Full
	}
	s.inUse += much
	if who != nobody {
		s.of[who] += much
	}
	return Granted
}

// Give gives so much back.
func (s *Share[K]) Give(who K, much int) {
	var nobody K
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inUse -= much
	if who == nobody {
		return
	}
	if s.of[who] -= much; s.of[who] == 0 {
		delete(s.of, who)
	}
}

// InUse is how much is in use.
func (s *Share[K]) InUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inUse
}
