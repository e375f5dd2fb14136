// Package mono keeps a moment for other goroutines, by the monotonic clock: what is
// measured by it isn't wrong when somebody sets the machine's clock.
//
// A time.Time does the same, but fits in no atomic; its UnixNano is of the wall clock.
package mono

import (
	"sync/atomic"
	"time"
)

// origin is the moment from which others are counted.
var origin = time.Now()

// Mark is a moment, or none, which is its zero value. It is safe for concurrent use.
type Mark struct{ at atomic.Int64 } // nanoseconds after origin and 1, 0: none

// count is never 0, also of a moment before origin.
func count(at time.Time) int64 { return max(int64(at.Sub(origin)), 0) + 1 }

// Set makes it at, which is to come from time.Now; the zero time is none.
func (m *Mark) Set(at time.Time) {
	if at.IsZero() {
		m.at.Store(0)
		return
	}
	m.at.Store(count(at))
}

// Begin makes it now, if it is none.
func (m *Mark) Begin() { m.at.CompareAndSwap(0, count(time.Now())) }

// Clear makes it none.
func (m *Mark) Clear() { m.at.Store(0) }

// IsSet says that it isn't none.
func (m *Mark) IsSet() bool { return m.at.Load() != 0 }

// Before returns how long before now it was, at least 1 ns; 0 of none.
func (m *Mark) Before(now time.Time) time.Duration {
	at := m.at.Load()
	if at == 0 {
		return 0
	}
	return time.Duration(max(count(now)-at, 1))
}

// Ago returns how long ago it was, at least 1 ns; 0 of none.
func (m *Mark) Ago() time.Duration { return m.Before(time.Now()) }
