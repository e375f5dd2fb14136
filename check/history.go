package check

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"github.com/freshet-dev/freshet"
)

// History is what was done and what was seen. Times are those of one monotonic
// clock, since the run's start. The rules never change it.
type History struct {
	Writes []Write
	Frames []Frame // of each client in the order in which it saw them
	Reads  []Read
	Views  []View
}

// Cell is one version of one row. A row keeps its number when it is deleted and
// made again, which only writers do whose commits no crash takes back; its versions count from 1, in the order in which its only writer
// wrote them. The body of a message holds its cell.
type Cell struct{ Row, Version int }

// Change makes a version: of a row in conversation From, now in To. Empty: the
// row wasn't there, or isn't any more.
type Change struct {
	Cell
	From, To string
}

// Outcome is what became of a write.
type Outcome uint8

const (
	// Unknown: no answer came. Its rows may or may not show it.
	Unknown Outcome = iota
	// Committed: the writer was told so.
	Committed
	// RolledBack: nobody may ever see it.
	RolledBack
)

// Write is a transaction.
type Write struct {
	Writer     string
	Changes    []Change
	Sent, Done time.Duration // COMMIT or the RPC was sent, and had its answer
	Outcome    Outcome

	// The commit's position: At if it is known, and in any case above After and
	// not above Upto. Zero: not known. Compare with notAbove and above only.
	At, After, Upto freshet.Revision
	// Stamp is the response's, of a write by RPC.
	Stamp freshet.Revision
	// Xid finds At.
	Xid uint64
}

// notAbove says that the commit's position is surely not above rev.
func (w *Write) notAbove(rev freshet.Revision) bool {
	upper := w.upper()
	return !upper.IsZero() && !rev.Less(upper)
}

func (w *Write) upper() freshet.Revision {
	if !w.At.IsZero() {
		return w.At
	}
	return w.Upto
}

// above says that the commit's position is surely above rev.
func (w *Write) above(rev freshet.Revision) bool {
	if !w.At.IsZero() {
		return rev.Less(w.At)
	}
	return !w.After.IsZero() && !w.After.Less(rev)
}

// FrameKind is the kind of a Frame.
type FrameKind uint8

// Kinds of frames: those of the stream, and what happened to the connection.
const (
	Subscribe    FrameKind = iota // with Topics and Since
	Connected                     // a connection was accepted; also one that the client package made by itself
	Disconnected                  // a connection ended
	Invalidate                    // with Topics and Revision
	Ready                         // with Revision
	Reset                         // with Revision
	Heartbeat                     // the event `frontier`
)

// Frame is one thing that a client's stream told.
type Frame struct {
	Client   string
	At       time.Duration
	Kind     FrameKind
	Revision freshet.Revision
	Since    freshet.Revision
	Topics   []string // conversations, whose messages the topics are
}

// Read is a request for the messages of a conversation, and its answer.
type Read struct {
	Client       string
	Conversation string
	AtLeast      freshet.Revision // zero: strong
	Direct       bool             // a SELECT on the primary, beside the server
	Start, End   time.Duration    // sent; taken in by the client, one after the other
	Failed       bool             // no answer; all below is unset
	Stamp        freshet.Revision // zero: none
	Cells        []Cell           // ascending
	Kept         bool             // the client showed it from now on
}

// View is what a client showed some time after writes had stopped, and what
// Postgres held.
type View struct {
	Client       string
	At           time.Duration
	Conversation string
	Shown, Truth []Cell // ascending
}

// index is a history in the order that rules need. A history may come in
// windows, one after the other: rows and writes stay, frames and reads are those
// of the last window, and of the windows before it what memory holds.
type index struct {
	*History
	rows     map[int]*row
	byConv   map[string][]*row   // rows that ever were, or may have been, in a conversation
	writesOn map[string][]*Write // committed ones, by their upper position
	epoch    freshet.Epoch       // the highest seen
	memory

	// Of this window.
	fresh   map[string][]*Write // those of writesOn
	clients []string
	frames  map[string][]Frame
	reads   map[string][]*Read
}

// memory is what rules keep of past windows.
type memory struct {
	known     []Frame // G1: who was told what first, ascending by revision
	listeners map[string]*listening
	before    map[string]Frame            // G4: the connection's last frame with an id
	shown     map[string]map[string]*Read // G4: client → conversation → what it shows
	resets    map[string][]time.Duration  // G4: of each client
	live      map[string]time.Duration    // latencies: since when a client listens
}

// row is all that was done to a row, ascending by version.
type row struct {
	number   int
	versions []version
	placed   []int // those that are committed at a position with an upper bound
}

type version struct {
	Change
	by *Write
}

func newIndex() *index {
	return &index{
		rows: map[int]*row{}, byConv: map[string][]*row{}, writesOn: map[string][]*Write{},
		memory: memory{
			listeners: map[string]*listening{}, before: map[string]Frame{}, shown: map[string]map[string]*Read{},
			resets: map[string][]time.Duration{}, live: map[string]time.Duration{},
		},
	}
}

// take goes on to the next window. Whatever was written before its end must be
// in it or in an earlier one.
func (x *index) take(h *History) {
	x.History, x.clients = h, nil
	x.fresh, x.frames, x.reads = map[string][]*Write{}, map[string][]Frame{}, map[string][]*Read{}
	x.takeWrites(h.Writes)
	for _, f := range h.Frames {
		if _, ok := x.frames[f.Client]; !ok {
			x.clients = append(x.clients, f.Client)
		}
		x.frames[f.Client] = append(x.frames[f.Client], f)
		x.epoch = max(x.epoch, f.Revision.Epoch)
		if f.Kind == Reset {
			x.resets[f.Client] = append(x.resets[f.Client], f.At)
		}
	}
	for i := range h.Reads {
		r := &h.Reads[i]
		if _, ok := x.frames[r.Client]; !ok && x.reads[r.Client] == nil {
			x.clients = append(x.clients, r.Client)
		}
		x.reads[r.Client] = append(x.reads[r.Client], r)
		x.epoch = max(x.epoch, r.Stamp.Epoch)
	}
	for _, reads := range x.reads {
		slices.SortStableFunc(reads, func(a, b *Read) int { return cmp.Compare(a.End, b.End) })
	}
	slices.Sort(x.clients)
}

