package check

import (
	"context"
	"time"
)

// truncate empties the table of messages, between two rounds: no writer is at
// work. It is the checker's own, all of it.
func (r *run) truncate(ctx context.Context) {
	write := Write{Writer: "truncate"}
	// Rows of which nobody knows whether they are there, and whether somebody is
	// still about to write them.
	rest := Write{Writer: "truncate", Outcome: Unknown}
	var slots []*slot
	for _, w := range r.every {
		for i := range w.slots {
			if s := &w.slots[i]; s.in != "" {
				s.version++
				slots = append(slots, s)
				write.Changes = append(write.Changes, Change{Cell: Cell{s.row, s.version}, From: s.in})
			}
		}
		for _, c := range w.lost {
			from := c.To
			if from == "" {
				from = c.From
			}
			rest.Changes = append(rest.Changes, Change{Cell: Cell{c.Row, c.Version + 1}, From: from})
		}
	}
	if err := r.longSession.Write(ctx, &write, Manner{Truncate: true}, r.rec.now); err != nil && ctx.Err() == nil {
		r.rec.failed("TRUNCATE", err)
	}
	rest.Sent, rest.Done = write.Sent, write.Done
	r.rec.write(write)
	if len(rest.Changes) > 0 {
		r.rec.write(rest)
	}
	if write.Outcome == Committed {
		r.rec.did("TRUNCATE")
	}
	owners := map[*slot]*writer{}
	for _, w := range r.every {
		if write.Outcome != RolledBack {
			w.lost = nil
		}
		for i := range w.slots {
			owners[&w.slots[i]] = w
		}
	}
	for n, s := range slots {
		w := owners[s]
		w.settle(s, write.Changes[n], write.Outcome)
		if write.Outcome == Committed && s.name != "" {
			w.retire(s) // as after a deletion by RPC: see writer.byRPC
		}
	}
}

// behindItsBack changes rows while their table is out of its publication, after
// all writers have come to rest. Nothing but a look at the catalog shows the server
// that there was something; clients must have it all the same when the round ends.
func (r *run) behindItsBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r.long.bySQL(ctx, r.longSession, r.readers[byPost], Manner{Unpublished: true})
}
