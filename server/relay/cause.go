package relay

import (
	"math"
	"slices"
	"time"

	"github.com/freshet-dev/freshet"
	relayv1 "github.com/freshet-dev/freshet/gen/freshet/relay/v1"
)

// Why a commit tells what (freshet.Commit.Changes), as frames say it: one cause for all
// topics that have the same. It is for people, and nothing depends on it: what doesn't
// fit is left out, and then not known.

const (
	// maxCauseBytes bounds what a commit's causes take of a frame, about.
	maxCauseBytes = 16 << 10
	causeBytes    = 40 // of one, besides its table, at most
	ofBytes       = 3  // of the number of one topic
	// lookBack is how many causes are compared for one that is the same.
	lookBack = 8
)

var kinds = map[freshet.ChangeKind]relayv1.ChangeKind{
	freshet.Inserted: relayv1.ChangeKind_CHANGE_KIND_INSERT, freshet.Updated: relayv1.ChangeKind_CHANGE_KIND_UPDATE,
	freshet.Deleted: relayv1.ChangeKind_CHANGE_KIND_DELETE, freshet.Truncated: relayv1.ChangeKind_CHANGE_KIND_TRUNCATE,
	freshet.Message: relayv1.ChangeKind_CHANGE_KIND_MESSAGE, freshet.TooMany: relayv1.ChangeKind_CHANGE_KIND_TOO_MANY,
	freshet.Unsure: relayv1.ChangeKind_CHANGE_KIND_UNSURE, freshet.Began: relayv1.ChangeKind_CHANGE_KIND_BEGAN,
}

var kindNames = func() map[relayv1.ChangeKind]freshet.ChangeKind {
	names := make(map[relayv1.ChangeKind]freshet.ChangeKind, len(kinds))
	for name, number := range kinds {
		names[number] = name
	}
	return names
}()

// causesOf is what a frame says of why; the newest come first to be left in. Nil: nobody
// asks, or nothing is known.
func causesOf(c freshet.Commit, xid *uint32) (causes []*relayv1.Cause) {
	if len(c.Changes) == 0 {
		return nil
	}
	number := numbersOf(c)
	room := maxCauseBytes
	for i := range slices.Backward(c.Changes) {
		change := &c.Changes[i]
		of, ok := number(change)
		if !ok {
			continue
		}
		cause := causeOf(change, c.Revision.Position, xid)
		for _, other := range causes[max(0, len(causes)-lookBack):] {
			if same(cause, other) {
				cause, other.Of = nil, append(other.Of, of)
				break
			}
		}
		if cause != nil {
			cause.Of = append(cause.Of, of)
			causes = append(causes, cause)
			room -= causeBytes + len(cause.GetTable())
		}
		if room -= ofBytes; room < 0 {
			break
		}
	}
	slices.Reverse(causes) // as they came
	return causes
}

// numbersOf returns what finds a change's topic or pattern among the commit's.
func numbersOf(c freshet.Commit) func(*freshet.Change) (uint32, bool) {
	const few = 8
	var topics map[string]int
	if len(c.Topics) > few {
		topics = make(map[string]int, len(c.Topics))
		for i, topic := range c.Topics {
			topics[topic] = i
		}
	}
	return func(change *freshet.Change) (uint32, bool) {
		var i int
		var ok bool
		switch {
		case change.Topic == "":
			i = slices.Index(c.Floors, change.Pattern)
			ok = i >= 0
			i += len(c.Topics)
		case topics != nil:
			i, ok = topics[change.Topic]
		default:
			i = slices.Index(c.Topics, change.Topic)
			ok = i >= 0
		}
		return uint32(i), ok //nolint:gosec // so many
	}
}

func causeOf(c *freshet.Change, position uint64, xid *uint32) *relayv1.Cause {
	cause := &relayv1.Cause{
		What: kinds[c.What], Table: c.Table, Rows: uint32(min(max(c.Rows, 0), math.MaxUint32)), //nolint:gosec // bounded
		Before: position - min(c.Revision.Position, position),
	}
	if xid == nil && c.XID != 0 || xid != nil && *xid != c.XID {
		cause.Xid = &c.XID
	}
	if !c.Time.IsZero() {
		cause.Time = c.Time.UnixMicro()
	}
	return cause
}

// same says that two causes differ in nothing but topics.
func same(a, b *relayv1.Cause) bool {
	return a.GetWhat() == b.GetWhat() && a.GetTable() == b.GetTable() && a.GetRows() == b.GetRows() && a.GetBefore() == b.GetBefore() &&
		a.GetXid() == b.GetXid() && (a.Xid == nil) == (b.Xid == nil) && a.GetTime() == b.GetTime()
}

// changesOf is what a commit of a frame says of why it tells what. Each topic and
// pattern has one at least, so that none that is older is taken for the reason; nil: the
// frame doesn't say.
func changesOf(epoch freshet.Epoch, c *relayv1.Commit) []freshet.Change {
	if len(c.GetCauses()) == 0 {
		return nil
	}
	topics, floors := c.GetTopics(), c.GetFloors()
	at := freshet.Revision{Epoch: epoch, Position: c.GetPosition()}
	changes := make([]freshet.Change, 0, len(topics)+len(floors))
	explained := make([]bool, len(topics)+len(floors))
	add := func(change freshet.Change, of int) {
		if explained[of] = true; of < len(topics) {
			change.Topic = topics[of]
		} else {
			change.Pattern = freshet.Pattern(floors[of-len(topics)])
		}
		changes = append(changes, change)
	}
	for _, cause := range c.GetCauses() {
		change := freshet.Change{What: freshet.Unknown, Table: cause.GetTable(), Rows: int(cause.GetRows()), Revision: at, XID: c.GetXid()}
		if name, ok := kindNames[cause.GetWhat()]; ok {
			change.What = name
		}
		if cause.Xid != nil {
			change.XID = cause.GetXid()
		}
		if cause.GetTime() != 0 {
			change.Time = time.UnixMicro(cause.GetTime())
		}
		change.Revision.Position -= min(cause.GetBefore(), at.Position)
		for _, of := range cause.GetOf() {
			if int(of) < len(explained) {
				add(change, int(of))
			}
		}
	}
	for of, known := range explained {
		if !known {
			add(freshet.Change{What: freshet.Unknown, Revision: at}, of)
		}
	}
	return changes
}
