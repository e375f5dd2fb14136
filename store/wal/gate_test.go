package wal

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSnapshot_shows(t *testing.T) {
	s, err := parseSnapshot("10:20:12,15")
	require.NoError(t, err)
	for xid, want := range map[uint32]bool{9: true, 10: true, 12: false, 15: false, 19: true, 20: false, 21: false} {
		require.Equalf(t, want, s.shows(xid), "xid %d", xid)
	}
	var none *snapshot
	require.False(t, none.shows(1), "no snapshot shows nothing")

	// Across 2³²: the stream has the low 32 bits only.
	s, err = parseSnapshot("4294967290:4294967300:4294967295,4294967297")
	require.NoError(t, err)
	for xid, want := range map[uint32]bool{4294967294: true, 4294967295: false, 0: true, 1: false, 3: true, 4: false, 5: false} {
		require.Equalf(t, want, s.shows(xid), "xid %d", xid)
	}
	for _, bad := range []string{"", "1:2", "a:2:", "1:b:", "1:2:x", "1:2:3:4"} {
		_, err := parseSnapshot(bad)
		require.Errorf(t, err, "%q", bad)
	}
}

// TestGate_model drives the gate with random orders of commits, keepalives and
// visibility. What leaves is a prefix of what came, each commit only after a
// snapshot showed it, and nothing visible is left behind at the end.
func TestGate_model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			g         gate
			end       pglogrepl.LSN
			next      = rapid.Uint32().Draw(t, "first xid") // also around the wrap
			running   []uint32
			committed = map[uint32]pglogrepl.LSN{} // pushed, not yet visible
			pushed    []pglogrepl.LSN              // commits, in order
			released  int
			last      pglogrepl.LSN
		)
		look := func() *snapshot {
			s := &snapshot{xmax: next}
			s.xip = append(s.xip, running...)
			for xid := range committed {
				s.xip = append(s.xip, xid)
			}
			return s
		}
		release := func(s *snapshot) {
			for _, w := range g.release(s, nil) {
				if w.end < last {
					t.Fatalf("%s left after %s", w.end, last)
				}
				last = w.end
				for released < len(pushed) && pushed[released] <= w.end {
					released++
				}
				for xid, lsn := range committed {
					if lsn <= w.end {
						t.Fatalf("xid %d at %s is invisible, and %s left", xid, lsn, w.end)
					}
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				running = append(running, next)
				next++
			},
			"commit": func(t *rapid.T) {
				if len(running) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(running)-1).Draw(t, "which")
				xid := running[i]
				running = append(running[:i], running[i+1:]...)
				end += pglogrepl.LSN(rapid.IntRange(1, 9).Draw(t, "bytes"))
				committed[xid] = end
				pushed = append(pushed, end)
				g.push(&transaction{xid: xid, end: end})
			},
			"show": func(t *rapid.T) {
				for xid := range committed {
					if rapid.Bool().Draw(t, "shown") {
						delete(committed, xid)
					}
				}
			},
			"keepalive": func(*rapid.T) { g.advance(end) },
			"snapshot":  func(*rapid.T) { release(look()) },
			"none":      func(*rapid.T) { release(nil) },
		})
		clear(committed)
		release(look())
		require.Equal(t, len(pushed), released, "everything visible has left")
		require.Empty(t, g.queue)
	})
}

func TestGate_keepaliveWaitsBehindACommit(t *testing.T) {
	var g gate
	g.push(&transaction{xid: 5, end: 100})
	g.advance(200)
	require.Empty(t, g.release(&snapshot{xmax: 6, xip: []uint32{5}}, nil))
	require.Empty(t, g.release(nil, nil))
	out := g.release(&snapshot{xmax: 6}, nil)
	require.Len(t, out, 2)
	require.Equal(t, pglogrepl.LSN(200), out[1].end)
}

// TestGate_heldIsBounded: a gate that is held for long merges what comes, and
// still tells all of it, at a revision that is true for each.
func TestGate_heldIsBounded(t *testing.T) {
	var g gate
	const commits = 5 * maxWaiting
	for i := range uint32(commits) {
		g.push(&transaction{xid: i, end: pglogrepl.LSN(10 * (i + 1)), topics: []string{fmt.Sprint("t", i%500)}})
	}
	require.LessOrEqual(t, len(g.queue), maxWaiting+1)
	require.Empty(t, g.release(&snapshot{xmax: commits, xip: []uint32{0}}, nil))
	require.LessOrEqual(t, len(g.queue[len(g.queue)-1].topics), 500)

	out := g.release(&snapshot{xmax: commits}, nil)
	require.Equal(t, pglogrepl.LSN(10*commits), out[len(out)-1].end)
	last := map[string]pglogrepl.LSN{}
	for _, w := range out {
		for _, topic := range w.topics {
			last[topic] = w.end
		}
	}
	for i := range 500 {
		require.GreaterOrEqual(t, last[fmt.Sprint("t", i)], pglogrepl.LSN(10*(commits-500+i+1)))
	}
}

func TestGate_mergedTopicsAreBounded(t *testing.T) {
	var g gate
	for i := range uint32(maxWaiting + 2*maxTransactionTopics + 10) {
		g.push(&transaction{xid: i, end: pglogrepl.LSN(i + 1), topics: []string{fmt.Sprint("t", i)}})
	}
	tail := g.queue[len(g.queue)-1]
	require.LessOrEqual(t, len(tail.topics), maxTransactionTopics)
	require.Contains(t, tail.floors, allTopics)
}

func BenchmarkGate(b *testing.B) {
	var g gate
	var out []waiting
	s := &snapshot{}
	for i := range b.N {
		g.push(&transaction{xid: uint32(i), end: pglogrepl.LSN(i + 1)})
		s.xmax = uint32(i + 1)
		out = g.release(s, out[:0])
	}
}

// A snapshot is asked about later commits for a second and no longer: ids are
// compared modulo 2³², so that an old one would take a commit from 2³¹ ids
// later for one that has ended before it.
func TestSession_snapshotIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session{f: &Feed{}, snap: &snapshot{xmax: 6}, snapAt: time.Now()}
		far := uint32(6 + 1<<31 + 5)
		s.gate.push(&transaction{xid: 5, end: 10})
		batch, holds := s.through(s.recent(), nil)
		require.Len(t, batch, 1)
		require.False(t, holds)
		time.Sleep(snapshotAge + time.Millisecond)
		s.gate.push(&transaction{xid: far, end: 20})
		batch, holds = s.through(s.recent(), nil)
		require.Empty(t, batch)
		require.True(t, holds)
		require.True(t, (&snapshot{xmax: 6}).shows(far), "what would happen")
	})
}
