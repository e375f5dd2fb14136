package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freshet-dev/freshet"
)

func TestRule_tableIsTotal(t *testing.T) {
	for p := range phases {
		for k := range kinds {
			require.NotNil(t, table[p][k], "phase %d, kind %d", p, k)
		}
	}
}

// fetched is a rule that holds an answer stamped at position 1.
func fetched(t *testing.T) *Rule {
	t.Helper()
	r := new(Rule)
	step := r.On(Input{Kind: OnReady, Revision: rev(1)})
	require.Equal(t, &Request{Flight: 1, AtLeast: rev(1)}, step.Fetch)
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: 1, Revision: rev(1)}))
	require.Equal(t, Idle, r.Phase())
	return r
}

// Without a stream the first fetch is strong, and needs no stamp to be enough.
func TestRule_withoutStream(t *testing.T) {
	r := new(Rule)
	require.Equal(t, &Request{Flight: 1}, r.On(Input{Kind: OnTimer}).Fetch)
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: 1}).Keep)
	require.Equal(t, Idle, r.Phase())
	require.Equal(t, &Request{Flight: 2, AtLeast: rev(3)}, r.On(Input{Kind: OnReady, Revision: rev(3)}).Fetch)
}

// F28: 100 events during a flight cost one more fetch, at-least the last one.
func TestRule_manyEventsDuringAFlight(t *testing.T) {
	r := fetched(t)
	require.NotNil(t, r.On(Input{Kind: OnInvalidate, Revision: rev(2)}).Fetch)
	for i := range uint64(100) {
		require.Zero(t, r.On(Input{Kind: OnInvalidate, Revision: rev(3 + i)}))
	}
	step := r.On(Input{Kind: OnAnswer, Flight: 2, Revision: rev(2)})
	require.Equal(t, Step{Keep: true, Fetch: &Request{Flight: 3, AtLeast: rev(102)}}, step)
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: 3, Revision: rev(102)}))
	require.Equal(t, Idle, r.Phase())
}

// F29: of two answers the older arrives last.
func TestRule_olderAnswerLast(t *testing.T) {
	r := fetched(t)
	old := r.On(Input{Kind: OnRefresh}).Fetch
	main := r.On(Input{Kind: OnInvalidate, Revision: rev(7)}).Fetch
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: main.Flight, Revision: rev(7)}).Keep)
	require.Equal(t, Step{}, r.On(Input{Kind: OnAnswer, Flight: old.Flight, Revision: rev(5)}))
	require.Equal(t, rev(7), r.Have())
}

// A strong answer that was asked for later is kept though its stamp is lower:
// a frontier may have raised have past it.
func TestRule_strongAndLater(t *testing.T) {
	r := fetched(t)
	r.On(Input{Kind: OnFrontier, Revision: rev(9)})
	require.Equal(t, rev(9), r.Have())
	again := r.On(Input{Kind: OnRefresh}).Fetch
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: again.Flight, Revision: rev(8)}))
	require.Equal(t, rev(9), r.Have())
}

// F34: the epoch changes while a fetch is in flight.
func TestRule_epochChangesInFlight(t *testing.T) {
	next := func(p uint64) freshet.Revision { return freshet.Revision{Epoch: 11, Position: p} }
	r := fetched(t)
	old := r.On(Input{Kind: OnInvalidate, Revision: rev(100)}).Fetch
	require.Zero(t, r.On(Input{Kind: OnReset, Revision: next(5)}))
	step := r.On(Input{Kind: OnAnswer, Flight: old.Flight, Revision: rev(100)})
	require.False(t, step.Keep, "positions of different epochs are not compared")

	if step.Pause != nil { // with jitter
		step = r.On(Input{Kind: OnTimer})
	}
	require.Equal(t, next(5), step.Fetch.AtLeast)
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: step.Fetch.Flight, Revision: next(5)}))

	for _, kind := range []Kind{OnInvalidate, OnReady, OnFrontier, OnReset} {
		require.Zero(t, r.On(Input{Kind: kind, Revision: rev(200)}), "an old node still talks")
	}
	require.Equal(t, Idle, r.Phase())
}

