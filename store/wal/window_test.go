package wal

import (
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestReplayWindow_byTimeAndByBytes(t *testing.T) {
	start := time.Unix(1000, 0)
	w := replayWindow{maxAge: time.Minute, maxBytes: 1000, confirmed: 50}
	require.Equal(t, pglogrepl.LSN(50), w.confirm(start, 100), "nothing is old enough")
	require.Equal(t, pglogrepl.LSN(50), w.confirm(start.Add(30*time.Second), 200))
	require.Equal(t, pglogrepl.LSN(100), w.confirm(start.Add(61*time.Second), 300), "older than a minute")
	require.Equal(t, pglogrepl.LSN(200), w.confirm(start.Add(62*time.Second), 1250), "more than 1000 bytes behind")
	require.Equal(t, pglogrepl.LSN(1250), w.confirm(start.Add(10*time.Minute), 1250), "an idle database is confirmed whole")
}

func TestReplayWindow_neverAheadNeverBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := replayWindow{maxAge: time.Minute, maxBytes: 500, confirmed: 1}
		now, applied, last := time.Unix(0, 0), pglogrepl.LSN(1), pglogrepl.LSN(1)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			applied += pglogrepl.LSN(rapid.IntRange(0, 700).Draw(t, "bytes"))
			got := w.confirm(now, applied)
			if got > applied || got < last || got == 0 {
				t.Fatalf("confirmed %s after %s, applied %s", got, last, applied)
			}
			last = got
			if len(w.marks) > 64 {
				t.Fatalf("%d marks", len(w.marks))
			}
			if uint64(applied-got) >= w.maxBytes && w.oldest().IsZero() {
				t.Fatalf("confirmed %s, applied %s: of no age", got, applied)
			}
		}
	})
}

// Confirmed once a second, as the feed does, the window keeps its bounds, but
// for what one second brings.
func TestReplayWindow_bounds(t *testing.T) {
	const perStep = 300
	rapid.Check(t, func(t *rapid.T) {
		w := replayWindow{maxAge: time.Minute, maxBytes: 5000, confirmed: 1}
		now, applied := time.Unix(0, 0), pglogrepl.LSN(1)
		most := rapid.SampledFrom([]int{0, 20, perStep}).Draw(t, "idle, slow, busy")
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1000, 1500).Draw(t, "ms")) * time.Millisecond)
			applied += pglogrepl.LSN(rapid.IntRange(0, most).Draw(t, "bytes"))
			confirmed := w.confirm(now, applied)
			if behind := uint64(applied - confirmed); behind >= w.maxBytes+perStep {
				t.Fatalf("%d bytes behind", behind)
			}
			oldest := w.oldest()
			if (confirmed == applied) != oldest.IsZero() {
				t.Fatalf("confirmed %s, applied %s, oldest %s", confirmed, applied, oldest)
			}
			if !oldest.IsZero() && now.Sub(oldest) >= w.maxAge {
				t.Fatalf("%s behind", now.Sub(oldest))
			}
		}
	})
}
