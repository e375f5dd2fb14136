package wal

import (
	"bufio"
	"context"
	"math"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// linger decides how long to leave a busy stream to gather before it is read
// on. A walsender sends each message for itself, each read wakes the process,
// and each commit that is decoded alone needs a snapshot of its own: where
// Postgres and this process share CPUs, that is most of what capture takes
// from those who write. So while messages come at lingerFrom or more, reads are
// as far apart as it takes to bring some lingerFor of them, and max at most.
//
// It never waits for a slower stream, nor for one that is so fast that reads
// bring many anyway, or fill the buffer: a restart that catches up, where to
// wait would hold up the walsender as soon as the socket is full (a Unix socket
// takes 208 KiB, and counts each message for a KiB or so at least).
//
// Those reads are of the socket itself. Above TLS each brings one record, and a
// walsender makes one of each message: whoever waited before these would gather
// nothing, and fall behind for as long as the stream is busy.
//
// The zero value never waits. Reads of the socket are one at a time; pgconn has some made
// by a goroutine of its own, while another takes messages out of what was read before.
type linger struct {
	max time.Duration // of a wait

	messages atomic.Int64 // since at

	// Of whoever reads.
	rate   float64   // messages per second, a mean that forgets, as of at
	at     time.Time // of the last call of wait
	full   bool      // the last read filled the buffer
	fullAt time.Time // when it last did
}

const (
	lingerFrom   = 10_000 // messages per second; a commit of one row is three
	lingerFor    = 128    // messages
	lingerMemory = 20 * time.Millisecond

	// minLinger is what the runtime's poller can tell from nothing.
	minLinger = time.Millisecond

	// gatherBytes is what is read of a socket at once, and below TLS taken to pieces later.
	gatherBytes = 32 << 10
)

// gather has connections that are dialled by config, one at a time, read as l says.
func (l *linger) gather(config *pgconn.Config) {
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &gathered{Conn: conn, ahead: bufio.NewReaderSize(&lingering{from: conn, linger: l}, gatherBytes)}, nil
	}
}

// gathered is a connection of which more is read at once than was asked for.
type gathered struct {
	net.Conn
	ahead *bufio.Reader
}

func (g *gathered) Read(p []byte) (int, error) { return g.ahead.Read(p) }

// NetConn returns the connection below, as that of a tls.Conn does.
func (g *gathered) NetConn() net.Conn { return g.Conn }

// lingering is a reader that waits before each read.
type lingering struct {
	from   net.Conn
	linger *linger
}

func (r *lingering) Read(p []byte) (int, error) {
	r.linger.wait()
	n, err := r.from.Read(p)
	r.linger.full = n == len(p)
	return n, err
}

// message is one message that was read.
func (l *linger) message() { l.messages.Add(1) }

// wait is called before a read.
func (l *linger) wait() {
	if l.max <= 0 {
		return
	}
	now := time.Now()
	l.rate *= math.Exp(-now.Sub(l.at).Seconds() / lingerMemory.Seconds())
	l.rate += float64(l.messages.Swap(0)) / lingerMemory.Seconds()
	l.at = now
	if l.full {
		l.fullAt = now
	}
	if l.rate < lingerFrom || now.Sub(l.fullAt) < lingerMemory {
		return
	}
	if d := time.Duration(lingerFor / l.rate * float64(time.Second)); d >= minLinger {
		time.Sleep(min(d, l.max))
	}
}
