package check

import (
	"cmp"
	"context"
	"time"
)

// truncate empties the table, between two rounds: no writer is at
// work. The table is the checker's own, all of it.
func (r *run) truncate(ctx context.Context) {
	write := Write{Writer: "truncate"}
	// Rows of which nobody knows whether they are there, and whether somebody is
	// still about to write them.
	rest := Write{Writer: "truncate", Outcome: Unknown}
	for _, w := range r.every {
		write.Changes = append(write.Changes, w.emptied()...)
		for _, c := range w.lost {
			rest.Changes = append(rest.Changes, Change{Cell: Cell{c.Row, c.Version + 1}, From: cmp.Or(c.To, c.From)})
		}
	}
	if err := r.longSession.Write(ctx, &write, Manner{Truncate: true}, r.rec.now); err != nil && ctx.Err() == nil {
		r.rec.failed("TRUNCATE", err)
	}
	r.rec.write(write)
	if rest.Sent, rest.Done = write.Sent, write.Done; len(rest.Changes) > 0 {
		r.rec.write(rest)
	}
	if write.Outcome == Committed {
		r.rec.did("TRUNCATE")
	}
	changes := write.Changes
	for _, w := range r.every {
		changes = w.settleEmptied(changes, write.Outcome)
	}
}

// emptied are the changes that take all of a writer's rows away.
func (w *writer) emptied() []Change {
	var changes []Change
	for i := range w.slots {
		if s := &w.slots[i]; s.in != "" {
			s.version++
			changes = append(changes, Change{Cell: Cell{s.row, s.version}, From: s.in})
		}
	}
	return changes
}

// settleEmptied takes what became of the first changes, which are this writer's,
// and returns the others.
func (w *writer) settleEmptied(changes []Change, outcome Outcome) []Change {
	if outcome != RolledBack {
		w.lost = nil
	}
	for i := range w.slots {
		s := &w.slots[i]
		if s.in == "" {
			continue
		}
		w.settle(s, changes[0], outcome)
		if changes = changes[1:]; outcome == Committed && s.id != "" {
			w.retire(s) // as after a deletion by RPC: see writer.byRPC
		}
	}
	return changes
}

// behindItsBack changes rows while their table is out of its publication, after
// all writers have come to rest. Nothing but a look at the catalog shows the server
// that there was something; clients must have it all the same when the round ends.
func (r *run) behindItsBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r.long.bySQL(ctx, r.longSession, r.readers[byPost], Manner{Unpublished: true})
}
