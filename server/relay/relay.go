package relay

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	relayv1 "github.com/freshet-dev/freshet/gen/freshet/relay/v1"
	"github.com/freshet-dev/freshet/internal/mono"
	"github.com/freshet-dev/freshet/store/wal"
)

// Relay is one node's part in a fleet. Make one with New; Run it once, in the place of
// the feed's own Run. The other methods are safe for concurrent use.
type Relay struct {
	cfg       Config
	feed      *wal.Feed
	publisher *Publisher
	seat      *wal.Seat
	seals     *seals
	holder    uint64 // who we are to the others
	log       *slog.Logger
	changed   chan struct{} // capacity 1: somebody else is to capture, perhaps
	patience  time.Duration // ours

	rank     atomic.Int32  // relayv1.Rank, as what we tell others
	sequence atomic.Uint64 // of what we have told
	gone     mono.Mark     // since when NATS is; none: it isn't
	limit    atomic.Int64  // bytes of a message, that NATS takes

	refusal atomic.Pointer[ConnectError] // why it is gone; nil: not known
	nc      *nats.Conn                   // not changed while Run's goroutines live

	mu        sync.Mutex // guards what follows; held while the follower applies
	follower  follower
	heard     time.Time // when another holder was last heard,
	heardRank relayv1.Rank
	heardID   uint64
	unheard   bool      // none was since the connection was made
	was       bool      // there was a connection before this one,
	back      time.Time // which this one has taken the place of
	capturing bool      // this node captures
	failed    error     // why it couldn't, and gave up; nil: it can, or another one is heard that does

	counters counters
}

type counters struct {
	sent, sentBytes, received, asked, answered, unsent, forged atomic.Uint64
}

// New returns a relay for a feed, whose sink is publisher, and which reads the epoch's
// secret (wal.Config.Secret).
func New(cfg Config, feed *wal.Feed, publisher *Publisher) (*Relay, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	r := &Relay{
		cfg: cfg, feed: feed, publisher: publisher, log: cfg.Logger,
		holder:   max(1, binary.BigEndian.Uint64(random[:])),
		changed:  make(chan struct{}, 1),
		patience: cfg.Patience + mathrand.N(cfg.Patience), //nolint:gosec // so that not all do the same at once
		follower: follower{target: feed},
		seals:    &seals{secret: feed.Secret, scope: cfg.Scope},
		heard:    time.Now(),
	}
	r.limit.Store(usualPayload)
	r.seat = feed.NewSeat(r.look)
	r.gone.Begin()
	return r, nil
}

// look has it decided anew who captures.
func (r *Relay) look() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
	r.cfg.OnChange()
}

// lookInterval is how often the clock is looked at: for requests that are due, for
// others that have not been heard.
const lookInterval = 20 * time.Millisecond

// beatInterval is how often a holder says where it is when it has nothing else to say, so
// that a gap shows, and others know that somebody captures. Nobody takes it for a proof
// of being up to date.
const beatInterval = 250 * time.Millisecond

