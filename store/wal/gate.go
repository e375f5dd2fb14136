package wal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"

	"github.com/freshet-dev/freshet"
)

// snapshot is pg_current_snapshot() of the primary, by the low 32 bits of its
// transaction ids, which is all that the replication protocol has of one.
type snapshot struct {
	xmax uint32   // one above the last id that has ended; ids from here on may be in progress
	xip  []uint32 // in progress below it, top-level ids only

	xmin uint64 // the lowest id in progress, in full
}

// parseSnapshot parses the text form, `xmin:xmax:xip,…`.
func parseSnapshot(text string) (*snapshot, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return nil, fmt.Errorf("snapshot %q: want xmin:xmax:xip", text)
	}
	xmin, err := strconv.ParseUint(parts[0], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("snapshot %q: %w", text, err)
	}
	xmax, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("snapshot %q: %w", text, err)
	}
	s := &snapshot{xmin: xmin, xmax: uint32(xmax)} //nolint:gosec // the low 32 bits are what is wanted
	if parts[2] == "" {
		return s, nil
	}
	for id := range strings.SplitSeq(parts[2], ",") {
		xid, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("snapshot %q: %w", text, err)
		}
		s.xip = append(s.xip, uint32(xid)) //nolint:gosec // as above
	}
	return s, nil
}

// shows reports whether a transaction that is known to have committed is
// visible in the snapshot. Ids are compared modulo 2³², so that it holds
// across a wrap-around: no two live transactions are 2³¹ apart. No snapshot
// (nil) shows nothing.
func (s *snapshot) shows(xid uint32) bool {
	return s != nil && int32(xid-s.xmax) < 0 && !slices.Contains(s.xip, xid) //nolint:gosec // wraps on purpose
}

// maxWaiting is how many entries may wait in the gate one by one, so that its
// memory stays bounded. They are that many when the first of them has stayed
// invisible for long: for some seconds, where thousands of commits come in one.
// Each commit that comes then is merged into the last entry. Nothing is lost by
// that, but the commits of an entry are told together, once all of them are
// visible: later than they could be, to people who wait already.
const maxWaiting = 8192

// allTopics matches every topic there is.
const allTopics freshet.Pattern = "**"

// waiting is a stretch of the WAL on its way through the gate: all that came
// after the entry before it, up to end.
type waiting struct {
	end     pglogrepl.LSN
	commits int      // in the stretch; 0: the stream only said that it has come so far
	xid     uint32   // of the first commit
	hidden  []uint32 // xids of the commits that no snapshot has shown yet
	topics  []string // of all its commits
	floors  []freshet.Pattern
	changes []freshet.Change // the newest of them, if Config.Explain asks
	merging *merging         // nil: nothing was merged into it

	announced bool // one of its commits has recorded a contract
}

// merging is what it takes to merge into an entry without looking through all
// of it each time.
type merging struct {
	seen map[string]struct{} // the entry's topics
	sift int                 // hidden is looked through once there are so many
}

// gate holds commits back until they are visible on the primary.
//
// A walsender ships a commit when it is flushed; other sessions see it only
// once the committer has left the proc array, which with synchronous
// replication is after the standby's answer, and a later commit can become
// visible before an earlier one. So commits leave strictly in the order of
// the WAL, each only once a snapshot of the primary shows it. A commit that
// stays invisible holds everything behind it: the gate fails closed, it never
// skips.
//
// Invariants:
//   - what has left is a prefix of what was pushed, and all of it: an entry
//     that takes in another stretch takes its commits, topics and end along;
//   - an entry left only after snapshots showed each of its commits, and after
//     a look at the catalog that began when the WAL had reached its end
//     (quarantine says what for);
//   - a keepalive never leaves before a commit that was pushed before it;
//   - the queue's length is at most limit + 1, and the size of an entry that
//     others were merged into is bounded by maxTransactionTopics plus twice the
//     number of its commits that are still invisible (and with Config.Explain by
//     twice maxTransactionTopics of changes).
//
// The zero value is an empty gate that merges everything. It is pure, and not
// safe for concurrent use.
type gate struct {
	limit int // entries that may wait one by one
	queue []waiting
}

