package wal

import (
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// keepWindow does what the keeper does, at one time, and returns where the slot is.
func keepWindow(w *replayWindow, now time.Time, applied pglogrepl.LSN) pglogrepl.LSN {
	w.note(now, applied)
	w.moved(w.edge(now, applied))
	w.note(now, applied)
	return w.slot
}

func TestReplayWindow_byTimeAndByBytes(t *testing.T) {
	start := time.Unix(1000, 0)
	w := replayWindow{maxAge: time.Minute, maxBytes: 1000, slot: 50}
	require.Equal(t, pglogrepl.LSN(50), keepWindow(&w, start, 100), "nothing is old enough")
	require.Equal(t, pglogrepl.LSN(50), keepWindow(&w, start.Add(30*time.Second), 200))
	require.Equal(t, pglogrepl.LSN(100), keepWindow(&w, start.Add(61*time.Second), 300), "older than a minute")
	require.Equal(t, pglogrepl.LSN(200), keepWindow(&w, start.Add(62*time.Second), 1250), "more than 1000 bytes behind")
	require.Equal(t, pglogrepl.LSN(1250), keepWindow(&w, start.Add(10*time.Minute), 1250), "an idle database is confirmed whole")
}

func TestReplayWindow_neverAheadNeverBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := replayWindow{maxAge: time.Minute, maxBytes: 500, slot: 1}
		now, applied, last := time.Unix(0, 0), pglogrepl.LSN(1), pglogrepl.LSN(1)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			applied += pglogrepl.LSN(rapid.IntRange(0, 700).Draw(t, "bytes"))
			got := keepWindow(&w, now, applied)
			if got > applied || got < last || got == 0 {
				t.Fatalf("the slot is at %s after %s, applied %s", got, last, applied)
			}
			last = got
			if len(w.marks) > 64 {
				t.Fatalf("%d marks", len(w.marks))
			}
			if uint64(applied-got) >= w.maxBytes && w.oldest().IsZero() {
				t.Fatalf("the slot is at %s, applied %s: of no age", got, applied)
			}
		}
	})
}

// Kept once a second, the window keeps its bounds, but for what one second brings.
func TestReplayWindow_bounds(t *testing.T) {
	const perStep = 300
	rapid.Check(t, func(t *rapid.T) {
		w := replayWindow{maxAge: time.Minute, maxBytes: 5000, slot: 1}
		now, applied := time.Unix(0, 0), pglogrepl.LSN(1)
		most := rapid.SampledFrom([]int{0, 20, perStep}).Draw(t, "idle, slow, busy")
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1000, 1500).Draw(t, "ms")) * time.Millisecond)
			applied += pglogrepl.LSN(rapid.IntRange(0, most).Draw(t, "bytes"))
			slot := keepWindow(&w, now, applied)
			if behind := uint64(applied - slot); behind >= w.maxBytes+perStep {
				t.Fatalf("%d bytes behind", behind)
			}
			oldest := w.oldest()
			if (slot == applied) != oldest.IsZero() {
				t.Fatalf("the slot is at %s, applied %s, oldest %s", slot, applied, oldest)
			}
			if !oldest.IsZero() && now.Sub(oldest) >= w.maxAge {
				t.Fatalf("%s behind", now.Sub(oldest))
			}
		}
	})
}

// Where nobody moves the slot for long, the marks become sparse, and it is known all
// the same since when, and where it belongs.
func TestReplayWindow_nobodyKeepsIt(t *testing.T) {
	w := replayWindow{maxAge: time.Minute, maxBytes: 1 << 40, slot: 1}
	start := time.Unix(1000, 0)
	const seconds = 100_000
	for i := range seconds {
		w.note(start.Add(time.Duration(i)*time.Second), pglogrepl.LSN(10+i))
	}
	require.LessOrEqual(t, len(w.marks), maxMarks)
	require.Equal(t, start, w.oldest())
	end := start.Add((seconds - 1) * time.Second)
	edge := w.edge(end, 10+seconds-1)
	require.LessOrEqual(t, edge, pglogrepl.LSN(10+seconds-1-60))
	require.Greater(t, edge, pglogrepl.LSN(10+seconds-1-1000))
	w.moved(5)
	require.Equal(t, start, w.oldest(), "it has gone back, by a crash say")
	w.moved(edge)
	require.Greater(t, w.oldest(), start)
}
