package testkit

import (
	"math/rand/v2"
	"sort"
	"sync"
)

// Commits are what a writer has committed, one after the other: its n-th commit was
// visible, and its record ended, at or below the n-th position. The zero value has none.
type Commits struct {
	mu        sync.RWMutex // guards positions
	positions []uint64
}

// Add notes the next commit.
func (c *Commits) Add(position uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.positions = append(c.positions, position)
}

// At is how many end at or below a position, at least: what an answer has to show that
// holds everything up to there.
func (c *Commits) At(position uint64) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return sort.Search(len(c.positions), func(i int) bool { return c.positions[i] > position })
}

// Len is how many there are.
func (c *Commits) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.positions)
}

// Recent is the position of one of the last n, at random. There is one at least.
func (c *Commits) Recent(n int) (position uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.positions[max(0, len(c.positions)-1-rand.IntN(n))]
}
