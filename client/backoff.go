package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// longestWish bounds what a server's `retry:` or Retry-After can ask for, so
// that a slip of the keyboard there doesn't silence every client for a day.
const longestWish = 5 * time.Minute

// backoff counts failed attempts and says how long to wait after each.
type backoff struct {
	first, longest time.Duration
	wish           time.Duration // the server's `retry:`; 0: none. It replaces first
	failures       int
}

// next is the wait after one more failure: never less than the server asked
// for, and up to half more, so that clients that fell together don't rise
// together.
func (b *backoff) next() time.Duration {
	d := b.first
	if b.wish > 0 {
		d = b.wish
	}
	longest := max(d, b.longest)
	for range min(b.failures, 32) {
		d = min(2*d, longest)
	}
	b.failures++
	return d + time.Duration(rand.Int64N(int64(d)/2+1)) //nolint:gosec // jitter, not a secret
}

func (b *backoff) reset() { b.failures = 0 }

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
