package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/mono"
)

// Feed captures commits from one database. Run it once; the other methods are
// safe for concurrent use, before and after as well.
type Feed struct {
	cfg Config
	log *slog.Logger

	// What survives from one session to the next. Between sessions it is Run's
	// goroutine's; while one lasts,
	epoch       freshet.Epoch // nobody changes these two;
	incarnation incarnation   // the epoch names it
	serving     bool          // these are its release loop's;
	served      bool          // in this process, whatever the epoch
	window      replayWindow  // and this its keep loop's

	useless atomic.Uint64 // a slot that begins at or below can't be decoded: it is older than its publication

	quarantine *quarantine // of sources that capture can't be trusted with

	applied  atomic.Uint64 // everything up to here was given to the sink
	received atomic.Uint64 // everything that ends at or below was decoded, by this node or by the one that tells it
	stats    stats

	spelling atomic.Pointer[contract.Spelling]

	following following // while another node tells what it captures

	wake chan struct{} // capacity 1: a probe or a nudge is wanted

	mu       sync.Mutex // guards what follows
	notReady error      // nil: ready, unless decoding lags
	unsound  error      // capture is running, but the database isn't set up for it any more
	decoded  time.Time  // all that was flushed by then has been received
	expected map[uint32]chan freshet.Commit
	probes   []chan freshet.Revision // answered by the next probe to begin
	cut      chan struct{}           // closed when nobody answers probes any more; nil: nobody does
	here     history                 // what the sessions serve; zero: there is none
	nudge    bool
	capture  Capturing
	secret   []byte // of this epoch
	secretOf freshet.Epoch
}

// New returns a feed that has not started. The error says which field of cfg
// is wrong.
func New(cfg Config) (*Feed, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	f := &Feed{
		cfg:    cfg,
		log:    cfg.Logger,
		window: replayWindow{maxAge: cfg.WindowAge, maxBytes: cfg.WindowBytes},
		wake:   make(chan struct{}, 1),

		quarantine: newQuarantine(cfg.Program.Sources()),

		notReady: errors.New("capture has not started"),
		expected: make(map[uint32]chan freshet.Commit),
	}
	f.following.sink, f.following.publish = cfg.Sink, f.publishTold
	return f, nil
}

// ErrCut says that the feed has no connection to the primary right now.
var ErrCut = errors.New("the feed is not connected to the database")

// Delays between attempts.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 3 * time.Second
)

// Run captures until ctx ends, and returns nil then. Whatever goes wrong in
// between ends one session; the next attempt follows after a delay, and Ready
// says what is wrong meanwhile.
func (f *Feed) Run(ctx context.Context) error {
	f.Capture(ctx)
	f.Stop()
	return nil
}

// Capture is Run, but that when it returns the feed goes on: to Follow, or to
// Capture again, which begin where it has left off. Who asks for a position in between
// waits. One of the two runs at a time, and Stop is called after the last.
func (f *Feed) Capture(ctx context.Context) {
	defer f.fares(Capturing{})
	since := time.Now() // the last stream ended, or this began
	f.sessions(ctx, func(ctx context.Context) (live bool, err error) {
		live, err = f.attempt(ctx)
		if live {
			since = time.Now()
		}
		f.fares(Capturing{Failing: time.Since(since), Err: err})
		return live, err
	})
}

// Capturing is how Capture fares. The zero value: no attempt has ended since it began, or
// it doesn't run.
type Capturing struct {
	Streams bool // it has a replication stream
	// Failing is for how long it had none when the last attempt to get one ended: while one
	// waits, for open transactions say, it doesn't grow.
	Failing time.Duration
	Err     error // why that one ended
}

func (f *Feed) fares(c Capturing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capture = c
}

// Capturing returns how Capture fares, while Follow runs the zero value.
func (f *Feed) Capturing() Capturing {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.capture
}

// Stop says that neither Capture nor Follow will be called again.
func (f *Feed) Stop() { f.disconnected(errors.New("capture has stopped")) }

