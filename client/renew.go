package client

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/freshet-dev/freshet"
)

// A stream whose token expires is replaced before that (make before break): the next
// one is opened with a fresh token, from where the current one is. It is read up to
// its ready and then waits, while the current one still tells. When that has told all
// that the next one's catch-up says, which takes as long as its throttle, the next one
// takes its place. So nothing is told twice, and nothing is left out: the next one has
// begun at an id up to which all was told.

const (
	// maxMargin is the longest time before its end that a stream is replaced.
	maxMargin = 5 * time.Minute
	// maxOverlap is how long the next stream waits for the current one.
	maxOverlap = 2 * time.Second
	// leastAgain is the least wait before a source is asked again that had no other
	// token.
	leastAgain = 20 * time.Millisecond
)

// errSameToken ends a renewal whose token is the one that the stream has.
var errSameToken = errors.New("the token source has no other token yet")

// renewal says when to renew.
type renewal struct {
	enabled bool
	due     *time.Timer
	overlap *time.Timer // the next stream has waited for long enough
	expires time.Time
	backoff backoff // after one that failed
}

func newRenewal(c *Client) renewal {
	r := renewal{
		enabled: c.token != nil,
		due:     time.NewTimer(time.Hour),
		overlap: time.NewTimer(time.Hour),
		backoff: backoff{first: c.backoffMin, longest: c.backoffMax},
	}
	r.stop()
	return r
}

func (r *renewal) stop() {
	r.due.Stop()
	r.overlap.Stop()
}

// plan sets out to renew before a token is over that counts for so long; 0: it is
// never over. Thousands of clients that begin together don't renew together.
func (r *renewal) plan(left time.Duration) {
	r.stop()
	r.backoff.reset()
	if !r.enabled || left <= 0 {
		return
	}
	r.expires = time.Now().Add(left)
	margin := min(left/5, maxMargin)
	r.due.Reset(left - margin + rand.N(margin/2+1)) //nolint:gosec // jitter
}

// again sets out to ask for a token later that the source didn't have yet: many have
// one only when the other is about to end.
func (r *renewal) again() {
	if left := time.Until(r.expires); r.enabled && left > 0 {
		r.due.Reset(max(left/2, leastAgain))
	}
}

// afterFailure is how long to wait after one more failure: not so long that there would
// be no try before the end.
func (r *renewal) afterFailure() time.Duration {
	return min(r.backoff.next(), max(time.Until(r.expires)/2, r.backoff.first))
}

// hearNext takes what the next attempt tells, while the current one goes on.
func (s *stream) hearNext(ctx context.Context, t told) error {
	a := t.by
	switch {
	case t.ended:
		s.abandonNext()
		return s.renewalFailed(ctx, t.err)
	case t.opened:
		a.isOpen = true
		a.idle.setLimit(s.silence)
		return s.answer(a, nil)
	}
	e, err := s.read(a, t.frame)
	switch e := e.(type) {
	case Invalidate:
		a.held = append(a.held, e)
	case Ready:
		a.ready, a.since = &e, time.Now()
		if s.isRepeated(a) {
			return s.switchOver()
		}
		s.renewal.overlap.Reset(maxOverlap)
		return nil // its verdict is switchOver's
	case Reset: // the current one may be in the history that has ended
		s.takePlace()
		a.known = freshet.Revision{}
		err = s.took(a, e)
	}
	return s.answer(a, err)
}

// isRepeated reports whether all that the next stream's catch-up says has been told.
func (s *stream) isRepeated(a *attempt) bool {
	return len(a.held) == 0 || a.held[len(a.held)-1].Revision.Compare(s.last) <= 0
}

// switchOver has the next stream, which is ready, take the current one's place.
func (s *stream) switchOver() error {
	a := s.next
	s.takePlace()
	if err := s.tellHeld(a); err != nil {
		return s.answer(a, err)
	}
	s.last = s.last.Max(a.ready.Revision)
	s.backoff.reset()
	s.settle(a, *a.ready, max(a.ready.ExpiresIn-time.Since(a.since), 0))
	return s.answer(a, s.tell(Renewed{}))
}

// moveOn goes on with the next stream as far as it is, since the current one has ended.
func (s *stream) moveOn(why error) error {
	a := s.next
	if a.ready != nil {
		return s.switchOver()
	}
	s.takePlace()
	if err := s.tell(Disconnected{Err: why}); err != nil || !a.isOpen {
		return err
	}
	if err := s.tell(Connected{}); err != nil {
		return err
	}
	return s.tellHeld(a)
}

// tellHeld tells what the next stream's catch-up says and the one before hasn't.
func (s *stream) tellHeld(a *attempt) error {
	held := a.held
	a.held = nil
	for _, e := range held {
		if a.knew(e) {
			continue
		}
		if err := s.took(a, e); err != nil {
			return err
		}
	}
	return nil
}

// takePlace makes the next stream the current one. It has begun at an id before which
// all was told, and may repeat what was told since.
func (s *stream) takePlace() {
	s.next.known = s.last
	s.current.cancel()
	s.current, s.next = s.next, nil
	s.renewal.stop()
}

func (s *stream) abandonNext() {
	if s.next != nil {
		s.next.cancel()
		s.next = nil
		s.renewal.overlap.Stop()
	}
}

// renewalFailed tells why there is no next stream yet, and sets out for another try.
func (s *stream) renewalFailed(ctx context.Context, err error) error {
	if errors.Is(err, errSameToken) {
		s.renewal.again()
		return nil
	}
	wait := s.renewal.afterFailure()
	if status, ok := errors.AsType[*StatusError](err); ok {
		wait = max(wait, min(status.RetryAfter, longestWish))
	}
	s.renewal.due.Reset(wait)
	s.client.logger.LogAttrs(ctx, slog.LevelWarn, "stream not renewed", slog.Any("error", err), slog.Duration("retry", wait))
	return s.tell(RenewalFailed{Err: err, Retry: wait})
}
