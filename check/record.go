package check

import (
	"maps"
	"math"
	"sync"
	"time"

	"github.com/freshet-dev/freshet"
)

// recorder collects a history. Safe for concurrent use.
type recorder struct {
	start time.Time

	mu       sync.Mutex // guards all below
	h        History
	heard    freshet.Revision // the highest id that any stream showed
	failures map[string]int   // what went wrong on the way, which breaks no rule
	progress Progress

	positions map[uint64]uint64 // of commits, by the low bits of xid
}

// Progress is what has happened so far.
type Progress struct {
	Elapsed                time.Duration
	Writes, Notices, Reads int
	Failures, Checkpoints  int
	Connected, Clients     int
	LastFailure, Phase     string
}

func newRecorder() *recorder {
	return &recorder{start: time.Now(), failures: map[string]int{}, positions: map[uint64]uint64{}}
}

func (r *recorder) now() time.Duration { return time.Since(r.start) }

func (r *recorder) frame(f Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Frames = append(r.h.Frames, f)
	r.heard = r.heard.Max(f.Revision)
	if f.Kind == Invalidate {
		r.progress.Notices++
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
	return r.heard
}

func (r *recorder) failed(what string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := what + ": " + err.Error()
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

// unsettled are the transactions whose outcome nobody was told, and where they
// are in the history.
func (r *recorder) unsettled() (at []int, writes []Write) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, w := range r.h.Writes {
		if w.Outcome == Unknown && w.Xid != 0 {
			at, writes = append(at, i), append(writes, w)
		}
	}
	return at, writes
}

func (r *recorder) settle(at []int, outcomes []Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, outcome := range outcomes {
		r.h.Writes[at[n]].Outcome = outcome
	}
}

// history is what has been recorded, with the exact positions put in. The
// recorder must be at rest.
func (r *recorder) history() (h *History, exact int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.h.Writes {
		w := &r.h.Writes[i]
		at, ok := r.positions[w.Xid&math.MaxUint32]
		if ok && w.Outcome == Committed && !w.Upto.IsZero() {
			// A position alone names no epoch: that is the epoch of the bounds.
			w.At = freshet.Revision{Epoch: w.Upto.Epoch, Position: at}
			exact++
		}
	}
	return &r.h, exact
}
