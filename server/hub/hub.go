package hub

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-dev/freshet"
)

// DefaultMaxTopics bounds the topic table when Config doesn't.
const DefaultMaxTopics = 1_000_000

// Never is the lag of a node that has not been current since it started.
const Never = time.Duration(math.MaxInt64)

// ErrNotServing says that the node has no frontier: it has just started, or
// its feed begins anew.
var ErrNotServing = errors.New("the node is not caught up with its database yet")

// EpochError says that a revision belongs to a history which has ended.
type EpochError struct {
	// Current is the node's epoch.
	Current freshet.Epoch
}

func (e *EpochError) Error() string {
	return fmt.Sprintf("the revision is of an epoch that has ended: the current one is %08x", uint32(e.Current))
}

// Config of a Hub; the zero value is usable.
type Config struct {
	// MaxTopics bounds the topics that the table remembers; above it the
	// oldest change is forgotten and the horizon rises. Unset: 1,000,000.
	MaxTopics int
}

// Hub is the topic table, the frontier and the subscriptions of one node. Use
// New.
type Hub struct {
	// mu guards everything below it up to the next blank line. It is held for
	// the whole of a commit: see I5.
	mu            sync.RWMutex
	table         table
	epoch         freshet.Epoch
	top           uint64           // highest position told since Begin
	last          freshet.Revision // highest frontier served, of its epoch
	serving       bool
	resuming      bool // Serve was called, but below last: see I3
	subscriptions []*Subscription
	conservative  Conservative
	changed       func(topic string, notices int) // see OnChanged; nil: nobody asks

	// frontier mirrors {epoch, top} while serving, else it is nil: readable
	// without the lock. Stored under mu.
	frontier atomic.Pointer[freshet.Revision]
	// quarantine is what the feed said last; nil: nothing. Stored under mu.
	quarantine atomic.Pointer[[]freshet.Pattern]
	current    atomic.Pointer[time.Time]
	waiters    waiters
}

// New returns a hub that knows nothing and doesn't serve.
func New(c Config) *Hub {
	if c.MaxTopics <= 0 {
		c.MaxTopics = DefaultMaxTopics
	}
	return &Hub{table: newTable(c.MaxTopics)}
}