// EPOCH_CHANGED: at-least is dropped, the retry is strong.
func TestRule_epochChangedError(t *testing.T) {
	r := fetched(t)
	f := r.On(Input{Kind: OnInvalidate, Revision: rev(2)}).Fetch
	step := r.On(Input{Kind: OnFailure, Flight: f.Flight, EpochChanged: true, Revision: freshet.Revision{Epoch: 11}})
	require.NotNil(t, step.Pause)
	step = r.On(Input{Kind: OnTimer})
	if step.Pause != nil {
		step = r.On(Input{Kind: OnTimer})
	}
	require.Zero(t, step.Fetch.AtLeast)
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: step.Fetch.Flight, Revision: freshet.Revision{Epoch: 11, Position: 1}}).Keep)
	require.Equal(t, Idle, r.Phase())
}

// F35: stamps that are never known cause a fetch at once, and then ever fewer.
func TestRule_unknownStamps(t *testing.T) {
	r := fetched(t)
	step := r.On(Input{Kind: OnInvalidate, Revision: rev(2)})
	var waited time.Duration
	var fetches int
	for waited < time.Hour {
		if step.Pause != nil {
			require.LessOrEqual(t, step.Pause.Least, ruleLongestPause)
			waited += step.Pause.Least
			step = r.On(Input{Kind: OnTimer})
		}
		fetches++
		require.Less(t, fetches, 150)
		step = r.On(Input{Kind: OnAnswer, Flight: step.Fetch.Flight})
		require.True(t, step.Keep, "it is newer than what is held, if not known how much")
	}
	require.Equal(t, rev(1), r.Have())
}

// F35: what came without a stamp isn't replaced by what was asked for before
// it came, whatever its stamp: that may be older.
func TestRule_unknownStampHeld(t *testing.T) {
	r := fetched(t)
	slow := r.On(Input{Kind: OnRefresh}).Fetch
	quick := r.On(Input{Kind: OnRefresh}).Fetch
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: quick.Flight}).Keep)
	require.False(t, r.On(Input{Kind: OnAnswer, Flight: slow.Flight, Revision: rev(2)}).Keep)
}

// unavailable: wait as told, and nothing but the timer ends that wait.
func TestRule_retryInfo(t *testing.T) {
	r := fetched(t)
	f := r.On(Input{Kind: OnInvalidate, Revision: rev(2)}).Fetch
	step := r.On(Input{Kind: OnFailure, Flight: f.Flight, Wait: time.Minute})
	require.Equal(t, time.Minute, step.Pause.Least)
	require.Zero(t, r.On(Input{Kind: OnFrontier, Revision: rev(3)}))
	require.Equal(t, rev(2), r.On(Input{Kind: OnTimer}).Fetch.AtLeast)
}

// Back-off, on the other hand, ends with the next frontier.
func TestRule_frontierEndsBackOff(t *testing.T) {
	r := fetched(t)
	f := r.On(Input{Kind: OnInvalidate, Revision: rev(2)}).Fetch
	require.NotNil(t, r.On(Input{Kind: OnFailure, Flight: f.Flight}).Pause)
	require.Equal(t, rev(2), r.On(Input{Kind: OnFrontier, Revision: rev(3)}).Fetch.AtLeast)
}

// world is a server with one topic, its stream, and the requests under way.
type world struct {
	t       *rapid.T
	rule    Rule
	now     freshet.Revision
	content int                      // what a read sees now; grows with every change of the topic
	at      map[freshet.Revision]int // content at each revision
	stream  []Input                  // not yet delivered
	flights []*worldFlight
	shown   int
	fetches int
}

type worldFlight struct {
	Request
	processed bool
	end       Input
	content   int
}

func (w *world) do(in Input, content int) {
	step := w.rule.On(in)
	if step.Keep {
		if content < w.shown {
			w.t.Fatalf("G4: content %d replaced by %d", w.shown, content)
		}
		w.shown = content
	}
	if step.Fetch != nil {
		w.fetches++
		w.flights = append(w.flights, &worldFlight{Request: *step.Fetch})
	}
	if step.Fetch != nil && step.Pause != nil {
		w.t.Fatal("both a fetch and a pause")
	}
	if step.Pause != nil && w.rule.Phase() != Pausing {
		w.t.Fatal("a pause outside of Pausing")
	}
	if w.rule.Phase() == Idle && !w.rule.Fresh() {
		w.t.Fatal("idle, but not fresh")
	}
	if have := w.rule.Have(); !have.IsZero() && w.rule.held && w.shown < w.at[have] {
		w.t.Fatalf("have %v is a lie: content %d shown, %d then", have, w.shown, w.at[have])
	}
	if w.rule.Phase() == Flying {
		mains := 0
		for _, f := range w.rule.flights {
			if f.main {
				mains++
			}
		}
		if mains != 1 {
			w.t.Fatalf("%d main flights", mains)
		}
	}
}

