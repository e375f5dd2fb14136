package wal

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freshet-dev/freshet"
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

// recorder is a sink that keeps the revision at which each topic and floor was
// told, and checks the order.
type recorder struct {
	t        *rapid.T
	topics   map[string]uint64
	floors   map[freshet.Pattern]uint64
	frontier uint64
}

func (r *recorder) to(rev freshet.Revision) {
	if rev.Position <= r.frontier {
		r.t.Fatalf("%x is told after %x", rev.Position, r.frontier)
	}
	r.frontier = rev.Position
}

func (r *recorder) Publish(c freshet.Commit) {
	r.to(c.Revision)
	for _, topic := range c.Topics {
		r.topics[topic] = c.Revision.Position
	}
	for _, floor := range c.Floors {
		r.floors[floor] = c.Revision.Position
	}
}

func (r *recorder) Advance(rev freshet.Revision) { r.to(rev) }
func (*recorder) Begin(freshet.Revision)         {}
func (*recorder) Serve(freshet.Revision)         {}
func (*recorder) Current(time.Time)              {}
func (*recorder) Quarantine([]freshet.Pattern)   {}

// pushedTx is a commit of the model, and the channel of the writer who waits
// for it.
type pushedTx struct {
	*transaction
	own <-chan freshet.Commit
}

// TestGate_model (F1, F2, F67) drives the gate with random orders of commits,
// keepalives and visibility, and with so little room that it is full most of the
// time. What leaves is a prefix of what came, each commit only after a snapshot
// showed it; whatever the frontier has passed was told, all of it; a writer gets
// the topics of its own commit or none; and nothing visible is left behind.
func TestGate_model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			sink = &recorder{t: t, topics: map[string]uint64{}, floors: map[freshet.Pattern]uint64{}}
			feed = &Feed{cfg: Config{Sink: sink}, quarantine: newQuarantine(nil), serving: true, expected: map[uint32]chan freshet.Commit{}}
			s    = &session{f: feed}

			end       pglogrepl.LSN
			next      = rapid.Uint32().Draw(t, "first xid") // also around the wrap
			running   []uint32
			committed = map[uint32]pglogrepl.LSN{} // pushed, not yet visible
			pushed    []pushedTx                   // in order
		)
		s.gate.limit = rapid.IntRange(0, 6).Draw(t, "limit")
		look := func() *snapshot {
			s := &snapshot{xmax: next}
			s.xip = append(s.xip, running...)
			for xid := range committed {
				s.xip = append(s.xip, xid)
			}
			return s
		}
		release := func(snap *snapshot) {
			for _, w := range s.gate.release(snap, 1<<62, nil) {
				s.apply(&w)
				for xid, lsn := range committed {
					if lsn <= w.end {
						t.Fatalf("xid %d at %s is invisible, and %s left", xid, lsn, w.end)
					}
				}
			}
			for len(pushed) > 0 && uint64(pushed[0].end) <= sink.frontier {
				requireTold(t, sink, pushed[0])
				pushed = pushed[1:]
			}
			for _, tx := range pushed {
				require.Emptyf(t, tx.own, "xid %d is told before the frontier has passed it", tx.xid)
			}
			require.LessOrEqual(t, len(s.gate.queue), s.gate.limit+1)
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(*rapid.T) {
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
				tx := &transaction{
					xid: xid, end: end,
					topics: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 3, rapid.ID).Draw(t, "topics"),
					floors: rapid.SliceOfNDistinct(rapid.SampledFrom([]freshet.Pattern{"e/*", "f/**"}), 0, 2, rapid.ID).Draw(t, "floors"),
				}
				own, _ := feed.Expect(uint64(xid))
				pushed = append(pushed, pushedTx{tx, own})
				s.gate.push(tx)
			},
			"show": func(t *rapid.T) {
				for _, xid := range slices.Sorted(maps.Keys(committed)) {
					if rapid.Bool().Draw(t, "shown") {
						delete(committed, xid)
					}
				}
			},
			"keepalive": func(t *rapid.T) {
				end += pglogrepl.LSN(rapid.IntRange(0, 1).Draw(t, "bytes")) // of somebody else's WAL
				s.gate.advance(end)
			},
			"snapshot": func(*rapid.T) { release(look()) },
			"none":     func(*rapid.T) { release(nil) },
		})
		clear(committed)
		release(look())
		require.Empty(t, pushed, "everything visible has left")
		require.Empty(t, s.gate.queue)
	})
}

