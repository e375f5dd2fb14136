package rule

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/freshet-dev/freshet"
)

// world is a server with one topic, its stream, and the requests under way.
type world struct {
	t       *rapid.T
	rule    Rule
	now     freshet.Revision
	changed freshet.Revision         // the last change of the topic
	content int                      // what a read sees now; grows with every change of the topic
	at      map[freshet.Revision]int // content at each revision
	ends    map[freshet.Epoch]uint64 // the last position of each epoch
	stream  []Input                  // not yet delivered
	flights []*worldFlight
	shown   int
	blind   bool // by an answer without a stamp
	least   int  // what an answer has to hold to be shown
	fetches int

	// A database that was switched to and back from, which some nodes still read.
	other        freshet.Revision
	otherContent int
}

type worldFlight struct {
	Request
	processed bool
	reused    bool
	end       Input
	content   int
}

func (w *world) do(in Input, content int) {
	step := w.rule.On(in)
	if step.Keep {
		if content < w.least {
			w.t.Fatalf("G4: content %d replaced by %d", w.least, content)
		}
		w.shown, w.least, w.blind = content, content, in.Revision.IsZero()
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
		w.changed = w.now
		w.stream = append(w.stream, Input{Kind: OnInvalidate, Revision: w.now})
	}
	w.at[w.now] = w.content
}

func (w *world) deliver() {
	in := w.stream[0]
	w.stream = w.stream[1:]
	if w.rule.Behind(in) {
		w.reconnect(w.rule.Since())
		return
	}
	if in.Kind == OnReset && !w.other.IsZero() {
		w.least = 0 // there and back: whoever is told so late sees it all once more
	}
	w.do(in, 0)
}

// process runs the query of a flight.
func (w *world) process(f *worldFlight) {
	w.answer(f, w.now, w.content)
}

// answer ends a flight by a node that is at a revision.
func (w *world) answer(f *worldFlight, node freshet.Revision, content int) {
	f.processed = true
	f.content = content
	f.end = Input{Kind: OnAnswer, Flight: f.Flight, Revision: node}
	switch {
	case f.AtLeast.IsZero():
	case f.AtLeast.Epoch < node.Epoch:
		f.end = Input{Kind: OnFailure, Flight: f.Flight, EpochChanged: true, Revision: freshet.Revision{Epoch: node.Epoch}}
	case f.AtLeast.Epoch > node.Epoch:
		f.end = Input{Kind: OnFailure, Flight: f.Flight, Wait: time.Second}
	case node.Less(f.AtLeast):
		f.end = Input{Kind: OnFailure, Flight: f.Flight, Unknown: true}
	}
}

// reuse answers a flight by an older answer that was kept, as far as at-least allows.
func (w *world) reuse(f *worldFlight, ago uint64) {
	node := w.now
	// What is held without a stamp can't be compared with what was kept (F35).
	if !w.blind && !f.AtLeast.IsZero() && f.AtLeast.Epoch == node.Epoch && !node.Less(f.AtLeast) {
		node.Position -= min(ago, node.Position-max(f.AtLeast.Position, 1))
		if _, known := w.at[node]; known {
			w.answer(f, node, w.at[node])
			f.reused = true
			return
		}
	}
	w.process(f)
}

// begin makes another history the current one.
func (w *world) begin(now freshet.Revision, cut bool) {
	w.now, w.changed = now, now
	w.content++
	w.at[now] = w.content
	if cut {
		w.stream = nil
	}
	w.stream = append(w.stream, Input{Kind: OnReset, Revision: now})
}

// known reports whether the rule has heard of the history that was left. If it
// hasn't, an answer from there looks like the news.
func (w *world) known() bool { return max(w.rule.epoch, w.rule.left) >= w.other.Epoch }

