package wal

import (
	"encoding/binary"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"
)

// maxMessageBytes bounds what is kept of one pg_logical_emit_message. Anybody
// may write one of up to 1 GB, which the protocol delivers as one message, and
// skipping it by closing the connection would only have it sent again. So its
// tail is dropped as it is read, before a buffer of its size is made.
const maxMessageBytes = 4096

// maxRowBytes bounds a row in the same way; one that is larger is told as all
// topics of its table. (Usually only the columns of templates and identity are
// published. With a replica identity of all columns, whole rows come, each of
// them up to 1 GB, and in an UPDATE twice.)
const maxRowBytes = 16 << 20

// cutRow stands in the place of 'I', 'U' or 'D' where the tuples were dropped;
// pgoutput has no message of that kind.
const cutRow = 'x'

// Layout of an XLogData frame: 'd', length(4), 'w', start(8), end(8), time(8),
// then pgoutput's message, which begins with its kind; a row's goes on with its
// relation(4).
const (
	frameHeader  = 1 + 4
	xlogHeader   = 1 + 8 + 8 + 8
	messageAfter = frameHeader + xlogHeader
	rowAfter     = messageAfter + 1 + 4
)

// newFrontend returns how to build a pgproto3 frontend that reads through a
// messageFilter, which tells l of each message.
func newFrontend(l *linger) func(r io.Reader, w io.Writer) *pgproto3.Frontend {
	return func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(&messageFilter{r: r, linger: l, buf: make([]byte, 0, 64<<10)}, w)
	}
}

// messageFilter passes a Postgres connection's backend messages through, and
// cuts logical messages to maxMessageBytes, and rows above maxRowBytes to
// nothing but their relation. It holds one buffer, whatever the
// size of what it reads. Not safe for concurrent use; Read is called by one
// goroutine, as pgconn does.
type messageFilter struct {
	r      io.Reader
	linger *linger // nil: nobody counts
	buf    []byte  // of fixed capacity; buf[off:] is read but not yet passed on
	off    int
	err    error // of r, told once what was read before it is passed on

	pass uint64 // bytes of the current frame still to pass on
	drop uint64 // bytes after them to drop
}

func (f *messageFilter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		rest := f.buf[f.off:]
		switch {
		case len(rest) > 0 && f.pass > 0:
			n := copy(p[:min(uint64(len(p)), f.pass)], rest)
			f.off += n
			f.pass -= uint64(n) //nolint:gosec // not negative
			return n, nil
		case len(rest) > 0 && f.drop > 0:
			n := min(uint64(len(rest)), f.drop)
			f.off += int(n) //nolint:gosec // at most len(rest)
			f.drop -= n
		case f.pass == 0 && f.drop == 0 && f.frame(rest):
			if f.linger != nil {
				f.linger.message()
			}
		case f.err != nil:
			err := f.err
			f.err = nil // a timeout isn't the end: pgconn may read on after one
			return 0, err
		default:
			f.buf, f.off = f.buf[:copy(f.buf, rest)], 0
			n, err := f.r.Read(f.buf[len(f.buf):cap(f.buf)])
			f.buf, f.err = f.buf[:len(f.buf)+n], err
		}
	}
}

// frame looks at the frame that rest begins with and decides what becomes of
// it. It reports false when more bytes are needed to tell.
func (f *messageFilter) frame(rest []byte) bool {
	if len(rest) < frameHeader {
		return false
	}
	length := uint64(binary.BigEndian.Uint32(rest[1:frameHeader])) // counts itself, not the type byte
	f.pass = 1 + length
	if rest[0] != 'd' || f.pass <= messageAfter+maxMessageBytes {
		return true
	}
	if len(rest) <= messageAfter {
		f.pass = 0
		return false
	}
	if rest[frameHeader] != 'w' {
		return true
	}
	switch kind := rest[messageAfter]; {
	case kind == 'M':
		f.cut(rest, messageAfter+maxMessageBytes)
	case (kind == 'I' || kind == 'U' || kind == 'D') && f.pass > messageAfter+maxRowBytes:
		rest[messageAfter] = cutRow
		f.cut(rest, rowAfter)
	}
	return true
}

// cut drops the end of the frame that rest begins with.
func (f *messageFilter) cut(rest []byte, keep uint64) {
	f.drop = f.pass - keep
	f.pass = keep
	binary.BigEndian.PutUint32(rest[1:], uint32(keep-1)) //nolint:gosec // a small constant
}