// Run captures, or follows, until ctx ends, and returns nil then. An error is of the
// configuration.
func (r *Relay) Run(ctx context.Context) error {
	defer r.feed.Stop()
	closed := make(chan struct{})
	nc, err := r.cfg.dial(false,
		nats.ConnectHandler(r.connected),
		nats.ReconnectHandler(r.connected),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { r.disconnected(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { r.refused(ctx, err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if explain(err).Fault == FaultExpired {
				r.refused(ctx, err)
				return
			}
			r.log.LogAttrs(ctx, slog.LevelWarn, "NATS", slog.Any("error", err))
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
	)
	if err != nil {
		return err
	}
	r.nc = nc
	defer func() {
		nc.Close()
		select {
		case <-closed:
		case <-time.After(closeTimeout): // it has no more to say
		}
	}()
	var parts sync.WaitGroup
	defer parts.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	talk := newTalk(r)
	if err := talk.begin(); err != nil {
		return err
	}
	parts.Go(func() { r.seat.Run(ctx) })
	parts.Go(func() { talk.run(ctx) })
	parts.Go(func() { talk.send(ctx) })
	r.takeTurns(ctx)
	return nil
}

// takeTurns runs the feed, as one that captures or as one that follows.
func (r *Relay) takeTurns(ctx context.Context) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		capturing := r.decide(time.Now())
		turn, end := context.WithCancel(ctx)
		var running sync.WaitGroup
		running.Go(func() {
			if capturing {
				r.feed.Capture(turn)
			} else {
				r.feed.Follow(turn)
			}
		})
		for ctx.Err() == nil && r.decide(time.Now()) == capturing {
			select {
			case <-ctx.Done():
			case <-r.changed:
			case <-ticker.C:
			}
		}
		end()
		running.Wait()
	}
	r.publisher.turn(false, 0)
}

// heardFor is for how long a holder that was heard is taken to be there.
const heardFor = 4 * beatInterval

// seatGrace is for how long NATS may be gone, or capture fail, before the seat is left to
// others.
const seatGrace = 2 * time.Second

// stepBack is for how long a node that doesn't capture leaves the seat to others, after NATS
// was gone, or capture has failed. Without NATS it was told nothing, which can be more than
// the replay window has, so that it would have to begin anew; of those that went on it can
// ask what it has missed. And what it can't, another one may be able to.
const stepBack = 3 * time.Second

// usualPayload is what a server of NATS takes unless told otherwise.
const usualPayload = 1 << 20

// decide says whether this node is to capture, and what it is to others.
//
// Invariant: a node that could be told, and can't capture, is told. Whatever keeps it from
// capturing (a slot that somebody else has, a walsender, a right), and however early, it
// gives up the seat and follows: that takes one connection and no slot, and shows the
// history by whose key others are heard. To hear them while it tries wouldn't do, since
// what fails may fail before the history is known, or after that has ended. If the seat is
// still free later, it tries again.
func (r *Relay) decide(now time.Time) (capturing bool) {
	gone, feed := r.gone.Before(now), r.feed.Capturing()
	r.mu.Lock()
	defer r.mu.Unlock()
	unable := r.capturing && gone == 0 && feed.Failing > seatGrace
	switch {
	case unable:
		r.back, r.failed = now, feed.Err
	case feed.Streams:
		r.failed = nil
	}
	wanted := !unable && gone < seatGrace && (r.capturing || now.Sub(r.back) > stepBack)
	r.seat.Want(wanted)
	silent := now.Sub(r.heard)
	why := ""
	rank := relayv1.Rank(r.rank.Load())
	switch {
	case unable:
		rank, why = relayv1.Rank_RANK_UNSPECIFIED, "it can't capture"
	case wanted && r.seat.Held(): // else it is about to let go
		rank, capturing, why = relayv1.Rank_RANK_SEATED, true, "it has the seat"
	case r.capturing:
		// Until another one does whom this one hears: having a server of NATS again doesn't
		// say that others have.
		if rank == relayv1.Rank_RANK_SEATED || gone == 0 && silent > r.patience {
			rank = relayv1.Rank_RANK_ACTING
		}
		capturing = gone > 0 || r.unheard || silent > heardFor ||
			rank == r.heardRank && r.holder < r.heardID || rank > r.heardRank
		if !capturing {
			rank, why = relayv1.Rank_RANK_UNSPECIFIED, "another node does"
		}
	case gone > r.cfg.MaxLag && r.cfg.Fallback:
		capturing, why = true, "NATS is gone"
	case gone == 0 && silent > r.patience:
		rank, capturing, why = relayv1.Rank_RANK_ACTING, true, "no other node is heard that does"
	}
	r.rank.Store(int32(rank))
	if capturing != r.capturing {
		r.capturing = capturing
		r.heard = now // whoever takes over has some time
		if capturing {
			r.heardRank, r.heardID = relayv1.Rank_RANK_UNSPECIFIED, 0 // whom it takes over from doesn't count any more
			r.log.Info("the node captures by itself", "because", why)
		} else {
			r.log.Info("the node is told what changes", "because", why)
		}
	}
	// Not the connection's own: whoever asks it waits for a server that doesn't answer.
	r.publisher.turn(capturing && rank != relayv1.Rank_RANK_UNSPECIFIED, int(r.limit.Load()))
	return capturing
}

func (r *Relay) connected(nc *nats.Conn) {
	r.limit.Store(nc.MaxPayload())
	r.refusal.Store(nil)
	r.gone.Clear()
	r.mu.Lock()
	now := time.Now()
	r.heard, r.unheard = now, true // from now on somebody could be
	if r.was {
		r.back = now
	}
	r.was = true
	r.mu.Unlock()
	r.log.Info("connected to NATS", "server", nc.ConnectedUrlRedacted())
	r.look()
}

func (r *Relay) disconnected(err error) {
	r.gone.Begin()
	if err != nil {
		r.log.Warn("the connection to NATS is gone", "error", err)
	}
	r.look()
}

// refused notes why an attempt to connect has failed.
func (r *Relay) refused(ctx context.Context, err error) {
	before, now := r.refusal.Load(), explain(err)
	if before != nil && before.Fault == FaultExpired && (now.Fault == FaultCredentials || now.Fault == "") {
		return // of credentials that have expired a server says no more when it is asked again, or hangs up
	}
	r.refusal.Store(now)
	if before == nil || before.Error() != now.Error() {
		r.log.LogAttrs(ctx, slog.LevelWarn, "NATS can't be reached", slog.Any("error", now))
	}
}

// ErrNoNATS says that the node is told nothing, since it has no connection to NATS.
var ErrNoNATS = errors.New("there is no connection to NATS")

// Ready returns why the node isn't told what changes, though it doesn't capture: ErrNoNATS,
// with a *ConnectError if one is known; or that no other node is heard that does, and why
// this one couldn't. Nil: there is no reason. How far it is behind is for wal.Feed.Ready.
func (r *Relay) Ready() error {
	r.mu.Lock()
	capturing, failed := r.capturing, r.failed
	r.mu.Unlock()
	if gone := r.gone.Ago(); !capturing && gone > r.cfg.MaxLag {
		return &goneError{gone, r.refusal.Load()}
	}
	if failed != nil {
		return fmt.Errorf("no other node is heard that captures, and this one can't: %w", failed)
	}
	return nil
}

// goneError says for how long there has been no connection, and why, as far as it is known.
type goneError struct {
	gone time.Duration
	why  *ConnectError // nil: not known
}

func (e *goneError) Error() string {
	return e.text(fmt.Sprintf("for %s nobody", e.gone.Round(time.Second)))
}

// Kind is the same for each with the same reason.
func (e *goneError) Kind() string { return e.text("nobody") }

func (e *goneError) text(nobody string) string {
	text := fmt.Sprintf("%s: %s has been able to tell this node what changes", ErrNoNATS, nobody)
	if e.why != nil {
		text += ": " + e.why.Error()
	}
	return text
}

func (e *goneError) Unwrap() []error {
	if e.why == nil {
		return []error{ErrNoNATS}
	}
	return []error{ErrNoNATS, e.why}
}

// Stats is a reading of a relay's counters.
type Stats struct {
	Connected bool   // to NATS
	Capturing bool   // this node decodes the WAL by itself
	Holder    bool   // and tells others
	Sent      uint64 // frames
	SentBytes uint64 // of them
	Unsent    uint64 // frames that NATS didn't take
	Left      uint64 // commits left out of frames, for their size or because NATS takes none: they show as gaps
	Overflows uint64 // times that NATS took frames so slowly that what waited was left out
	Received  uint64 // frames of others
	Ignored   uint64 // of them, of another history, or not understood
	Forged    uint64 // messages that no node of this database has sealed
	Gaps      uint64 // times that something was missing
	Asked     uint64 // requests for it
	Answered  uint64 // requests of others that this node has answered
	Raised    uint64 // times that nobody has answered, so that nothing below a frame is known any more
}

// Stats returns a reading; each counter for itself is exact.
func (r *Relay) Stats() Stats {
	connected := !r.gone.IsSet()
	s := Stats{
		Connected: connected,
		Holder:    connected && r.rank.Load() != int32(relayv1.Rank_RANK_UNSPECIFIED) && r.feed.Capturing().Streams,
		Sent:      r.counters.sent.Load(), SentBytes: r.counters.sentBytes.Load(), Unsent: r.counters.unsent.Load(),
		Received: r.counters.received.Load(), Asked: r.counters.asked.Load(), Answered: r.counters.answered.Load(),
		Forged: r.counters.forged.Load(),
	}
	r.publisher.mu.Lock()
	s.Left, s.Overflows = r.publisher.left, r.publisher.overflows
	r.publisher.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Capturing, s.Gaps, s.Raised, s.Ignored = r.capturing, r.follower.gaps, r.follower.raised, r.follower.ignored
	return s
}
