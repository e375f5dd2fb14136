package check

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
)

// Database is where the checker writes and reads beside the server. Its methods
// are safe for concurrent use.
type Database interface {
	// Session opens a connection.
	Session(ctx context.Context) (Session, error)
	// Positions returns the exact commit positions that have become known since
	// the last call, by the low 32 bits of the xid.
	Positions(ctx context.Context) (map[uint64]uint64, error)
	// Outcomes says what became of writes whose COMMIT had no answer.
	Outcomes(ctx context.Context, writes []Write) ([]Outcome, error)
	// Note says what this database can't tell; empty: it can tell all.
	Note() string
}

// Session is one connection, for one user at a time.
type Session interface {
	// Write makes w's changes in one transaction and fills in its times,
	// outcome and position. An error leaves the outcome as far as it is known.
	Write(ctx context.Context, w *Write, how Manner, now func() time.Duration) error
	// Read returns what places hold.
	Read(ctx context.Context, places []string) (Held, error)
	Close()
}

// Held is what a database holds.
type Held struct {
	// Epoch of the history that a server has begun there; zero: none has, since the
	// database started.
	Epoch  freshet.Epoch
	Places map[string][]Cell // ascending
}

// Manner is how a transaction does what it does.
type Manner struct {
	Was   []int    // the versions that the rows have now, one for each change
	IDs   []string // the ids of rows that it makes
	After time.Duration
	Emit  []string // topics to tell, beside what it changes
	// Rollback ends it, after that time, in place of COMMIT.
	Rollback bool
	// Copy makes rows by COPY, not INSERT.
	Copy bool
	// Truncate empties the table, and with it all rows that are changed.
	Truncate bool
	// Unpublished takes the table out of every publication meanwhile.
	Unpublished bool
}

// writer owns some rows and changes them, one transaction after the other.
type writer struct {
	name    string
	rec     *recorder
	names   *directory
	run     string   // whose ids its rows have
	own     []string // topics that it tells by SQL
	rng     *rand.Rand
	places  []string
	numbers *atomic.Int64 // of rows; shared by all writers
	slots   []slot
	lost    []Change // the last of each row that was given up
}

// slot is a row of the writer's.
type slot struct {
	row     int
	version int    // the last one written, whatever became of it
	shown   int    // the one that Postgres holds
	in      string // the place it is in; empty: none
	id      string // if it was made by RPC
}

const slotsPerWriter = 8

func newWriter(name string, rec *recorder, names *directory, rng *rand.Rand, places []string, numbers *atomic.Int64) *writer {
	w := &writer{name: name, rec: rec, names: names, rng: rng, places: places, numbers: numbers, slots: make([]slot, slotsPerWriter)}
	for i := range w.slots {
		w.retire(&w.slots[i])
	}
	return w
}

// retire gives a row up: nobody knows its state, or its number must not be used again.
func (w *writer) retire(s *slot) {
	w.names.place(s.row, "")
	*s = slot{row: int(w.numbers.Add(1))}
}

// able says what a writer can do to a row that is there.
type able struct{ update, remove, move bool }

// id is that of a row of the writer's, before the service has given it another.
func (w *writer) id(row int) string { return w.names.of.ID(w.run, row) }

// next is one random change of a row.
func (w *writer) next(s *slot, can able) Change {
	if s.in != "" && !can.update && !can.remove {
		w.lost = append(w.lost, Change{Cell: Cell{s.row, s.version}, To: s.in})
		w.retire(s)
	}
	s.version++
	c := Change{Cell: Cell{s.row, s.version}, From: s.in, To: s.in}
	switch roll := w.rng.IntN(100); {
	case s.in == "":
		c.To = w.places[w.rng.IntN(len(w.places))]
	case can.remove && (roll < 15 || !can.update):
		c.To = ""
	case roll < 30 && can.move:
		c.To = w.places[w.rng.IntN(len(w.places))]
	}
	return c
}

// sometimes rolls back, and sometimes copies.
func (w *writer) sometimes() Manner {
	how := Manner{Rollback: w.rng.IntN(100) < 8, Copy: w.rng.IntN(4) == 0}
	if w.rng.IntN(6) == 0 {
		how.Emit = w.own[:1+w.rng.IntN(len(w.own))]
	}
	return how
}

// bySQL writes one transaction of one to three rows and, every now and then, reads
// strongly what it has changed.
func (w *writer) bySQL(ctx context.Context, session Session, reader *reader, how Manner) {
	rows := w.rng.Perm(len(w.slots))[:1+max(0, w.rng.IntN(6)-3)]
	write := Write{Writer: w.name, Emits: how.Emit}
	for _, i := range rows {
		s := &w.slots[i]
		write.Changes = append(write.Changes, w.next(s, able{true, true, true}))
		how.Was, how.IDs = append(how.Was, s.shown), append(how.IDs, w.id(s.row))
		w.names.name(s.row, w.id(s.row))
	}
	err := session.Write(ctx, &write, how, w.rec.now)
	if err != nil {
		if ctx.Err() == nil {
			w.rec.failed("write by SQL", err)
		}
	}
	if how.Unpublished {
		// Nothing that Postgres tells the server shows it, so no stamp and no notice
		// can be held to it: it is written down as one that may have been.
		w.rec.write(unseen(write))
	} else {
		w.rec.write(write)
	}
	w.tell(write, how)
	for n, i := range rows {
		w.settle(&w.slots[i], write.Changes[n], write.Outcome)
	}
	if write.Outcome == Committed && w.rng.IntN(3) == 0 {
		w.readBack(ctx, reader, &write, freshet.Revision{})
	}
}

