package check

import (
	"cmp"
	"maps"
	"slices"
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
	// Held is what Postgres held at the end; nil: it wasn't asked.
	Held *Holding
}

// Cell is one version of one row. A row keeps its number when it is deleted and
// made again, which only writers do whose commits no crash takes back; its versions count from 1, in the order in which its only writer
// wrote them. Each row bears its cell, in a column that is the client's to choose.
type Cell struct{ Row, Version int }

// Change makes a version: of a row in place From, now in To. Empty: the
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
	Emits      []string      // topics that it tells beside those of its changes
	Sent, Done time.Duration // COMMIT or the RPC was sent, and had its answer
	Outcome    Outcome

	// The commit's position: At if it is known, and in any case above After and
	// not above Upto. Zero: not known. Compare with notAbove, above and lower only.
	// An Upto that isn't above After is a stamp that can't be the commit's (G5): then
	// nothing is known of where it is.
	At, After, Upto freshet.Revision
	// Stamp is the response's, of a write by RPC, and Topics those that it named;
	// nil: none.
	Stamp  freshet.Revision
	Topics []string
	// Xid finds At.
	Xid uint64
	// Lost is the epoch of a history that is without the commit, though it was
	// acknowledged in an earlier one; zero: none is known. See Holding.
	Lost freshet.Epoch
}

// notAbove says that the commit's position is surely not above rev.
func (w *Write) notAbove(rev freshet.Revision) bool {
	upper := w.upper()
	return !upper.IsZero() && !rev.Less(upper)
}

func (w *Write) upper() freshet.Revision {
	switch {
	case !w.At.IsZero():
		return w.At
	case w.isNowhere():
		return freshet.Revision{}
	default:
		return w.Upto
	}
}

// isNowhere says that its bounds contradict each other.
func (w *Write) isNowhere() bool { return !w.Upto.IsZero() && !w.After.Less(w.Upto) }

// isLate says that it was sent when the epoch that it was stamped with had ended.
func (w *Write) isLate() bool { return !w.Stamp.IsZero() && w.Stamp.Epoch < w.After.Epoch }

// above says that the commit's position is surely above rev.
func (w *Write) above(rev freshet.Revision) bool {
	if !w.At.IsZero() {
		return rev.Less(w.At)
	}
	lower := w.lower()
	return !lower.IsZero() && !lower.Less(rev)
}

// lower is a position that the commit is surely not below; zero: none is known.
func (w *Write) lower() freshet.Revision {
	switch {
	case !w.At.IsZero():
		return w.At
	case w.isNowhere():
		return freshet.Revision{}
	default:
		return w.After
	}
}

// FrameKind is the kind of a Frame.
type FrameKind uint8

// Kinds of frames: those of the stream, and what happened to the connection.
const (
	Subscribe    FrameKind = iota // with Topics, Since and SinceBy
	Connected                     // a connection was accepted; also one that the client package made by itself
	Disconnected                  // a connection ended
	Invalidate                    // with Topics and Revision
	Ready                         // with Revision
	Reset                         // with Revision
	Heartbeat                     // the event `frontier`
	Part                          // with Topics and Revision: an invalidate without an id, of a list that was split
)

// Frame is one thing that a client's stream told.
type Frame struct {
	Client   string
	At       time.Duration
	Kind     FrameKind
	Revision freshet.Revision
	// Topics are written short; see Everything.
	Topics []string
	// Since is what all topics are subscribed with that SinceBy doesn't name;
	// zero: nothing is owed of the time before.
	Since   freshet.Revision
	SinceBy map[string]freshet.Revision
}

// since is what a topic is subscribed with.
func (f *Frame) since(topic string) freshet.Revision {
	if rev, ok := f.SinceBy[topic]; ok {
		return rev
	}
	return f.Since
}

// Read is a request for what a topic names, and its answer.
type Read struct {
	Client     string
	Topic      string           // short; see Everything
	AtLeast    freshet.Revision // zero: strong
	Direct     bool             // a SELECT on the primary, beside the server
	Start, End time.Duration    // sent; taken in by the client, one after the other
	Failed     bool             // no answer; all below is unset
	Stamp      freshet.Revision // zero: none
	// Names are the topics that the answer says it depends on, of a read that is OfCaller;
	// nil: it says nothing.
	Names []string
	Content
	Kept bool // the client showed it from now on
	// First: it is Kept and took nothing's place. The client had not had this query
	// before, or had dropped it together with what it showed.
	First bool
}

// View is what a client showed some time after writes had stopped, and what
// Postgres held.
type View struct {
	Client       string
	At           time.Duration
	Topic        string
	Shown, Truth Content
}