// sessions runs one after the other, until ctx ends.
func (f *Feed) sessions(ctx context.Context, attempt func(context.Context) (live bool, err error)) {
	delay, told := retryMin, ""
	for ctx.Err() == nil {
		live, err := attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		if live {
			delay, told = retryMin, ""
			f.stats.sessions.Add(1)
		}
		f.disconnected(err)
		if text := err.Error(); text != told {
			told = text
			f.log.LogAttrs(ctx, slog.LevelWarn, "capture interrupted", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, retryMax)
	}
}

// Ready returns nil if capture runs, is sound, and decodes without lag;
// otherwise why not. A single commit held at the gate doesn't fail it: strong
// reads still work, and failing every node would be an outage of our own.
func (f *Feed) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.notReady != nil:
		return f.notReady
	case f.unsound != nil:
		return f.unsound
	}
	if lag := time.Since(f.decoded); lag > f.cfg.MaxLag {
		return behindError(lag)
	}
	return nil
}

// behindError is by how much decoding is behind the database.
type behindError time.Duration

func (e behindError) Error() string {
	return fmt.Sprintf("decoding is %s behind the database", time.Duration(e).Round(time.Millisecond))
}

// Kind is the same for each.
func (e behindError) Kind() string { return "decoding is behind the database" }

func (f *Feed) setNotReady(err error) {
	f.mu.Lock()
	f.notReady = err
	f.mu.Unlock()
	f.cfg.OnChange()
}

// connected says that a session has begun, which answers probes; unless the feed
// serves already, it isn't ready yet, and why says so.
func (f *Feed) connected(why error) {
	f.mu.Lock()
	f.notReady = why
	if f.serving {
		f.notReady = nil
	}
	f.decoded = time.Now()
	if f.cut == nil {
		f.cut = make(chan struct{})
	}
	f.here = history{f.epoch, f.incarnation}
	f.mu.Unlock()
	f.kick() // somebody may have asked between two sessions
	f.cfg.OnChange()
}

// disconnected says that there is no session, and why.
func (f *Feed) disconnected(why error) {
	f.mu.Lock()
	f.notReady = why
	if f.cut != nil {
		close(f.cut)
		f.cut, f.probes = nil, nil
	}
	f.here = history{}
	f.mu.Unlock()
	f.cfg.OnChange()
}

// History returns what the feed's sessions serve, and a number that names the one run
// of one database that it is a history of; epoch zero while there is no session. Not
// to be relied on by whoever has Postgres to ask: it may end at any moment.
func (f *Feed) History() (epoch freshet.Epoch, incarnation uint64) {
	here := f.history()
	if here.epoch == 0 {
		return 0, 0
	}
	return here.epoch, here.number()
}

func (f *Feed) history() history {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.here
}

// Received returns up to which position the feed has decoded all there is: what is
// still to be told of it waits to become visible.
func (f *Feed) Received() uint64 { return f.received.Load() }

// Nudge says that somebody waits for the frontier. It never blocks. The feed
// commits one small shared message, because after an asynchronous commit or a
// rollback the WAL isn't even flushed for up to 400 ms.
func (f *Feed) Nudge() {
	f.mu.Lock()
	pending := f.nudge
	f.nudge = true
	f.mu.Unlock()
	if !pending { // else the probe knows, and waits for its time
		f.kick()
	}
}

func (f *Feed) kick() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// InsertPosition returns a position that the primary's WAL had reached after
// the call began, by a statement shared with all concurrent calls. Errors:
// ErrCut, or ctx's.
func (f *Feed) InsertPosition(ctx context.Context) (freshet.Revision, error) {
	answer := make(chan freshet.Revision, 1)
	f.mu.Lock()
	cut := f.cut
	if cut == nil {
		f.mu.Unlock()
		return freshet.Revision{}, ErrCut
	}
	f.probes = append(f.probes, answer)
	f.mu.Unlock()
	f.kick()
	select {
	case rev := <-answer:
		return rev, nil
	case <-cut:
		return freshet.Revision{}, ErrCut
	case <-ctx.Done():
		return freshet.Revision{}, ctx.Err()
	}
}

