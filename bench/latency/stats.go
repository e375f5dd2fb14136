package main

import (
	"math"
	"slices"
	"time"

	"github.com/freshet-dev/freshet/bench/rig"
)

// millis is a duration in milliseconds, as results carry it. It may be
// negative: a notice can be here before COMMIT has returned to its writer.
type millis float64

func millisOf(d time.Duration) millis { return millis(float64(d) / float64(time.Millisecond)) }

// summary describes one quantity of one run, or of several.
type summary struct {
	N   int    `json:"n"`
	Min millis `json:"min_ms"`
	P50 millis `json:"p50_ms"`
	P90 millis `json:"p90_ms"`
	P99 millis `json:"p99_ms"`
	Max millis `json:"max_ms"`
}

// quantile is the nearest-rank quantile of ascending values: the least one that
// a share q of them doesn't exceed. It is always a value that was measured. Of
// no values it is NaN.
func quantile(sorted []millis, q float64) millis {
	if len(sorted) == 0 {
		return millis(math.NaN())
	}
	// Without the small number, 0.07 of 100 would be the 8th: 0.07*100 is 7.000000000000001.
	rank := int(math.Ceil(q*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// summarize sorts values.
func summarize(values []millis) summary {
	if len(values) == 0 {
		return summary{}
	}
	slices.Sort(values)
	return summary{
		N:   len(values),
		Min: values[0],
		P50: quantile(values, 0.50),
		P90: quantile(values, 0.90),
		P99: quantile(values, 0.99),
		Max: values[len(values)-1],
	}
}

// overRuns is the median over runs of each figure, so that one disturbed run
// doesn't decide; n is their sum, min and max those of all runs, since a
// median would hide the worst.
func overRuns(runs []summary) summary {
	if len(runs) == 0 {
		return summary{}
	}
	of := func(get func(summary) millis) []millis {
		var all []millis
		for _, run := range runs {
			all = append(all, get(run))
		}
		return all
	}
	s := summary{
		Min: slices.Min(of(func(s summary) millis { return s.Min })),
		P50: rig.Median(of(func(s summary) millis { return s.P50 })),
		P90: rig.Median(of(func(s summary) millis { return s.P90 })),
		P99: rig.Median(of(func(s summary) millis { return s.P99 })),
		Max: slices.Max(of(func(s summary) millis { return s.Max })),
	}
	for _, run := range runs {
		s.N += run.N
	}
	return s
}
