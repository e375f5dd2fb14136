package check

import (
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"sync"
	"time"

	"github.com/freshet-dev/freshet"
)

// maxRecent is how many ids are kept for those who resume from an old one.
const maxRecent = 1000

// recorder collects a history, window by window. Safe for concurrent use.
type recorder struct {
	of    *service
	start time.Time

	mu       sync.Mutex // guards all below
	h        *History
	heard    freshet.Revision   // the highest id that any stream showed
	ended    freshet.Epoch      // the highest that has surely ended; zero: none has
	begun    time.Duration      // when the first of its epoch was shown
	recent   []freshet.Revision // of the last notices, from all streams
	failures map[string]int     // what went wrong on the way, which breaks no rule
	progress Progress
	exact    int
	done     map[Exercise]int
	still    stillness

	// Exact positions of commits, by the low bits of xid: those that were learnt
	// during this window, and during the one before.
	positions, older map[uint64]uint64
	unsettled        []*Write // nobody was told their outcome
}

// Progress is what has happened so far.
type Progress struct {
	Elapsed                  time.Duration
	Writes, Notices, Reads   int
	Observations, Violations int // of the rounds that are over
	Failures, Checkpoints    int
	Connected, Clients       int
	LastFailure, Phase       string
	Faults                   int
	Fault                    string // the one that is on; empty: none
}

func newRecorder(of *service) *recorder {
	return &recorder{of: of, start: time.Now(), h: &History{}, failures: map[string]int{}, done: map[Exercise]int{}, positions: map[uint64]uint64{}}
}

func (r *recorder) now() time.Duration { return time.Since(r.start) }

func (r *recorder) frame(f Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Frames = append(r.h.Frames, f)
	if r.heard.Epoch < f.Revision.Epoch {
		r.begun = f.At
	}
	r.heard = r.heard.Max(f.Revision)
	switch f.Kind {
	case Invalidate, Part:
		for _, topic := range f.Topics {
			r.done[r.of.noticeOf(topic)]++
		}
		if f.Kind == Part {
			r.done["a notice in several frames"]++
			return
		}
		r.progress.Notices++
		r.recent = append(r.recent, f.Revision)
		r.recent = r.recent[max(0, len(r.recent)-maxRecent):]
	case Subscribe:
		for _, rev := range f.SinceBy {
			if rev != f.Since {
				r.done["since_by_topic"]++
				break
			}
		}
	default:
	}
}

// since is an id that some stream showed not long ago; zero: none has.
func (r *recorder) since(rng *rand.Rand) freshet.Revision {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.recent) == 0 {
		return freshet.Revision{}
	}
	return r.recent[rng.IntN(len(r.recent))]
}

// did counts exercises.
func (r *recorder) did(exercises ...Exercise) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range exercises {
		r.done[e]++
	}
}

func (r *recorder) read(read Read) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Reads = append(r.h.Reads, read)
	if !read.Failed {
		r.progress.Reads++
	}
}

func (r *recorder) write(w Write) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Writes = append(r.h.Writes, w)
	if w.Outcome == Committed {
		r.progress.Writes++
	}
}

func (r *recorder) view(views ...View) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Views = append(r.h.Views, views...)
	r.progress.Checkpoints++
}

// floor is a position that the next commit will surely be above.
func (r *recorder) floor() freshet.Revision {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == 0 {
		return r.heard
	}
	return r.heard.Max(freshet.Revision{Epoch: r.ended + 1})
}

// end says that an epoch has ended: nothing that is sent from now on is of it.
func (r *recorder) end(epoch freshet.Epoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = max(r.ended, epoch)
}

// particulars differ from one failure to the next, and what failed is the same:
// ports, requests, revisions.
var particulars = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`(Get|Post) "[^"]*": `), ""},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:…"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{16}`), "…"},
}

func (r *recorder) failed(what string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := what + ": " + err.Error()
	for _, p := range particulars {
		text = p.pattern.ReplaceAllString(text, p.instead)
	}
	r.failures[text]++
	r.progress.Failures++
	r.progress.LastFailure = text
}

// locate takes exact positions of commits, by the low bits of xid.
func (r *recorder) locate(positions map[uint64]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.Copy(r.positions, positions)
}

// open are the transactions whose outcome nobody was told. The caller may settle
// them while no rule is at work.
func (r *recorder) open() []*Write {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.h.Writes {
		if w := &r.h.Writes[i]; w.Outcome == Unknown && w.Xid != 0 {
			r.unsettled = append(r.unsettled, w)
		}
	}
	return r.unsettled
}

// closed: there is nothing more to learn of them.
func (r *recorder) closed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsettled = nil
}

// epoch is the highest that any stream has shown, and since when.
func (r *recorder) epoch() (freshet.Epoch, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard.Epoch, r.begun
}

// cut ends the window and returns it, with the exact positions put in. Writers
// must be at rest.
func (r *recorder) cut(held *Holding) *History {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.h
	h.Held = held
	for i := range h.Writes {
		w := &h.Writes[i]
		if held == nil && w.isLate() {
			w.After = freshet.Revision{} // there is nobody to say whether it is lost
		}
		at, ok := r.positions[w.Xid&math.MaxUint32]
		if !ok {
			at, ok = r.older[w.Xid&math.MaxUint32]
		}
		if ok && w.Outcome == Committed && !w.Upto.IsZero() {
			// A position alone names no epoch: that is the epoch of the bounds.
			w.At = freshet.Revision{Epoch: w.Upto.Epoch, Position: at}
			r.exact++
		}
	}
	r.h, r.older, r.positions = &History{}, r.positions, map[uint64]uint64{}
	return h
}

// fault says which one is on; empty: none.
func (r *recorder) fault(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.progress.Fault = name; name != "" {
		r.progress.Faults++
	}
}
