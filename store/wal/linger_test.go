package wal

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLinger(t *testing.T) {
	const longest = 5 * time.Millisecond
	for name, test := range map[string]struct {
		max   time.Duration
		rate  int           // messages per second
		bytes int           // of a message
		wait  time.Duration // before each read, in the end
	}{
		"a stream of 3,000 commits a second is read as it comes": {longest, 9_000, 100, 0},
		"from 10,000 messages a second on it gathers":            {longest, 11_000, 100, longest},
		"for no longer than it takes to bring enough":            {longest, 64_000, 100, 2 * time.Millisecond},
		"a stream that brings enough anyway isn't waited for":    {longest, 300_000, 100, 0},
		"nor one of large messages, that would wait for us":      {longest, 300_000, 10_000, 0},
		"nor without a bound":                                    {0, 11_000, 100, 0},
		"nor with a negative one":                                {-1, 11_000, 100, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const reads, socket, buffer = 4000, 208 << 10, 64 << 10
				l := linger{max: test.max}
				var waits time.Duration
				for read := range reads {
					began := time.Now()
					l.wait()
					waited := time.Since(began)
					require.LessOrEqual(t, waited, longest)
					if read >= reads/2 {
						waits += waited
					}
					time.Sleep(100 * time.Microsecond) // what reading and decoding take
					came := min(int(time.Since(began).Seconds()*float64(test.rate)), socket/max(test.bytes, 1<<10))
					l.full = came*test.bytes >= buffer
					for range came {
						l.message()
					}
				}
				require.InDelta(t, test.wait.Seconds(), (waits / (reads / 2)).Seconds(), max(test.wait.Seconds()/5, 50e-6))
			})
		})
	}
}

// A burst is not a busy stream.
func TestLinger_burst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := linger{max: time.Second}
		began := time.Now()
		for range 1000 {
			for range 99 { // 33 commits at once, then nothing for a while
				l.message()
			}
			l.wait()
			time.Sleep(20 * time.Millisecond)
		}
		require.Equal(t, 20*time.Second, time.Since(began))
	})
}