// Begin starts a history: another epoch, or the same one with a gap behind it.
// The table is emptied; it is complete from horizon on. The hub stops serving
// until Serve; what subscriptions have not taken yet they can still take.
func (h *Hub) Begin(horizon freshet.Revision) {
	if horizon.Epoch == 0 {
		panic("hub: Begin without an epoch")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frontier.Store(nil)
	h.serving, h.resuming = false, false
	h.epoch, h.top = horizon.Epoch, horizon.Position
	h.table.reset(horizon.Position)
}

// Publish applies a commit: table, marks, then (when serving) the frontier, as
// one step for every reader. It panics when the commit is of another epoch than
// the last Begin, since dropping it would lose a change in silence.
//
// A commit that comes at or below what was told already is taken as a change
// at that point, so that nothing is lost and no revision goes back; a feed that
// repeats itself causes a needless notice, not a wrong one.
func (h *Hub) Publish(c freshet.Commit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mustBeOf(c.Revision)
	h.top = max(h.top, c.Revision.Position)
	for _, topic := range c.Topics {
		e := h.table.touch(topic, h.top)
		if h.serving {
			h.told(e, e.mark(h.top))
		}
	}
	for _, floor := range c.Floors {
		h.table.raiseFloor(floor, h.top)
		if h.serving {
			h.conservative.Floor += uint64(h.markMatching(floor)) //nolint:gosec // a count
		}
	}
	h.table.evict()
	h.advanced()
}

// markMatching makes the topics that a pattern matches dirty for all who subscribe, and
// returns how many of their topics that were. The caller holds mu.
func (h *Hub) markMatching(pattern freshet.Pattern) (n int) {
	for _, e := range h.table.subscribed {
		if pattern.Match(e.topic) {
			h.told(e, e.mark(h.top))
			n += len(e.subs)
		}
	}
	return n
}

// told passes on that a topic has changed. The caller holds mu.
func (h *Hub) told(e *entry, notices int) {
	if h.changed != nil {
		h.changed(e.topic, notices)
	}
}

// OnChanged has f called with each change of a topic from now on, and with how many
// subscriptions have it to tell that had not before. Of a change of all topics that a
// pattern matches it hears as far as they are subscribed to. f is called with the hub's
// lock held: it must neither block nor call the hub. Nil: nobody is called.
func (h *Hub) OnChanged(f func(topic string, notices int)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed = f
}

// Advance moves the frontier without a change: the feed knows that nothing at
// or below rev is still to come. Ignored when the hub isn't serving, and when
// rev is not above the frontier.
func (h *Hub) Advance(rev freshet.Revision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.serving && !h.resuming {
		return
	}
	h.mustBeOf(rev)
	h.top = max(h.top, rev.Position)
	h.advanced()
}

// Serve says that the feed has caught up: the frontier is rev, and the hub
// serves. Every subscription from before Begin is due a reset if the epoch is
// another one than it knew; otherwise each of its topics is dirty at rev, since
// any of them may have changed in the gap.
//
// When rev is below what was served before in this epoch, the hub serves once
// Publish or Advance have come that far again (I3). When the hub serves
// already, Serve is Advance.
func (h *Hub) Serve(rev freshet.Revision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mustBeOf(rev)
	h.top = max(h.top, rev.Position)
	h.resuming = !h.serving
	h.advanced()
}

// advanced makes top the frontier, if the hub serves or can begin to. The
// caller holds mu.
func (h *Hub) advanced() {
	now := freshet.Revision{Epoch: h.epoch, Position: h.top}
	if h.resuming && (now.Epoch != h.last.Epoch || h.last.Position <= now.Position) {
		h.resuming, h.serving = false, true
		for _, s := range h.subscriptions {
			s.resume(h.last.Epoch != h.epoch, h.top, &h.conservative)
		}
	}
	if !h.serving || now == h.last && h.frontier.Load() != nil {
		return
	}
	h.last = now
	h.frontier.Store(&now)
	h.waiters.release(now)
}

func (h *Hub) mustBeOf(rev freshet.Revision) {
	if rev.Epoch != h.epoch || h.epoch == 0 {
		panic(fmt.Sprintf("hub: revision %q in a history of epoch %08x", rev, uint32(h.epoch)))
	}
}

// Current says that the node holds everything that the primary had flushed at
// asOf. An earlier time than before is ignored.
func (h *Hub) Current(asOf time.Time) {
	if was := h.current.Load(); was == nil || was.Before(asOf) {
		h.current.Store(&asOf)
	}
}

// Lag is how far the node is behind the database: the time since the last
// Current, or Never.
func (h *Hub) Lag() time.Duration {
	asOf := h.current.Load()
	if asOf == nil {
		return Never
	}
	return max(0, time.Since(*asOf))
}

// Frontier is the revision up to which every commit is visible and applied to
// the table; zero while the hub isn't serving.
func (h *Hub) Frontier() freshet.Revision {
	if f := h.frontier.Load(); f != nil {
		return *f
	}
	return freshet.Revision{}
}

// Horizon is the oldest revision from which on the table is complete; zero
// before the first Begin.
func (h *Hub) Horizon() freshet.Revision {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return freshet.Revision{Epoch: h.epoch, Position: h.table.horizon}
}

// Floor is a revision at or above the last change of each of the topics, as of
// every frontier that was read before the call. A topic that the table doesn't
// hold counts as the horizon. While a history is being told anew the table lacks
// what was known before, so Floor is not below what was served until then.
// Without topics it is the horizon.
func (h *Hub) Floor(topics []string) freshet.Revision {
	h.mu.RLock()
	defer h.mu.RUnlock()
	floor := uint64(0)
	for _, topic := range topics {
		latest, _ := h.table.latest(topic)
		floor = max(floor, latest)
	}
	if len(topics) == 0 {
		floor = h.table.horizon
	}
	if !h.serving && h.last.Epoch == h.epoch {
		floor = max(floor, h.last.Position)
	}
	return freshet.Revision{Epoch: h.epoch, Position: floor}
}

// Followers is how many subscriptions there are to the one of the topics that
// has most.
func (h *Hub) Followers(topics []string) (n int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, topic := range topics {
		if e := h.table.topics[topic]; e != nil {
			n = max(n, len(e.subs))
		}
	}
	return n
}

// Stats is what there is to measure about a hub.
type Stats struct {
	Topics        int    // with a known change, in the table
	Subscribed    int    // topics that somebody subscribes to
	Floors        int    // patterns with a known change
	Subscriptions int    // open
	Waiters       int    // in Wait
	Evictions     uint64 // topics forgotten because the table was full
	Conservative  Conservative
}

// Stats returns the state of now.
func (h *Hub) Stats() Stats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return Stats{
		Topics: h.table.changed, Subscribed: len(h.table.subscribed), Floors: len(h.table.floors),
		Subscriptions: len(h.subscriptions), Waiters: h.waiters.len(), Evictions: h.table.evictions,
		Conservative: h.conservative,
	}
}
