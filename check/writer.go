package check

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
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
	// outcome and position. was are the versions that the rows have now.
	// An error leaves the outcome as far as it is known.
	Write(ctx context.Context, w *Write, was []int, end Ending, now func() time.Duration) error
	// Read returns what conversations hold.
	Read(ctx context.Context, conversations []string) (map[string][]Cell, error)
	Close()
}

// Ending is how a transaction ends: some time after its changes, with COMMIT or
// ROLLBACK.
type Ending struct {
	After    time.Duration
	Rollback bool
}

// writer owns some rows and changes them, one transaction after the other.
type writer struct {
	name          string
	rec           *recorder
	rng           *rand.Rand
	conversations []string
	numbers       *atomic.Int64 // of rows; shared by all writers
	slots         []slot
}

// slot is a row of the writer's.
type slot struct {
	row     int
	version int    // the last one written, whatever became of it
	shown   int    // the one that Postgres holds
	in      string // the conversation it is in; empty: none
	name    string // the message's, if it was made by RPC
}

const slotsPerWriter = 8

func newWriter(name string, rec *recorder, rng *rand.Rand, conversations []string, numbers *atomic.Int64) *writer {
	w := &writer{name: name, rec: rec, rng: rng, conversations: conversations, numbers: numbers, slots: make([]slot, slotsPerWriter)}
	for i := range w.slots {
		w.retire(&w.slots[i])
	}
	return w
}

// retire gives a row up whose state nobody knows.
func (w *writer) retire(s *slot) { *s = slot{row: int(w.numbers.Add(1))} }

// next is one random change of a row.
func (w *writer) next(s *slot, moves bool) Change {
	s.version++
	c := Change{Cell: Cell{s.row, s.version}, From: s.in, To: s.in}
	switch roll := w.rng.IntN(100); {
	case s.in == "":
		c.To = w.conversations[w.rng.IntN(len(w.conversations))]
	case roll < 15:
		c.To = ""
	case roll < 30 && moves:
		c.To = w.conversations[w.rng.IntN(len(w.conversations))]
	}
	return c
}

// sometimes rolls back.
func (w *writer) sometimes() Ending { return Ending{Rollback: w.rng.IntN(100) < 8} }

// bySQL writes one transaction of one to three rows.
func (w *writer) bySQL(ctx context.Context, session Session, end Ending) {
	rows := w.rng.Perm(len(w.slots))[:1+max(0, w.rng.IntN(6)-3)]
	write := Write{Writer: w.name}
	var was []int
	for _, i := range rows {
		write.Changes = append(write.Changes, w.next(&w.slots[i], true))
		was = append(was, w.slots[i].shown)
	}
	err := session.Write(ctx, &write, was, end, w.rec.now)
	if err != nil {
		if ctx.Err() == nil {
			w.rec.failed("write by SQL", err)
		}
	}
	w.rec.write(write)
	for n, i := range rows {
		w.settle(&w.slots[i], write.Changes[n], write.Outcome)
	}
}

func (w *writer) settle(s *slot, c Change, outcome Outcome) {
	switch outcome {
	case Committed:
		s.in, s.shown = c.To, c.Version
	case Unknown:
		w.retire(s)
	case RolledBack:
	}
}

// byRPC writes one row and, every now and then, reads it back.
func (w *writer) byRPC(ctx context.Context, messages messagesv1connect.MessageServiceClient) {
	s := &w.slots[w.rng.IntN(len(w.slots))]
	change := w.next(s, false)
	write := Write{Writer: w.name, Changes: []Change{change}, After: w.rec.floor(), Sent: w.rec.now()}
	name, stamp, err := send(ctx, messages, change, s.name)
	write.Done = w.rec.now()
	if err != nil {
		if ctx.Err() == nil {
			w.rec.failed("write by RPC", err)
		}
	} else {
		write.Outcome, write.Stamp, write.Upto = Committed, stamp, stamp
	}
	if write.After.Epoch != write.Upto.Epoch {
		write.After = freshet.Revision{}
	}
	w.rec.write(write)
	w.settle(s, change, write.Outcome)
	if err != nil {
		return
	}
	if s.name = name; change.To == "" {
		// The server may commit asynchronously, and a crash take the deletion back:
		// then there would be two of a row that is made again.
		w.retire(s)
	}
	if roll := w.rng.IntN(4); roll < 2 {
		read := Read{Client: w.name, Conversation: change.To, Start: w.rec.now()}
		if read.Conversation == "" {
			read.Conversation = change.From
		}
		if roll == 0 {
			read.AtLeast = stamp
		}
		err := list(ctx, messages, &read)
		read.End = w.rec.now()
		if err == nil {
			w.rec.read(read)
		} else if ctx.Err() == nil {
			w.rec.failed("read", err)
		}
	}
}

// send makes the one call that a change is.
func send(ctx context.Context, messages messagesv1connect.MessageServiceClient, c Change, name string) (string, freshet.Revision, error) {
	var stamp client.Stamp
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	ctx = client.CaptureStamp(ctx, &stamp)
	var err error
	switch {
	case c.From == "":
		var resp *connect.Response[messagesv1.CreateMessageResponse]
		resp, err = messages.CreateMessage(ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
			Parent: "conversations/" + c.To, Message: &messagesv1.Message{Author: "freshet check", Body: c.Cell.String()},
		}))
		if err == nil {
			name = resp.Msg.GetMessage().GetName()
		}
	case c.To == "":
		_, err = messages.DeleteMessage(ctx, connect.NewRequest(&messagesv1.DeleteMessageRequest{Name: name}))
	default:
		_, err = messages.UpdateMessage(ctx, connect.NewRequest(&messagesv1.UpdateMessageRequest{
			Message: &messagesv1.Message{Name: name, Body: c.Cell.String()},
		}))
	}
	return name, stamp.Revision, err
}
