package stream

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-dev/freshet"
)

// link is a connection that was taken over.
type link interface {
	// encoder puts events on the connection as far as it takes them at once. It
	// is the pump's, and good for one step.
	encoder(p *pump) encoder
	// pending reports whether something is left that the connection didn't take.
	pending() bool
	// drain sends what is left. It blocks meanwhile: nothing else but close may
	// be called then.
	drain() error
	// finish ends the stream in good order, as encoder's events do.
	finish() error
	// close may be called at any time, and more than once.
	close()
	// over is the last call: everything has been released.
	over(reason error, last freshet.Revision)
}

// outlet is a stream without a goroutine: whatever happens to it (a mark, a
// timer, a peer that hangs up, a shutdown) puts it into its pump's queue, and
// the pump does what session.live would. What a connection doesn't take at once
// makes it slow: a goroutine of its own drains it, and meanwhile nothing is
// taken from the hub, where what is dirty merges.
type outlet struct {
	session *session
	link    link
	pump    *pump
	alone   *resident   // not nil: it steps in the place of the pump
	queued  atomic.Bool // in the pump's queue
	slow    atomic.Bool // what follows belongs to drain; else to the pump
	hungUp  atomic.Bool // the peer did, or somebody for it

	failed  error // of drain
	over    bool
	leaving bool // goodbye is said
	timer   *time.Timer
	armed   time.Time // when timer fires
	beatAt  time.Time // the next heartbeat
	place   uint64    // in peers; 0: not there
}

var errHungUp = errors.New("the client hung up")

// newOutlet makes an outlet of a session that has begun. Its first wake is the
// caller's, once it is registered wherever it has to be; before that anything
// may wake it already, and from now on the session is the pump's.
func (s *Server) newOutlet(session *session, l link) *outlet {
	o := &outlet{session: session, link: l, pump: s.pumps.next()}
	o.beatAt = time.Now().Add(session.patience())
	o.timer = time.AfterFunc(math.MaxInt64, o.wake) // the first step sets it
	return o
}

// wake has the pump look at the outlet. It never blocks.
func (o *outlet) wake() {
	if o.alone != nil {
		o.alone.wake()
		return
	}
	if !o.queued.Swap(true) {
		o.pump.add(o)
	}
}

// step does whatever is due. It runs on the pump.
func (o *outlet) step() {
	if o.over {
		return
	}
	if o.slow.Load() {
		o.cut()
		return // the end of drain wakes us
	}
	err := o.next()
	switch {
	case err != nil:
		o.end(err)
	case o.link.pending():
		o.slow.Store(true)
		o.session.server.spawn(o.drain)
	case o.leaving:
		if why := o.session.ending(); why != nil {
			err = why
		}
		o.end(err)
	}
}

// cut ends a slow stream that its caller may not have any longer: its reader isn't
// waited for. Until then the timer sees to it that we look when the credential expires.
func (o *outlet) cut() {
	s := o.session
	if s.ending() != nil {
		o.link.close()
	} else if s.expires != 0 {
		o.armed = time.Time{} // not what next set it to
		o.timer.Reset(s.left())
	}
}

func (o *outlet) drain() {
	o.failed = o.link.drain()
	o.slow.Store(false)
	o.wake()
}

// next is one round of session.live.
func (o *outlet) next() error {
	s := o.session
	switch {
	case o.failed != nil:
		return o.failed
	case o.hungUp.Load():
		return errHungUp
	case o.leaving: // and drained
		return nil
	}
	s.out = o.link.encoder(o.pump)
	err := o.round(time.Now())
	if why, ok := errors.AsType[*ending](err); ok {
		s.server.ends(why)
		o.leaving = true
		return errors.Join(s.out.end(why), o.link.finish())
	}
	return err
}

// round is what next does while the stream may go on.
func (o *outlet) round(now time.Time) error {
	s := o.session
	if why := s.ending(); why != nil {
		return why
	}
	if at := s.departs(); !at.IsZero() && !now.Before(at) {
		if err := s.beat(s.out.goodbye); err != nil {
			return err
		}
		o.leaving = true
		return o.link.finish()
	}
	switch {
	case s.server.stale.Load() != s.stale, !now.Before(o.beatAt):
		o.beatAt = now.Add(s.patience())
		o.arm(now, o.beatAt)
		return s.beat(s.out.frontier)
	case s.until.After(now) && !s.ended():
		// Something may be dirty: the trailing edge.
		at := s.until
		if o.beatAt.Before(at) {
			at = o.beatAt
		}
		o.arm(now, at)
		return nil
	default:
		o.arm(now, o.beatAt)
		return s.tell(s.take())
	}
}

// arm sets the timer, unless it is set already.
func (o *outlet) arm(now, at time.Time) {
	if leaves := o.session.leaves; leaves != 0 && time.Unix(0, leaves).Before(at) {
		at = time.Unix(0, leaves)
	}
	if at.Equal(o.armed) && now.Before(at) {
		return
	}
	o.armed = at
	o.timer.Reset(at.Sub(now))
}

func (o *outlet) end(err error) {
	s := o.session
	o.over = true
	o.timer.Stop()
	s.server.peers.forget(o)
	o.link.close()
	s.close()
	o.link.over(err, s.last)
}

// pumps share the outlets out among the CPUs.
type pumps struct {
	all  []*pump
	turn atomic.Uint32
}

func (p *pumps) init(s *Server) {
	for range runtime.GOMAXPROCS(0) {
		p.all = append(p.all, &pump{frames: sharedEncoder{sseEncoder: sseEncoder{server: s, chunks: true}}})
	}
}

func (p *pumps) next() *pump {
	return p.all[int(p.turn.Add(1))%len(p.all)]
}

// pump is a queue of outlets, and a goroutine while there are any in it.
type pump struct {
	mu      sync.Mutex // guards queue and running
	queue   []*outlet
	running bool

	// What follows belongs to the goroutine.
	spare  []*outlet
	frames sharedEncoder
	try    attempt
}

func (p *pump) add(o *outlet) {
	p.mu.Lock()
	p.queue = append(p.queue, o)
	start := !p.running
	p.running = true
	p.mu.Unlock()
	if start {
		o.session.server.spawn(p.run)
	}
}

func (p *pump) run() {
	for {
		p.mu.Lock()
		batch := p.queue
		if len(batch) == 0 {
			p.running = false
			p.mu.Unlock()
			return
		}
		p.queue = p.spare[:0]
		p.mu.Unlock()
		for _, o := range batch {
			o.queued.Store(false) // first: what happens from here on wakes it again
			o.step()
		}
		clear(batch)
		p.spare = batch[:0]
	}
}

// sharedEncoder makes frames for one outlet after the other. The same list at
// the same revision is the same frame.
type sharedEncoder struct {
	sseEncoder

	rev     freshet.Revision
	topics  []string
	partial bool
	frame   []byte
}

func (e *sharedEncoder) invalidate(rev freshet.Revision, topics []string, partial bool) error {
	if e.rev != rev || e.partial != partial || !slices.Equal(e.topics, topics) {
		frame, rest := appendInvalidate(append(e.frame[:0], chunkHead...), rev, topics, partial)
		if len(rest) > 0 { // one of several frames
			e.rev, e.topics, e.frame = freshet.Revision{}, nil, nil
			return e.sseEncoder.invalidate(rev, topics, partial)
		}
		e.rev, e.topics, e.partial, e.frame = rev, topics, partial, sealChunk(frame)
	}
	e.server.metrics.invalidates.Inc()
	return e.out.write(e.frame)
}
