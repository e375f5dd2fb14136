package fanout

import (
	"math"
	"math/bits"
	"time"
)

// histogram counts durations in buckets whose width is at most 1/32 of their
// value: percentiles are right to 3 %, and adding takes no memory.
type histogram struct {
	counts [64 << subBits]uint64
	total  uint64
	max    time.Duration
}

const subBits = 5

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// bucketOf is exact below 32 ns, and then goes by the five bits below the highest.
func bucketOf(v uint64) int {
	if v < 1<<subBits {
		return int(v) //nolint:gosec // below 32
	}
	shift := bits.Len64(v) - 1 - subBits
	return (shift+1)<<subBits + int(v>>shift&(1<<subBits-1)) //nolint:gosec // below 64 << 5
}

// topOf is the highest value of a bucket.
func topOf(bucket int) time.Duration {
	if bucket < 1<<subBits {
		return time.Duration(bucket)
	}
	shift := bucket>>subBits - 1
	low := uint64(1<<subBits+bucket&(1<<subBits-1)) << shift //nolint:gosec // not negative
	return time.Duration(min(low+1<<shift-1, math.MaxInt64)) //nolint:gosec // bounded
}

// quantile returns the value that a share of all is at or below; 0 of nothing.
func (h *histogram) quantile(share float64) time.Duration {
	rank := uint64(math.Ceil(share * float64(h.total)))
	seen := uint64(0)
	for bucket, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return min(topOf(bucket), h.max)
		}
	}
	return h.max
}
