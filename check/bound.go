package check

import (
	"context"
	"errors"
	"time"
)

// bound is the time in which clients have to converge: the seconds that they had, not
// those in which the checker stood still, and they with it.
type bound struct {
	began, patience time.Duration
	stood           time.Duration // recorder.stood when it began
}

// last is the end of it all: for who comes and goes all the time, and for a database
// that nobody serves.
func (b bound) last(rec *recorder) time.Duration {
	return b.began + 4*b.patience + rec.stood() - b.stood
}

// of is when a client has to show what Postgres holds: so long after writes have
// stopped, after its stream has begun, or begun anew, and after anybody was told of
// the epoch that it holds it in, whatever came last. Unless known, it is the end of it
// all, and nobody can be held to that: its time isn't over then, or what Postgres was
// said to hold is of an epoch that is over.
func (b bound) of(s *subject, held *Held, rec *recorder) (due time.Duration, known bool) {
	served, begun := rec.epoch()
	last := b.last(rec)
	s.mu.Lock()
	due = max(b.began, begun, s.since) + b.patience + rec.stood() - b.stood
	s.mu.Unlock()
	known = due <= last && held.Epoch >= served
	if held.Epoch != served {
		return last, known // a failover is going on
	}
	return min(due, last), known
}

// stillness finds out for how long a process got no time: by a tick that is long overdue.
type stillness struct {
	ticked time.Duration // last; zero: nobody ticks
	sum    time.Duration
}

const (
	tickInterval = 100 * time.Millisecond
	// noTime is how long after a tick nobody here can have done what takes milliseconds.
	noTime = time.Second
)

// at is how long it stood still until now.
func (s *stillness) at(now time.Duration) time.Duration {
	if gap := now - s.ticked; s.ticked > 0 && gap > noTime {
		return s.sum + gap
	}
	return s.sum
}

// tick says that there was time now, and whether there had been none before.
func (s *stillness) tick(now time.Duration) (stood bool) {
	before := s.sum
	s.sum, s.ticked = s.at(now), now
	return s.sum > before
}

var errNoTime = errors.New("a second or more of which it got nothing: the machine was paused, or has too much to do")

// tick keeps the time of a run until ctx ends.
func (r *recorder) tick(ctx context.Context) {
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		stood := r.still.tick(r.now())
		r.mu.Unlock()
		if stood {
			r.failed("the checker's time", errNoTime)
		}
	}
}

// stood is for how long, in all, the checker has got no time.
func (r *recorder) stood() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.still.at(r.now())
}