func (w *world) commit(onTopic bool) {
	w.now.Position++
	if onTopic {
		w.content++
		w.stream = append(w.stream, Input{Kind: OnInvalidate, Revision: w.now})
	}
	w.at[w.now] = w.content
}

func (w *world) deliver() {
	in := w.stream[0]
	w.stream = w.stream[1:]
	w.do(in, 0)
}

// process runs the query of a flight.
func (w *world) process(f *worldFlight) {
	f.processed = true
	f.content = w.content
	f.end = Input{Kind: OnAnswer, Flight: f.Flight, Revision: w.now}
	if !f.AtLeast.IsZero() && f.AtLeast.Epoch < w.now.Epoch {
		f.end = Input{Kind: OnFailure, Flight: f.Flight, EpochChanged: true, Revision: freshet.Revision{Epoch: w.now.Epoch}}
	}
}

func (w *world) land(i int) {
	f := w.flights[i]
	w.flights = append(w.flights[:i], w.flights[i+1:]...)
	w.do(f.end, f.content)
}

func TestRule_model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, now: rev(1), at: map[freshet.Revision]int{}, content: 1}
		w.at[w.now] = 1
		w.stream = []Input{{Kind: OnReady, Revision: w.now}}
		pick := func() int { return rapid.IntRange(0, len(w.flights)-1).Draw(t, "flight") }
		some := func(f func()) func(*rapid.T) {
			return func(t *rapid.T) {
				if len(w.flights) == 0 {
					t.Skip()
				}
				f()
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"change":    func(*rapid.T) { w.commit(true) },
			"other":     func(*rapid.T) { w.commit(false) },
			"heartbeat": func(*rapid.T) { w.stream = append(w.stream, Input{Kind: OnFrontier, Revision: w.now}) },
			"resume":    func(*rapid.T) { w.stream = append(w.stream, Input{Kind: OnReady, Revision: w.now, Resumed: true}) },
			"epoch": func(t *rapid.T) {
				w.now = freshet.Revision{Epoch: w.now.Epoch + 1, Position: rapid.Uint64Range(1, 20).Draw(t, "position")}
				w.content++
				w.at[w.now] = w.content
				if rapid.Bool().Draw(t, "cut") {
					w.stream = nil
				}
				w.stream = append(w.stream, Input{Kind: OnReset, Revision: w.now})
			},
			"reset": func(*rapid.T) { w.stream = append(w.stream, Input{Kind: OnReset, Revision: w.now}) },
			"deliver": func(t *rapid.T) {
				if len(w.stream) == 0 {
					t.Skip()
				}
				w.deliver()
			},
			"process": some(func() {
				if f := w.flights[pick()]; !f.processed {
					w.process(f)
				}
			}),
			"land": some(func() {
				if i := pick(); w.flights[i].processed {
					w.land(i)
				}
			}),
			"fail": some(func() {
				i := pick()
				w.flights[i].end = Input{Kind: OnFailure, Flight: w.flights[i].Flight,
					Wait: time.Duration(rapid.IntRange(0, 1).Draw(t, "wait")) * time.Second}
				w.land(i)
			}),
			"unknown": some(func() { // F35
				i := pick()
				if f := w.flights[i]; f.processed && f.end.Kind == OnAnswer {
					f.end.Revision = freshet.Revision{}
					w.land(i)
				}
			}),
			"timer":   func(*rapid.T) { w.do(Input{Kind: OnTimer}, 0) },
			"refresh": func(*rapid.T) { w.do(Input{Kind: OnRefresh}, 0) },
		})

		// Writes stop, the network heals: it converges (G3), and not by
		// fetching on and on.
		before, steps := w.fetches, 0
		for len(w.stream) > 0 || len(w.flights) > 0 || w.rule.Phase() != Idle {
			if steps++; steps > 1000 {
				t.Fatalf("does not settle: %+v", w.rule)
			}
			switch {
			case len(w.stream) > 0:
				w.deliver()
			case len(w.flights) > 0:
				w.process(w.flights[0])
				w.land(0)
			default:
				w.do(Input{Kind: OnTimer}, 0)
			}
		}
		if w.shown != w.content {
			t.Fatalf("G3: shows %d, the database holds %d: %+v", w.shown, w.content, w.rule)
		}
		if w.fetches-before > 5 {
			t.Fatalf("%d fetches to settle", w.fetches-before)
		}
	})
}