// full reports whether what comes joins the last entry.
func (g *gate) full() bool { return len(g.queue) > g.limit }

// push adds a commit at the end.
func (g *gate) push(tx *transaction) {
	if g.full() {
		g.merge(&g.queue[len(g.queue)-1], tx)
		return
	}
	g.queue = append(g.queue, waiting{
		end: tx.end, commits: 1, xid: tx.xid, hidden: []uint32{tx.xid}, topics: tx.topics, floors: tx.floors, announced: tx.announced,
		changes: tx.changes,
	})
}

// merge tells tx together with what waits before it: later than could be, but
// at a revision that is true for both.
func (g *gate) merge(w *waiting, tx *transaction) {
	m := w.merging
	if m == nil {
		m = &merging{seen: make(map[string]struct{}, len(w.topics)+len(tx.topics)), sift: minSift}
		for _, t := range w.topics {
			m.seen[t] = struct{}{}
		}
		w.merging = m
	}
	if w.commits == 0 {
		w.xid = tx.xid
	}
	w.end = tx.end
	w.commits++
	w.announced = w.announced || tx.announced
	w.hidden = append(w.hidden, tx.xid)
	w.changes = keepNewest(append(w.changes, tx.changes...))
	for _, t := range tx.topics {
		if _, dup := m.seen[t]; !dup {
			m.seen[t] = struct{}{}
			w.topics = append(w.topics, t)
		}
	}
	for _, f := range tx.floors {
		if !slices.Contains(w.floors, f) {
			w.floors = append(w.floors, f)
		}
	}
	if len(w.topics) > maxTransactionTopics {
		// Rare enough (a held gate, and more distinct topics than a
		// transaction may have) to give up precision altogether.
		w.topics, w.floors = nil, []freshet.Pattern{allTopics}
		clear(m.seen)
		if len(tx.changes) > 0 {
			w.changes = append(w.changes, freshet.Change{Pattern: allTopics, What: freshet.TooMany, Revision: freshet.Revision{Position: uint64(tx.end)}})
		}
	}
}

// advance adds a keepalive: everything that the stream will still bring ends
// above end. It joins the queue, so that it can't pass a waiting commit.
func (g *gate) advance(end pglogrepl.LSN) {
	if n := len(g.queue); n > 0 {
		last := &g.queue[n-1]
		if end <= last.end {
			return
		}
		if last.commits == 0 || g.full() {
			last.end = end
			return
		}
	}
	g.queue = append(g.queue, waiting{end: end})
}

// holds reports whether a commit is waiting first, so that a snapshot is needed.
func (g *gate) holds() bool { return len(g.queue) > 0 && len(g.queue[0].hidden) > 0 }

// last is the end of what was pushed; 0: nothing waits.
func (g *gate) last() pglogrepl.LSN {
	if len(g.queue) == 0 {
		return 0
	}
	return g.queue[len(g.queue)-1].end
}

// release takes from the front all that s shows and that ends at or below
// looked, and appends it to dst. A nil s lets keepalives through, up to the first
// commit.
func (g *gate) release(s *snapshot, looked pglogrepl.LSN, dst []waiting) []waiting {
	n := 0
	for n < len(g.queue) {
		w := &g.queue[n]
		w.hidden = slices.DeleteFunc(w.hidden, s.shows)
		if len(w.hidden) > 0 || w.end > looked {
			break
		}
		dst = append(dst, *w)
		n++
	}
	if n == len(g.queue) {
		clear(g.queue)
		g.queue = g.queue[:0]
		return dst
	}
	clear(g.queue[:n])
	g.queue = g.queue[n:]
	g.queue[len(g.queue)-1].forgetShown(s)
	return dst
}

// minSift is from how many commits in one entry on it is worth looking which
// of them have become visible meanwhile.
const minSift = 1024

// forgetShown drops from an entry that others are merged into, for as long as
// the gate is held, the commits that s shows: each time there are twice as many
// as were left the last time.
func (w *waiting) forgetShown(s *snapshot) {
	if s == nil || w.merging == nil || len(w.hidden) < w.merging.sift {
		return
	}
	w.hidden = slices.DeleteFunc(w.hidden, s.shows)
	w.merging.sift = max(minSift, 2*len(w.hidden))
}
