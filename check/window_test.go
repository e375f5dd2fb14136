package check_test

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/check"
)

// split gives the first window what was seen up to a moment, and all writes.
func split(h *check.History, at time.Duration) (first, second *check.History) {
	first, second = &check.History{Writes: h.Writes}, &check.History{}
	for _, f := range h.Frames {
		to := first
		if f.At > at {
			to = second
		}
		to.Frames = append(to.Frames, f)
	}
	for _, r := range h.Reads {
		to := first
		if r.End > at {
			to = second
		}
		to.Reads = append(to.Reads, r)
	}
	for _, v := range h.Views {
		to := first
		if v.At > at {
			to = second
		}
		to.Views = append(to.Views, v)
	}
	return first, second
}

// Wherever a history is cut, the rules find the same in it: what they need of the
// first window they remember.
func TestJudge_windows(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txt")
	require.NoError(t, err)
	for _, path := range files {
		h := read(t, path)
		whole := check.Judge(h)
		var moments []time.Duration
		for _, f := range h.Frames {
			moments = append(moments, f.At)
		}
		for _, r := range h.Reads {
			moments = append(moments, r.Start, r.End)
		}
		for _, at := range moments {
			first, second := split(h, at)
			for i, v := range check.JudgeWindows(first, second) {
				require.Equal(t, whole[i].Violations, v.Violations, "%s, %s, cut at %v", path, v.Rule, at)
			}
		}
	}
}

// Quantiles are of values to three digits, however many there are.
func TestLatency_quantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	values := make([]time.Duration, 0, 20000)
	for range cap(values) {
		values = append(values, time.Duration(rng.ExpFloat64()*float64(20*time.Millisecond))-time.Millisecond)
	}
	l := check.Summarize(values)
	slices.Sort(values)
	require.Equal(t, len(values), l.N)
	require.Equal(t, values[0], l.Min)
	require.Equal(t, values[len(values)-1], l.Max)
	for q, got := range map[int]time.Duration{500: l.P50, 990: l.P99, 999: l.P999} {
		want := values[len(values)*q/1000-1]
		require.InDelta(t, float64(want), float64(got), float64(want)/200, "p%d", q)
	}
	n := 0
	for _, bucket := range l.Buckets {
		n += bucket
	}
	require.Equal(t, len(values), n)
	require.Equal(t, check.Latency{}, check.Summarize(nil))
}

// Rows that have gone are forgotten, so that a long run is judged as fast as a short
// one; an answer that shows one is found all the same.
func TestJudge_forgetsWhatIsGone(t *testing.T) {
	windows := []*check.History{
		parse(t, "1..2 sql-1 write committed r1@1:>a,r2@1:>a at=1-10\n3..4 sql-1 write committed r1@2:a> at=1-20"),
		{}, {},
		parse(t, "30..31 client-1 read a strong stamp=1-30 shows r1@1,r2@1\n30..31 client-1 read - strong stamp=1-30 shows r1@1,r2@1"),
	}
	require.Equal(t, 2, check.Remembered(windows[:2]...))
	require.Equal(t, 1, check.Remembered(windows[:3]...))
	for _, v := range check.JudgeWindows(windows...) {
		if v.Rule == "G6" {
			require.Equal(t, 2, v.Violations)
			require.Contains(t, v.Shortest.What, "took the row away")
		}
	}
}
