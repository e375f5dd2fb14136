package wal

import (
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
)

// reasons collect why a transaction tells its topics and floors, for Config.Explain.
// A nil one collects nothing. It holds no more than the decoder does of topics.
type reasons struct {
	row   int // of the transaction's rows, the one that is being decoded
	found map[subject]*reason
}

// subject is a topic, or a pattern.
type subject struct {
	topic   string
	pattern freshet.Pattern
}

type reason struct {
	kind  freshet.ChangeKind // what was done to the first row
	table string             // its table
	rows  int
	row   int // the last one that was counted
}

func newReasons(explain bool) *reasons {
	if !explain {
		return nil
	}
	return &reasons{found: make(map[subject]*reason)}
}

// begin forgets the transaction before.
func (r *reasons) begin() {
	if r != nil {
		r.row = 0
		clear(r.found)
	}
}

// next says that what follows is of another row.
func (r *reasons) next() {
	if r != nil {
		r.row++
	}
}

// note says why something is told. source is nil where no table is concerned.
func (r *reasons) note(of subject, kind freshet.ChangeKind, source *contract.Source) {
	if r == nil {
		return
	}
	why := r.found[of]
	if why == nil {
		why = &reason{kind: kind, row: -1}
		if source != nil {
			why.table = source.String()
		}
		r.found[of] = why
	}
	if why.row != r.row { // old and new topics of a row are often the same
		why.row = r.row
		why.rows++
	}
}

// forgetTopics leaves the patterns.
func (r *reasons) forgetTopics() {
	if r == nil {
		return
	}
	for of := range r.found {
		if of.topic != "" {
			delete(r.found, of)
		}
	}
}

// of returns what was collected of a transaction; the epoch is still to be filled in.
func (r *reasons) of(xid uint32, end pglogrepl.LSN, at time.Time) []freshet.Change {
	if r == nil || len(r.found) == 0 {
		return nil
	}
	changes := make([]freshet.Change, 0, len(r.found))
	for of, why := range r.found {
		c := freshet.Change{
			Topic: of.topic, Pattern: of.pattern, What: why.kind, Table: why.table,
			Revision: freshet.Revision{Position: uint64(end)}, XID: xid, Time: at,
		}
		switch why.kind {
		case freshet.Inserted, freshet.Updated, freshet.Deleted:
			c.Rows = why.rows
		}
		changes = append(changes, c)
	}
	return changes
}

// kindOf is what a message about a row says.
func kindOf(message byte) freshet.ChangeKind {
	switch message {
	case 'I':
		return freshet.Inserted
	case 'U':
		return freshet.Updated
	case 'D':
		return freshet.Deleted
	default:
		return freshet.Unknown
	}
}

// keepNewest bounds what commits that are merged have of changes.
func keepNewest(changes []freshet.Change) []freshet.Change {
	if len(changes) <= 2*maxTransactionTopics {
		return changes
	}
	return append([]freshet.Change(nil), changes[len(changes)-maxTransactionTopics:]...)
}

// inEpoch completes the changes of an entry that ends at rev. Before them come those of
// floors that are told since their source was in quarantine: what is known of the same
// topics is the better reason.
func (f *Feed) inEpoch(rev freshet.Revision, changes []freshet.Change, unsure []freshet.Pattern) []freshet.Change {
	if !f.cfg.Explain {
		return nil
	}
	all := make([]freshet.Change, len(changes))
	for i, c := range changes {
		c.Revision.Epoch = rev.Epoch
		all[i] = c
	}
	return unsureOf(rev, unsure, all)
}

// unsureOf puts floors of a quarantine before the changes of a commit; nil: it doesn't say
// why it tells what, and still doesn't.
func unsureOf(rev freshet.Revision, floors []freshet.Pattern, changes []freshet.Change) []freshet.Change {
	if changes == nil || len(floors) == 0 {
		return changes
	}
	all := make([]freshet.Change, 0, len(floors)+len(changes))
	for _, floor := range floors {
		all = append(all, freshet.Change{Pattern: floor, What: freshet.Unsure, Revision: rev})
	}
	return append(all, changes...)
}
