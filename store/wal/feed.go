package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/primary"
	"github.com/freshet-dev/freshet/store/setup"
)

// Sink receives what the feed proves, in order, from one goroutine at a time.
type Sink interface {
	// Begin starts a new history (another epoch), or the same one after a
	// gap: nothing at or below horizon is known, and nothing is served until
	// Serve.
	Begin(horizon freshet.Revision)
	// Publish tells one commit, proven visible on the primary; between Serve
	// and Begin the frontier moves with it.
	Publish(commit freshet.Commit)
	// Serve says that the sink has caught up: the frontier begins at rev.
	Serve(rev freshet.Revision)
	// Advance moves the frontier where nothing of the contract changed.
	Advance(rev freshet.Revision)
	// Quarantine says of which topics commits may not be told from the next
	// Publish or Advance on: those that the patterns match. It replaces what was
	// said before; none is the rule.
	Quarantine(topics []freshet.Pattern)
	// Current says that the frontier has reached all that the primary had
	// flushed at asOf.
	Current(asOf time.Time)
}

// Config says what to capture. Zero values of the optional fields take the
// defaults named beside them.
type Config struct {
	// URL of the primary, direct (not through a pooler); its role needs
	// REPLICATION. It may name several hosts, of which the primary is found. Required,
	// unless Connect is set.
	URL string
	// Connect says how to connect in the URL's place, before each connection. Its
	// answer becomes the feed's.
	Connect func(ctx context.Context) (*pgx.ConnConfig, error)
	// Program names the sources. Required.
	Program *contract.Program
	// Sink receives the commits. Required.
	Sink Sink
	// OnChange is called when Ready may answer otherwise than before, but for the
	// lag, which grows with the clock. It must not block. Nil: nobody is.
	OnChange func()
	// BeforeTold is called with each commit of one transaction that the sink is about
	// to be given, and the low 32 bits of its id. It must not block. Nil: nobody is
	// told.
	BeforeTold func(xid uint32, commit freshet.Commit)

	// Explain has commits say why they tell what (freshet.Commit.Changes): a map entry
	// for each topic of a transaction, and for each change in the gate.
	Explain bool

	// Secret says that nodes tell each other what happens, so Feed.Secret is wanted.
	Secret bool

	// Logger; nil discards.
	Logger *slog.Logger

	Slot        string // replication slot, the same for all nodes, of 54 characters at most; "freshet"
	Publication string // publication; "freshet"

	// The replay window: how far the slot is kept behind what was applied, by time
	// and by WAL, whichever is less; and how often it is moved. 60 s, 64 MiB, 10 s.
	WindowAge    time.Duration
	WindowBytes  uint64
	KeepInterval time.Duration

	ProbeInterval time.Duration // how often the primary's position is read; 10 ms
	WatchInterval time.Duration // how often the watchdog looks, and where a new connection would lead is asked; 5 s
	Linger        time.Duration // how long a busy stream is left to gather, at most; 5 ms, negative: not at all
	MaxLag        time.Duration // decoding lag at which readiness fails; 5 s
}

var identifier = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

func (c *Config) validate() error {
	switch {
	case c.URL == "" && c.Connect == nil:
		return errors.New("wal: no database URL")
	case c.Program == nil:
		return errors.New("wal: no contract")
	case c.Sink == nil:
		return errors.New("wal: no sink")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Connect == nil {
		c.Connect = func(context.Context) (*pgx.ConnConfig, error) { return setup.ParseConfig(c.URL) }
	}
	c.Connect = primary.Of(c.Connect, c.Logger)
	if c.OnChange == nil {
		c.OnChange = func() {}
	}
	c.Slot = cmp.Or(c.Slot, "freshet")
	c.Publication = cmp.Or(c.Publication, "freshet")
	c.WindowAge = cmp.Or(c.WindowAge, time.Minute)
	c.WindowBytes = cmp.Or(c.WindowBytes, 64<<20)
	c.KeepInterval = cmp.Or(c.KeepInterval, 10*time.Second)
	c.ProbeInterval = cmp.Or(c.ProbeInterval, 10*time.Millisecond)
	c.WatchInterval = cmp.Or(c.WatchInterval, 5*time.Second)
	c.Linger = cmp.Or(c.Linger, 5*time.Millisecond)
	c.MaxLag = cmp.Or(c.MaxLag, 5*time.Second)
	if len(c.Slot) > setup.MaxSlotName {
		return fmt.Errorf("wal: %q can't name a slot: use %d characters at most, since each node adds some to the name of its copy", c.Slot, setup.MaxSlotName)
	}
	for _, name := range []string{c.Slot, c.Publication} {
		if !identifier.MatchString(name) {
			return fmt.Errorf("wal: %q can't name a slot or a publication: use lower-case letters, digits and _", name)
		}
	}
	return nil
}

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
func (f *Feed) Capture(ctx context.Context) { f.sessions(ctx, f.attempt) }

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
		return fmt.Errorf("decoding is %s behind the database", lag.Round(time.Millisecond))
	}
	return nil
}

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
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.here.epoch == 0 {
		return 0, 0
	}
	return f.here.epoch, f.here.number()
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
// capacity 1, receives its commit once the frontier has passed it; Topics is
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

// passed tells whoever expects xid that the frontier has passed its commit.
func (f *Feed) passed(xid uint32, commit freshet.Commit) {
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
	heldSince                                                                                  atomic.Int64 // unix nanoseconds; 0: nothing is held
	confirmed                                                                                  atomic.Uint64
	windowSince                                                                                atomic.Int64 // unix nanoseconds; 0: the slot is at what was applied
	keeper                                                                                     atomic.Bool
}

// window shows the replay window to other goroutines than its own.
func (s *stats) window(w *replayWindow) {
	s.confirmed.Store(uint64(w.slot))
	since := int64(0)
	if oldest := w.oldest(); !oldest.IsZero() {
		since = oldest.UnixNano()
	}
	s.windowSince.Store(since)
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
	}
	if since := f.stats.heldSince.Load(); since != 0 {
		s.Held = time.Since(time.Unix(0, since))
	}
	// Confirmed was read first, so Applied is not below it, unless a new slot
	// has begun elsewhere in between.
	if s.Confirmed != 0 && s.Confirmed < s.Applied {
		s.WindowBytes = s.Applied - s.Confirmed
	}
	if since := f.stats.windowSince.Load(); since != 0 {
		s.WindowAge = time.Since(time.Unix(0, since))
	}
	return s
}