// reconnect opens another stream.
func (w *world) reconnect(since freshet.Revision) {
	w.stream = nil
	switch {
	case since.IsZero():
		// A frame between subscribing and ready says nothing of before.
		w.stream = append(w.stream, Input{Kind: OnFrontier, Revision: w.now})
	case since.Epoch != w.now.Epoch:
		w.stream = append(w.stream, Input{Kind: OnReset, Revision: w.now})
	case since.Less(w.changed):
		w.stream = append(w.stream, Input{Kind: OnInvalidate, Revision: w.changed})
	}
	w.stream = append(w.stream, Input{Kind: OnReady, Revision: w.now, Resumed: since.Position > 0})
}

func (w *world) land(i int) {
	f := w.flights[i]
	w.flights = append(w.flights[:i], w.flights[i+1:]...)
	w.do(f.end, f.content)
}

func TestRule_model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, now: rev(1), changed: rev(1), at: map[freshet.Revision]int{}, content: 1, ends: map[freshet.Epoch]uint64{}}
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
				w.ends[w.now.Epoch] = w.now.Position
				next := freshet.Revision{Epoch: w.now.Epoch + 1, Position: rapid.Uint64Range(1, 20).Draw(t, "position")}
				for w.ends[next.Epoch] > 0 { // no two histories have one
					next.Epoch++
				}
				w.begin(next, rapid.Bool().Draw(t, "cut"))
			},
			"ahead": func(*rapid.T) { // an answer leads to another history before the stream does
				w.ends[w.now.Epoch] = w.now.Position
				next := freshet.Revision{Epoch: w.now.Epoch + 1, Position: 1}
				for w.ends[next.Epoch] > 0 {
					next.Epoch++
				}
				w.begin(next, true)
				w.commit(true)
				w.do(Input{Kind: OnRefresh}, 0)
				w.process(w.flights[len(w.flights)-1])
				w.land(len(w.flights) - 1)
				w.deliver()
				w.do(Input{Kind: OnTimer}, 0)
			},
			"back": func(t *rapid.T) { // F77
				before := w.now.Epoch - 1
				if w.ends[before] == 0 {
					t.Skip()
				}
				w.ends[w.now.Epoch] = w.now.Position
				w.other, w.otherContent = w.now, w.content
				for _, f := range w.flights {
					if f.end.Revision.Epoch == w.now.Epoch && !w.known() {
						f.end = Input{Kind: OnFailure, Flight: f.Flight}
					}
				}
				w.begin(freshet.Revision{Epoch: before, Position: w.ends[before] + 1}, rapid.Bool().Draw(t, "cut"))
			},
			"stray": some(func() { // F77: read where the switch back isn't known yet
				if f := w.flights[pick()]; !f.processed && !w.other.IsZero() && w.known() {
					w.answer(f, w.other, w.otherContent)
				}
			}),
			"restart": func(t *rapid.T) { // F88
				since := w.rule.Since()
				if rapid.Bool().Draw(t, "without") {
					since = freshet.Revision{}
				}
				w.rule.Rest()
				w.flights = nil
				w.reconnect(since)
			},
			"future": func(*rapid.T) {
				unknown := w.now
				unknown.Position += 1000
				w.do(Input{Kind: OnInvalidate, Revision: unknown, Own: true}, 0)
			},
			"wrote": func(*rapid.T) { // where the switch back isn't known yet
				if !w.other.IsZero() && w.known() {
					w.do(Input{Kind: OnInvalidate, Revision: w.other, Own: true}, 0)
				}
			},
			"reuse": some(func() {
				if f := w.flights[pick()]; !f.processed {
					w.reuse(f, rapid.Uint64Range(1, 20).Draw(t, "ago"))
				}
			}),
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
				// One of a history that was left, or one that was kept, has nothing
				// but its stamp to tell its age.
				if f := w.flights[i]; f.processed && !f.reused && w.other.IsZero() && f.end.Kind == OnAnswer {
					f.end.Revision = freshet.Revision{}
					w.land(i)
				}
			}),
			"timer":   func(*rapid.T) { w.do(Input{Kind: OnTimer}, 0) },
			"refresh": func(*rapid.T) { w.do(Input{Kind: OnRefresh}, 0) },
			"another": func(*rapid.T) { w.do(Input{Kind: OnAnother}, 0) },
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
