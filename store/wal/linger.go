package wal

import (
	"math"
	"time"
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
// The zero value never waits. For one goroutine.
type linger struct {
	max time.Duration // of a wait

	messages int       // since at
	rate     float64   // messages per second, a mean that forgets, as of at
	at       time.Time // of the last call of wait
	full     bool      // the last read filled the buffer
	fullAt   time.Time // when it last did
}

const (
	lingerFrom   = 10_000 // messages per second; a commit of one row is three
	lingerFor    = 128    // messages
	lingerMemory = 20 * time.Millisecond

	// minLinger is what the runtime's poller can tell from nothing.
	minLinger = time.Millisecond
)

// message is one message that was read.
func (l *linger) message() { l.messages++ }

// wait is called before a read.
func (l *linger) wait() {
	if l.max <= 0 {
		return
	}
	now := time.Now()
	l.rate *= math.Exp(-now.Sub(l.at).Seconds() / lingerMemory.Seconds())
	l.rate += float64(l.messages) / lingerMemory.Seconds()
	l.messages, l.at = 0, now
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