// requireTold requires that a commit which the frontier has passed was told.
func requireTold(t *rapid.T, sink *recorder, tx pushedTx) {
	for _, topic := range tx.topics {
		require.GreaterOrEqualf(t, sink.topics[topic], uint64(tx.end), "topic %q of xid %d", topic, tx.xid)
	}
	for _, floor := range tx.floors {
		require.GreaterOrEqualf(t, sink.floors[floor], uint64(tx.end), "floor %q of xid %d", floor, tx.xid)
	}
	select {
	case own := <-tx.own:
		require.GreaterOrEqual(t, own.Revision.Position, uint64(tx.end))
		if own.Topics != nil {
			require.ElementsMatch(t, tx.topics, own.Topics, "a writer gets the topics of its own commit")
			require.Empty(t, tx.floors)
		}
	default: // merged behind another: its writer waits for the position
	}
}

func TestGate_keepaliveWaitsBehindACommit(t *testing.T) {
	g := gate{limit: maxWaiting}
	g.push(&transaction{xid: 5, end: 100})
	g.advance(200)
	require.Empty(t, g.release(&snapshot{xmax: 6, xip: []uint32{5}}, 1<<62, nil))
	require.Empty(t, g.release(nil, 1<<62, nil))
	out := g.release(&snapshot{xmax: 6}, 1<<62, nil)
	require.Len(t, out, 2)
	require.Equal(t, pglogrepl.LSN(200), out[1].end)
}

// TestGate_heldIsBounded: a gate that is held for long merges what comes, and
// still tells all of it, at a revision that is true for each.
func TestGate_heldIsBounded(t *testing.T) {
	const limit = 100
	const commits = 50 * limit
	g := gate{limit: limit}
	for i := range uint32(commits) {
		g.push(&transaction{xid: i, end: pglogrepl.LSN(10 * (i + 1)), topics: []string{fmt.Sprint("t", i%500)}})
	}
	require.LessOrEqual(t, len(g.queue), limit+1)
	require.Empty(t, g.release(&snapshot{xmax: commits, xip: []uint32{0}}, 1<<62, nil))
	tail := g.queue[len(g.queue)-1]
	require.LessOrEqual(t, len(tail.topics), 500)
	require.Less(t, len(tail.hidden), minSift, "what a snapshot has shown is forgotten")

	out := g.release(&snapshot{xmax: commits}, 1<<62, nil)
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
	g := gate{limit: 10}
	for i := range uint32(10 + 2*maxTransactionTopics + 10) {
		g.push(&transaction{xid: i, end: pglogrepl.LSN(i + 1), topics: []string{fmt.Sprint("t", i)}})
	}
	tail := g.queue[len(g.queue)-1]
	require.LessOrEqual(t, len(tail.topics), maxTransactionTopics)
	require.Contains(t, tail.floors, allTopics)
}

func BenchmarkGate(b *testing.B) {
	g := gate{limit: maxWaiting}
	var out []waiting
	s := &snapshot{}
	for i := range b.N {
		g.push(&transaction{xid: uint32(i), end: pglogrepl.LSN(i + 1)})
		s.xmax = uint32(i + 1)
		out = g.release(s, 1<<62, out[:0])
	}
}

// A snapshot is asked about later commits for a second and no longer: ids are
// compared modulo 2³², so that an old one would take a commit from 2³¹ ids
// later for one that has ended before it.
func TestSession_snapshotIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session{f: &Feed{}, snap: &snapshot{xmax: 6}, snapAt: time.Now(), looked: 20}
		s.gate.limit = maxWaiting
		far := uint32(6 + 1<<31 + 5)
		s.gate.push(&transaction{xid: 5, end: 10})
		batch, waits := s.through(s.recent(), nil)
		require.Len(t, batch, 1)
		require.Equal(t, nothing, waits)
		time.Sleep(snapshotAge + time.Millisecond)
		s.gate.push(&transaction{xid: far, end: 20})
		batch, waits = s.through(s.recent(), nil)
		require.Empty(t, batch)
		require.Equal(t, aCommit, waits)
		require.True(t, (&snapshot{xmax: 6}).shows(far), "what would happen")
	})
}