// tell counts what was exercised.
func (w *writer) tell(write Write, how Manner) {
	switch {
	case write.Outcome == RolledBack && how.Rollback:
		w.rec.did("ROLLBACK")
	case write.Outcome == Committed && how.Unpublished:
		w.rec.did("a change while the table is out of its publication")
	case write.Outcome == Committed:
		for _, c := range write.Changes {
			w.rec.did(c.statement(how))
		}
		if how.Emit != nil {
			w.rec.did("pg_logical_emit_message")
		}
	}
}

func (c Change) statement(how Manner) Exercise {
	switch {
	case c.From == "" && how.Copy:
		return "COPY"
	case c.From == "":
		return "INSERT"
	case c.To == "":
		return "DELETE"
	case c.From != c.To:
		return "UPDATE that moves a row"
	default:
		return "UPDATE"
	}
}

// unseen is a write of which no rule may say that it is due: it only explains what
// is shown.
func unseen(w Write) Write {
	if w.Outcome == Committed {
		w.Outcome, w.Xid = Unknown, 0
	}
	return w
}

func (w *writer) settle(s *slot, c Change, outcome Outcome) {
	switch outcome {
	case Committed:
		s.in, s.shown = c.To, c.Version
		w.names.place(s.row, s.in)
	case Unknown:
		w.lost = append(w.lost, c)
		w.retire(s)
	case RolledBack:
	}
}

// byRPC writes one row and, every now and then, reads it back.
func (w *writer) byRPC(ctx context.Context, reader *reader) {
	by := reader.wire
	s := &w.slots[w.rng.IntN(len(w.slots))]
	change := w.next(s, able{update: by.update != nil, remove: by.remove != nil})
	write := Write{Writer: w.name, Changes: []Change{change}, After: w.rec.floor(), Sent: w.rec.now()}
	id, stamp, err := w.send(ctx, by, change, s.id)
	write.Done = w.rec.now()
	if err != nil {
		if ctx.Err() == nil {
			w.rec.failed("write by RPC", err)
		}
	} else {
		w.names.name(change.Row, id)
		write.Outcome, write.Stamp, write.Upto = Committed, stamp.Revision, stamp.Revision
		write.Topics = w.names.shortAll(stamp.Topics)
		w.rec.did(w.names.of.mutationOf(change).name)
		if write.Topics != nil {
			w.rec.did("Freshet-Topics")
		}
	}
	if write.After.Epoch < write.Upto.Epoch || write.Upto.IsZero() {
		write.After = freshet.Revision{} // it says nothing of where in its epoch the commit is
	}
	w.rec.write(write)
	w.settle(s, change, write.Outcome)
	if err != nil {
		return
	}
	if s.id = id; change.To == "" {
		// The server may commit asynchronously, and a crash take the deletion back:
		// then there would be two of a row that is made again.
		w.retire(s)
	}
	switch w.rng.IntN(4) {
	case 0:
		w.readBack(ctx, reader, &write, write.Stamp)
	case 1:
		w.readBack(ctx, reader, &write, freshet.Revision{})
	}
}

// readBack reads something that a write has changed.
func (w *writer) readBack(ctx context.Context, reader *reader, write *Write, atLeast freshet.Revision) {
	topics := write.Changes[0].topics(w.names.of.kinds &^ byRow) // whichever shows it
	read := Read{Client: w.name, Topic: topics[w.rng.IntN(len(topics))], AtLeast: atLeast, Start: w.rec.now()}
	err := reader.read(ctx, &read)
	read.End = w.rec.now()
	if err == nil {
		w.rec.read(read)
	} else if ctx.Err() == nil {
		w.rec.failed("read", err)
	}
}

// mutationOf is the RPC that makes a change.
func (s *service) mutationOf(c Change) Mutation {
	switch {
	case c.From == "":
		return s.Create
	case c.To != "":
		return s.Update
	default:
		return s.Delete
	}
}

// send makes the one call that a change is, and returns the row's id.
func (w *writer) send(ctx context.Context, by *wire, c Change, id string) (string, client.Stamp, error) {
	var stamp client.Stamp
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	ctx = client.CaptureStamp(ctx, &stamp)
	var err error
	switch {
	case c.From == "":
		id, err = by.create(ctx, Row{w.id(c.Row), c.To, c.Cell})
	case c.To != "":
		_, err = by.update(ctx, Row{id, c.To, c.Cell})
	default:
		_, err = by.remove(ctx, Row{id, c.From, c.Cell})
	}
	return id, stamp, err
}