// Expect registers a transaction before its COMMIT is sent. The channel, of
// capacity 1, receives its commit before the frontier moves to it, so that
// whoever sees the frontier above it and no commit need not wait for one; Topics is
// nil if they are not known one by one. forget releases it, and must be called.
func (f *Feed) Expect(xid uint64) (commit <-chan freshet.Commit, forget func()) {
	key := uint32(xid) //nolint:gosec // the stream has the low 32 bits; no two live xids share them
	c := make(chan freshet.Commit, 1)
	f.mu.Lock()
	f.expected[key] = c
	f.mu.Unlock()
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.expected[key] == c {
			delete(f.expected, key)
		}
	}
}

// passes hands its commit, which the frontier moves to next, to whoever expects xid.
func (f *Feed) passes(xid uint32, commit freshet.Commit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.expected[xid]; c != nil {
		delete(f.expected, xid)
		c <- commit // capacity 1, and each is sent to once
	}
}

func (f *Feed) position() pglogrepl.LSN { return pglogrepl.LSN(f.applied.Load()) }

func (f *Feed) revision(lsn pglogrepl.LSN) freshet.Revision {
	return freshet.Revision{Epoch: f.epoch, Position: uint64(lsn)}
}

// stats counts what happened; read by Stats.
type stats struct {
	commits, gateQueries, gateMisses, nudges, looks, sessions, ignored, oversize, slots, moves atomic.Uint64
	waiting                                                                                    atomic.Int64
	heldSince                                                                                  mono.Mark // none: nothing is held
	confirmed                                                                                  atomic.Uint64
	windowSince                                                                                mono.Mark // none: the slot is at what was applied
	keeper                                                                                     atomic.Bool
}

// window shows the replay window to other goroutines than its own.
func (s *stats) window(w *replayWindow) {
	s.confirmed.Store(uint64(w.slot))
	s.windowSince.Set(w.oldest())
}

// Stats is a reading of the feed's counters.
type Stats struct {
	Commits     uint64        // transactions given to the sink
	GateQueries uint64        // snapshots taken
	GateMisses  uint64        // of them, those that released nothing
	Nudges      uint64        // messages committed to move the WAL along
	Looks       uint64        // times that the watchdog has looked
	Sessions    uint64        // sessions that streamed and ended before Run's context: interruptions
	Ignored     uint64        // messages of pg_logical_emit_message that were not for us
	Oversize    uint64        // transactions told as all topics of their sources
	Slots       uint64        // times that the slot was of no use any more, and another one was made
	Quarantines uint64        // times that a source was put into quarantine; each one is at the start
	Waiting     int64         // commits in the gate
	Held        time.Duration // how long the first of them has been held
	Applied     uint64        // position
	Confirmed   uint64        // position of the window's slot, whoever moves it; 0: not known yet
	Keeper      bool          // this node keeps the window
	Moves       uint64        // times that it has moved the slot
	WindowBytes uint64        // WAL between the two: what a restart would replay
	WindowAge   time.Duration // how long ago the oldest of it was applied, to a second
}

// Stats returns a reading; each counter for itself is exact.
func (f *Feed) Stats() Stats {
	s := Stats{
		Confirmed: f.stats.confirmed.Load(),
		Commits:   f.stats.commits.Load(), GateQueries: f.stats.gateQueries.Load(), GateMisses: f.stats.gateMisses.Load(),
		Nudges: f.stats.nudges.Load(), Looks: f.stats.looks.Load(), Sessions: f.stats.sessions.Load(), Ignored: f.stats.ignored.Load(),
		Oversize: f.stats.oversize.Load(), Slots: f.stats.slots.Load(), Keeper: f.stats.keeper.Load(), Moves: f.stats.moves.Load(), Quarantines: f.quarantine.count(), Waiting: f.stats.waiting.Load(), Applied: f.applied.Load(),
		Held: f.stats.heldSince.Ago(), WindowAge: f.stats.windowSince.Ago(),
	}
	// Confirmed was read first, so Applied is not below it, unless a new slot
	// has begun elsewhere in between.
	if s.Confirmed != 0 && s.Confirmed < s.Applied {
		s.WindowBytes = s.Applied - s.Confirmed
	}
	return s
}