// index is a history in the order that rules need. A history may come in
// windows, one after the other: rows and writes stay, frames and reads are those
// of the last window, and of the windows before it what memory holds.
type index struct {
	*History
	kinds    kinds // of topics that the service has
	rows     map[int]*row
	rowsOf   map[string][]*row   // by topic: rows that are, were not long ago, or may be in it
	writesOn map[string][]*Write // by topic: committed ones, by their upper position
	epoch    freshet.Epoch       // the highest seen
	lost     int                 // commits
	// places are all that rows ever were in, ascending.
	places []string
	// What left its topic in this window, and in the one before.
	gone, older []departure
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
	shown     map[string]map[string]*Read // G4: client → topic → what it shows
	resets    map[string][]Frame          // G4: of each client
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

func newIndex(of kinds) *index {
	return &index{
		kinds: of, rows: map[int]*row{}, rowsOf: map[string][]*row{}, writesOn: map[string][]*Write{},
		memory: memory{
			listeners: map[string]*listening{}, before: map[string]Frame{}, shown: map[string]map[string]*Read{},
			resets: map[string][]Frame{}, live: map[string]time.Duration{},
		},
	}
}

// take goes on to the next window. Whatever was written before its end must be
// in it or in an earlier one.
func (x *index) take(h *History) {
	x.History, x.clients = h, nil
	x.fresh, x.frames, x.reads = map[string][]*Write{}, map[string][]Frame{}, map[string][]*Read{}
	x.takeWrites(h.Writes)
	x.lose(h.Held)
	for _, f := range h.Frames {
		if _, ok := x.frames[f.Client]; !ok {
			x.clients = append(x.clients, f.Client)
		}
		x.frames[f.Client] = append(x.frames[f.Client], f)
		x.epoch = max(x.epoch, f.Revision.Epoch)
		switch f.Kind {
		case Reset:
			x.resets[f.Client] = append(x.resets[f.Client], f)
		case Subscribe:
			maps.DeleteFunc(x.shown[f.Client], func(topic string, _ *Read) bool { return !slices.Contains(f.Topics, topic) })
		default:
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

// departure is a row that has left a topic for good, as it seems.
type departure struct {
	row   *row
	topic string
}

// forget takes rows out of topics that they left before the window before began,
// so that a long run's reads are judged as fast as a short one's. An answer that
// shows such a row is found all the same.
func (x *index) forget() {
	for _, d := range x.older {
		if d.row.left(d.topic) {
			x.rowsOf[d.topic] = slices.DeleteFunc(x.rowsOf[d.topic], func(r *row) bool { return r == d.row })
			if len(x.rowsOf[d.topic]) == 0 {
				delete(x.rowsOf, d.topic)
			}
		}
	}
	x.gone, x.older = nil, x.gone
}

// left says that a row's last version is committed and not in the topic.
func (r *row) left(topic string) bool {
	last := r.versions[len(r.versions)-1]
	return last.by.Outcome == Committed && last.by.Lost == 0 && !last.by.upper().IsZero() && !last.within(topic)
}

func (x *index) takeWrites(writes []Write) {
	x.forget()
	touched := map[*row]bool{}
	for i := range writes {
		w := &writes[i]
		x.epoch = max(x.epoch, w.upper().Epoch)
		for _, c := range w.Changes {
			touched[x.add(w, c)] = true
		}
		for _, topic := range w.Emits {
			x.concerns(w, topic)
		}
	}
	for r := range touched {
		slices.SortStableFunc(r.versions, func(a, b version) int { return cmp.Compare(a.Version, b.Version) })
		r.place()
		for _, topic := range topicsOf(r.changes(), x.kinds) {
			if r.left(topic) && topic != Counted {
				x.gone = append(x.gone, departure{r, topic})
			}
		}
	}
	byUpper := func(a, b *Write) int { return a.upper().Compare(b.upper()) }
	for topic, fresh := range x.fresh {
		slices.SortStableFunc(fresh, byUpper)
		slices.SortStableFunc(x.writesOn[topic], byUpper)
	}
}

// place finds the versions that are placed; they ascend.
func (r *row) place() {
	r.placed = r.placed[:0]
	for i, v := range r.versions {
		if v.by.Outcome == Committed && !v.by.upper().IsZero() {
			r.placed = append(r.placed, i)
		}
	}
}

// enter has a row judged in the reads of a topic.
func (x *index) enter(r *row, topic string) {
	if rows := x.rowsOf[topic]; topic != Counted && !slices.Contains(rows, r) {
		x.rowsOf[topic] = append(rows, r)
	}
}

func (r *row) changes() []Change {
	changes := make([]Change, 0, len(r.versions))
	for _, v := range r.versions {
		changes = append(changes, v.Change)
	}
	return changes
}

func (x *index) add(w *Write, c Change) *row {
	r := x.rows[c.Row]
	if r == nil {
		r = &row{number: c.Row}
		x.rows[c.Row] = r
	}
	r.versions = append(r.versions, version{c, w})
	for _, topic := range c.topics(x.kinds) {
		if at, known := slices.BinarySearch(x.places, topic); !known && kindOf(topic) == OfPlace {
			x.places = slices.Insert(x.places, at, topic)
		}
		x.enter(r, topic)
		x.concerns(w, topic)
	}
	return r
}

// concerns enters a write under a topic, once.
func (x *index) concerns(w *Write, topic string) {
	if fresh := x.fresh[topic]; w.Outcome == Committed && !w.upper().IsZero() &&
		(len(fresh) == 0 || fresh[len(fresh)-1] != w) {
		x.fresh[topic] = append(fresh, w)
		x.writesOn[topic] = append(x.writesOn[topic], w)
	}
}
