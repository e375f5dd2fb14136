package main

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func ascending(n int) []millis {
	values := make([]millis, n)
	for i := range values {
		values[i] = millis(i + 1)
	}
	return values
}

// Nearest rank, as in the textbook: of 1…100 the quantile q is 100q.
func TestQuantile_nearestRank(t *testing.T) {
	hundred := ascending(100)
	for percent := 1; percent <= 100; percent++ {
		require.Equal(t, millis(percent), quantile(hundred, float64(percent)/100), "p%d", percent)
	}
	require.Equal(t, millis(1), quantile(hundred, 0))
	require.Equal(t, millis(100), quantile(hundred, 0.999))

	require.Equal(t, millis(2), quantile(ascending(3), 0.5))
	require.Equal(t, millis(2), quantile(ascending(4), 0.5))
	require.Equal(t, millis(7), quantile([]millis{7}, 0.99))
	require.True(t, math.IsNaN(float64(quantile(nil, 0.5))))
}

// A quantile is never below the share of values that it claims to cover.
func TestQuantile_covers(t *testing.T) {
	for n := 1; n <= 300; n++ {
		values := ascending(n)
		for _, q := range []float64{0.5, 0.9, 0.99} {
			covered := float64(quantile(values, q)) / float64(n)
			require.GreaterOrEqual(t, covered, q-1e-9)
			require.Less(t, covered-1/float64(n), q)
		}
	}
}

func TestSummarize(t *testing.T) {
	require.Zero(t, summarize(nil))
	// Negative latencies stay: nothing is clamped.
	require.Equal(t, summary{N: 3, Min: -1, P50: 2, P90: 5, P99: 5, Max: 5}, summarize([]millis{5, -1, 2}))
	require.InDelta(t, 0.25, float64(millisOf(250*time.Microsecond)), 1e-12)
}

func TestOverRuns(t *testing.T) {
	require.Zero(t, overRuns(nil))
	got := overRuns([]summary{
		{N: 10, Min: 1, P50: 2, P90: 3, P99: 4, Max: 90},
		{N: 20, Min: -1, P50: 200, P90: 300, P99: 400, Max: 500}, // disturbed
		{N: 30, Min: 2, P50: 4, P90: 5, P99: 6, Max: 7},
	})
	require.Equal(t, summary{N: 60, Min: -1, P50: 4, P90: 5, P99: 6, Max: 500}, got)
}
