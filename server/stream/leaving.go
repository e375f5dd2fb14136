package stream

import (
	"sync/atomic"
	"time"
)

// longestGap is how far apart two streams end at most: who has few of them isn't
// kept waiting.
const longestGap = 10 * time.Millisecond

// departures has streams end one after the other, so that thousands of clients don't
// come to the next node all at once, nor their refetches.
type departures struct {
	start time.Time
	gap   time.Duration // between two
	next  atomic.Int64
}

// plan spreads some streams evenly over a time.
func (d *departures) plan(over time.Duration, streams int) {
	d.start = time.Now()
	if streams > 0 && over > 0 {
		d.gap = min(over/time.Duration(streams), longestGap)
	}
}

// draw returns the next place in the queue. Streams that come late to it, since
// their readers were slow, may find that it is past.
func (d *departures) draw() time.Time {
	return d.start.Add(time.Duration(d.next.Add(1)-1) * d.gap)
}

// departs returns when the stream is to end; zero: nobody sends it away.
func (s *session) departs() time.Time {
	select {
	case <-s.server.closing:
		if s.leaves == 0 {
			s.leaves = s.server.leaving.draw().UnixNano()
		}
		return time.Unix(0, s.leaves)
	default:
	}
	if s.server.shed.Load() {
		return time.Unix(0, 1) // long ago
	}
	return time.Time{}
}
