package stream

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
)

// encoder puts events on one kind of wire. Each method returns when the event
// has left the process, or can't.
type encoder interface {
	// partial: it says something of these topics only, so it has no id.
	invalidate(rev freshet.Revision, topics []string, partial bool) error
	// expires is how long the caller's credential still counts; 0: it doesn't end.
	ready(rev freshet.Revision, topics int, expires time.Duration) error
	reset(rev freshet.Revision) error
	frontier(rev freshet.Revision, lag time.Duration) error
	// goodbye is the last event: the client is to come back after a while.
	goodbye(rev freshet.Revision, lag time.Duration) error
	// end is the last event of a stream that its caller may not have any longer.
	end(why *ending) error
}

// session is one stream, from its registration to its end. It belongs to one
// goroutine at a time: its handler's, then perhaps its outlet's pump's.
type session struct {
	server   *Server
	sub      *hub.Subscription
	first    hub.Notice // the catch-up
	throttle time.Duration
	load     load
	who      context.Context // for Reauthorize; nil: it isn't asked
	leaves   int64           // when it ends, Unix nanoseconds, by departures; 0: it has no place there
	revoked  atomic.Bool     // by Reauthorize: nothing more is told
	expires  int64           // when the caller's credential does, in Unix ns; 0: never
	turn     uint8           // of being asked about again
	whole    bool            // the encoder has no way to say that a notice is partial

	wire  atomic.Pointer[deadlineWriter] // of the handler's response; nil: it has none yet
	out   encoder
	last  freshet.Revision // the highest id sent, of its history
	until time.Time        // no notice before this
	stale bool             // the last frontier event told a lag above the bound
}

// bound returns what bounds the frames of a response, and is cut when the session is
// to end.
func (s *session) bound(rc *http.ResponseController) *deadlineWriter {
	wire := &deadlineWriter{session: s, rc: rc}
	s.wire.Store(wire)
	return wire
}

// revoke has nothing more told, and doesn't wait for a slow reader.
func (s *session) revoke() {
	s.revoked.Store(true)
	s.sub.Signal()
	if wire := s.wire.Load(); wire != nil {
		wire.cut()
	}
}

// run sends the catch-up, ready, and then whatever comes. It returns nil after
// a shutdown, ctx's error, the encoder's, or an *ending that was told.
func (s *session) run(ctx context.Context, out encoder) error {
	err := s.begin(out)
	if err == nil {
		err = s.live(ctx)
	}
	return s.lastWords(err)
}

// begin sends the catch-up and ready.
func (s *session) begin(out encoder) error {
	s.out = out
	if err := s.tell(s.first); err != nil {
		return err
	}
	s.last = s.last.Max(s.first.Frontier)
	if err := out.ready(s.last, s.sub.Topics(), s.left()); err != nil {
		return err
	}
	s.first = hub.Notice{}
	return nil
}

// live sends whatever comes after begin. What it does in a goroutine, an outlet
// does without one.
func (s *session) live(ctx context.Context) error {
	heartbeat := time.NewTimer(s.patience())
	defer heartbeat.Stop()
	var trailing *time.Timer // made when first needed
	var edge, leave <-chan time.Time
	closing := s.server.closing
	defer func() {
		if trailing != nil {
			trailing.Stop()
		}
	}()
	for {
		var err error
		if why := s.ending(); why != nil {
			return why
		}
		if s.server.shed.Load() {
			return s.beat(s.out.goodbye)
		}
		if s.server.stale.Load() != s.stale {
			heartbeat.Reset(s.patience())
			err = s.beat(s.out.frontier)
		} else {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-closing:
				closing = nil // it stays closed
				last := time.NewTimer(time.Until(s.departs()))
				defer last.Stop()
				leave = last.C
				continue
			case <-leave:
				return s.beat(s.out.goodbye)
			case <-heartbeat.C:
				heartbeat.Reset(s.patience())
				err = s.beat(s.out.frontier)
			case <-s.sub.Wake():
				if wait := time.Until(s.until); wait > 0 && !s.ended() {
					if edge == nil {
						if trailing == nil {
							trailing = time.NewTimer(wait)
						} else {
							trailing.Reset(wait)
						}
						edge = trailing.C
					}
					continue
				}
				err = s.tell(s.take())
			case <-edge:
				err = s.tell(s.take())
			}
		}
		if err != nil {
			return err
		}
		// Everything was taken just now: whatever comes next wakes us again.
		edge = nil
	}
}

// ended reports whether the history of this stream has: a reset doesn't wait
// for the throttle.
func (s *session) ended() bool {
	f := s.server.config.Hub.Frontier()
	return !f.IsZero() && f.Epoch != s.last.Epoch
}

// tell sends a notice, and starts the throttle if there was anything in it. What
// was taken before the grant went and is told after it would be a leak.
func (s *session) tell(n hub.Notice) error {
	if why := s.ending(); why != nil {
		return why
	}
	switch {
	case n.Reset:
		s.last = n.Frontier
		if err := s.out.reset(n.Frontier); err != nil {
			return err
		}
	case len(n.Topics) > 0:
		if !n.Partial {
			s.last = s.last.Max(n.Revision)
		}
		if err := s.out.invalidate(n.Revision, n.Topics, n.Partial); err != nil {
			return err
		}
	default:
		return nil
	}
	s.until = time.Now().Add(s.throttle)
	return nil
}

// take reads what there is to tell between heartbeats.
func (s *session) take() hub.Notice {
	if s.whole {
		return s.sub.TakeAll()
	}
	return s.sub.Take()
}

// beat sends a heartbeat, or the goodbye, by send. Its id says that everything up to
// it has been told, so what has changed and is not told yet goes first, throttle or
// not; topics in quarantine, of which a change may have been missed, are told each
// time, since nothing else would have them read. While the hub isn't serving there is
// no frontier: then the heartbeat repeats the last id, and its lag says how long
// nothing has been known.
func (s *session) beat(send func(freshet.Revision, time.Duration) error) error {
	// Read before the lag: when it changes in between, we come here again.
	s.stale = s.server.stale.Load()
	n := s.sub.TakeAll()
	if err := s.tell(n); err != nil {
		return err
	}
	s.last = s.last.Max(n.Frontier)
	return send(s.last, s.server.config.Hub.Lag())
}

func (s *session) close() {
	s.server.forget(s)
	s.sub.Close()
	s.server.leave(s.load)
}
