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

// maxWaiting is how many commits may wait in the gate one by one; while more
// are held, later ones are merged into the last.
const maxWaiting = 8192

// allTopics matches every topic there is.
const allTopics freshet.Pattern = "**"

// waiting is one or several commits, or a keepalive, on its way through the
// gate.
type waiting struct {
	end    pglogrepl.LSN
	commit bool     // false: a keepalive, which has nothing but its end
	merged bool     // several commits: topics and floors are those of all
	xid    uint32   // of the commit, of the first one when merged
	hidden []uint32 // xids that no snapshot has shown yet
	topics []string
	floors []freshet.Pattern
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
//   - what has left is a prefix of what was pushed;
//   - a commit left only after a snapshot showed its xid;
//   - a keepalive never leaves before a commit that was pushed before it;
//   - the queue's length is bounded by maxWaiting + 1, and a merged entry's
//     size by maxTransactionTopics plus the number of commits still invisible.
//
// The zero value is an empty gate. It is pure, and not safe for concurrent
// use.
type gate struct {
	queue []waiting
	seen  map[string]struct{} // topics of the last entry, while it is merged
}

// push adds a commit at the end.
func (g *gate) push(tx *transaction) {
	if n := len(g.queue); n > maxWaiting {
		g.merge(&g.queue[n-1], tx)
		return
	}
	g.seen = nil
	g.queue = append(g.queue, waiting{
		end: tx.end, commit: true, xid: tx.xid, hidden: []uint32{tx.xid}, topics: tx.topics, floors: tx.floors,
	})
}

// merge tells tx together with what waits before it: later than could be, but
// at a revision that is true for both.
func (g *gate) merge(w *waiting, tx *transaction) {
	if g.seen == nil {
		g.seen = make(map[string]struct{}, len(w.topics)+len(tx.topics))
		for _, t := range w.topics {
			g.seen[t] = struct{}{}
		}
	}
	w.end, w.merged = tx.end, true
	w.hidden = append(w.hidden, tx.xid)
	for _, t := range tx.topics {
		if _, dup := g.seen[t]; !dup {
			g.seen[t] = struct{}{}
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
		clear(g.seen)
	}
}

// advance adds a keepalive: everything that the stream will still bring ends
// above end. It joins the queue, so that it can't pass a waiting commit.
func (g *gate) advance(end pglogrepl.LSN) {
	if n := len(g.queue); n > 0 {
		last := &g.queue[n-1]
		if end <= last.end || n > maxWaiting {
			return // said already; or held, and a later one will come
		}
		if !last.commit {
			last.end = end
			return
		}
	}
	g.queue = append(g.queue, waiting{end: end})
}

// holds reports whether a commit is waiting first, so that a snapshot is needed.
func (g *gate) holds() bool { return len(g.queue) > 0 && len(g.queue[0].hidden) > 0 }

// release takes from the front all that s shows, and appends it to dst. A nil
// s lets keepalives through, up to the first commit.
func (g *gate) release(s *snapshot, dst []waiting) []waiting {
	n := 0
	for n < len(g.queue) {
		w := &g.queue[n]
		w.hidden = slices.DeleteFunc(w.hidden, s.shows)
		if len(w.hidden) > 0 {
			break
		}
		dst = append(dst, *w)
		n++
	}
	if n == len(g.queue) {
		clear(g.queue)
		g.queue, g.seen = g.queue[:0], nil
		return dst
	}
	clear(g.queue[:n])
	g.queue = g.queue[n:]
	return dst
}