// withWrites is the window together with all writes before it, so that the rules
// find in it what they found.
func (x *index) withWrites() *History {
	h := *x.History
	h.Writes = nil
	seen := map[*Write]bool{}
	for _, r := range x.rows {
		for _, v := range r.versions {
			if !seen[v.by] {
				seen[v.by] = true
				h.Writes = append(h.Writes, *v.by)
			}
		}
	}
	return &h
}

func (x *index) takeWrites(writes []Write) {
	touched := map[*row]bool{}
	for i := range writes {
		w := &writes[i]
		x.epoch = max(x.epoch, w.upper().Epoch)
		for _, c := range w.Changes {
			touched[x.add(w, c)] = true
		}
	}
	for r := range touched {
		slices.SortStableFunc(r.versions, func(a, b version) int { return cmp.Compare(a.Version, b.Version) })
		r.placed = r.placed[:0]
		for i, v := range r.versions {
			if v.by.Outcome == Committed && !v.by.upper().IsZero() {
				r.placed = append(r.placed, i)
			}
		}
	}
	byUpper := func(a, b *Write) int { return a.upper().Compare(b.upper()) }
	for conversation, fresh := range x.fresh {
		slices.SortStableFunc(fresh, byUpper)
		slices.SortStableFunc(x.writesOn[conversation], byUpper)
	}
}

func (x *index) add(w *Write, c Change) *row {
	r := x.rows[c.Row]
	if r == nil {
		r = &row{number: c.Row}
		x.rows[c.Row] = r
	}
	r.versions = append(r.versions, version{c, w})
	for _, conversation := range []string{c.From, c.To} {
		if conversation == "" {
			continue
		}
		if rows := x.byConv[conversation]; !slices.Contains(rows, r) {
			x.byConv[conversation] = append(rows, r)
		}
		if fresh := x.fresh[conversation]; w.Outcome == Committed && !w.upper().IsZero() &&
			(len(fresh) == 0 || fresh[len(fresh)-1] != w) {
			x.fresh[conversation] = append(fresh, w)
			x.writesOn[conversation] = append(x.writesOn[conversation], w)
		}
	}
	return r
}

// missing returns the write that an answer lacks, which it should show because
// due says so; nil: none. If due holds for a version of a row, it holds for
// earlier ones too.
func (x *index) missing(r *Read, due func(*Write) bool) *Write {
	for _, row := range x.byConv[r.Conversation] {
		after := sort.Search(len(row.placed), func(i int) bool { return !due(row.versions[row.placed[i]].by) })
		if after == 0 {
			continue
		}
		at := row.placed[after-1]
		if w := row.versions[at].by; x.outlives(w, r) && row.lacks(r, at) {
			return w
		}
	}
	return nil
}

// outlives says that a committed write can't have been lost before a read. Those
// by SQL never are: their sessions commit synchronously. The server's may commit
// asynchronously, so that a crash of Postgres takes some back; it begins another
// epoch. An answer without a stamp names no epoch: then there must have been none
// but the write's.
func (x *index) outlives(w *Write, r *Read) bool {
	return w.Stamp.IsZero() || w.Stamp.Epoch == r.Stamp.Epoch || r.Stamp.IsZero() && !r.Direct && w.Stamp.Epoch == x.epoch
}

// lacks says that an answer shows neither a version of the row nor a later one.
func (r *row) lacks(read *Read, at int) bool {
	if shown, ok := find(read.Cells, r.number); ok {
		return shown.Version < r.versions[at].Version
	}
	// Not shown: right if some version since then is elsewhere, and was sent
	// before the answer came.
	return !slices.ContainsFunc(r.versions[at:], func(v version) bool {
		return v.To != read.Conversation && v.by.Outcome != RolledBack && v.by.Sent < read.End
	})
}

// shows says that an answer shows a write, or what came after it.
func (x *index) shows(r *Read, w *Write) bool {
	for _, c := range w.Changes {
		row := x.rows[c.Row]
		at := slices.IndexFunc(row.versions, func(v version) bool { return v.by == w })
		if (c.From == r.Conversation || c.To == r.Conversation) && row.lacks(r, at) {
			return false
		}
	}
	return true
}

func find(cells []Cell, row int) (Cell, bool) {
	i, ok := slices.BinarySearchFunc(cells, row, func(c Cell, row int) int { return cmp.Compare(c.Row, row) })
	if !ok {
		return Cell{}, false
	}
	return cells[i], true
}

// impossible returns a cell that the answer can't have: one that was rolled
// back, or that was never written there.
func (x *index) impossible(r *Read) (Cell, *Write, bool) {
	for _, cell := range r.Cells {
		row := x.rows[cell.Row]
		if row == nil {
			return cell, nil, true
		}
		i, ok := slices.BinarySearchFunc(row.versions, cell.Version, func(v version, n int) int { return cmp.Compare(v.Version, n) })
		if !ok {
			return cell, nil, true
		}
		v := row.versions[i]
		if v.To != r.Conversation || v.by.Outcome == RolledBack {
			return cell, v.by, true
		}
	}
	return Cell{}, nil, false
}
