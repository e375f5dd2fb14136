package wal

import (
	"context"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/store/setup"
)

// Gate lets the pipeline's model test drive the gate without a database.
type Gate struct{ gate gate }

// NewGate returns a gate in which limit entries may wait one by one.
func NewGate(limit int) *Gate { return &Gate{gate: gate{limit: limit}} }

// Push adds a commit; Keepalive a position that was reported.
func (g *Gate) Push(xid uint32, end uint64, topics []string) {
	g.gate.push(&transaction{xid: xid, end: pglogrepl.LSN(end), topics: topics})
}

func (g *Gate) Keepalive(end uint64) { g.gate.advance(pglogrepl.LSN(end)) }

// Release hands everything that a snapshot shows to to, as the release loop does.
func (g *Gate) Release(xmax uint32, xip []uint32, epoch freshet.Epoch, to Sink) {
	for _, w := range g.gate.release(&snapshot{xmax: xmax, xip: xip}, 1<<62, nil) {
		rev := freshet.Revision{Epoch: epoch, Position: uint64(w.end)}
		if w.commits > 0 {
			to.Publish(freshet.Commit{Revision: rev, Topics: w.topics, Floors: w.floors})
		} else {
			to.Advance(rev)
		}
	}
}

// Silenced returns what the session says when its connection falls silent, by
// silence, before it begins a transaction.
func Silenced(ctx context.Context, url string, silence func()) error {
	connect := func(context.Context) (*pgx.ConnConfig, error) { return setup.ParseConfig(url) }
	s := &session{f: &Feed{cfg: Config{Connect: connect}}, dial: newDialer()}
	defer s.dial.close()
	conn, err := s.openConn(ctx, nil)
	if err != nil {
		return err
	}
	silence()
	_, err = conn.Begin(ctx)
	return s.dial.cause(err)
}

// LockClass and LockKeys name the advisory locks of the nodes that share a slot.
const LockClass = lockClass

func LockKeys(slot string) []int32 {
	return []int32{lockKey(slot, lockMaking), lockKey(slot, lockKeeping)}
}
