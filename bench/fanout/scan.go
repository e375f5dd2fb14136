package fanout

import (
	"bytes"
	"strconv"
)

var (
	endOfHead   = []byte("\r\n\r\n")
	endOfFrame  = []byte("\n\n")
	endOfChunk  = []byte("\r\n")
	ofNotice    = []byte(`"spread_ms"`)
	ofRevision  = []byte(`"revision":"`)
	epochAndBar = len("00000001-")
)

// positionDigits is the length of a revision's position in hexadecimal.
const positionDigits = 16

// scanner finds notices in what one connection received. Chunked encoding
// doesn't matter: its lines end in CR LF, and never stand within a frame of a
// server that writes frames whole. One that doesn't would be seen as slow, not
// as wrong: an incomplete frame waits for its end.
type scanner struct {
	head bool   // the response's head has been read
	rest []byte // an incomplete frame
}

// feed takes the next bytes, and calls notice with the position of each notice
// that is complete.
func (s *scanner) feed(b []byte, notice func(position uint64)) {
	if len(s.rest) > 0 {
		b = append(s.rest, b...)
		s.rest = nil
	}
	if !s.head {
		at := bytes.Index(b, endOfHead)
		if at < 0 {
			s.rest = bytes.Clone(b)
			return
		}
		s.head, b = true, b[at+len(endOfHead):]
	}
	for {
		frame, rest, whole := bytes.Cut(b, endOfFrame)
		if !whole {
			break
		}
		if position, ok := positionOf(frame); ok {
			notice(position)
		}
		b = rest
	}
	if len(b) > 0 && !bytes.Equal(b, endOfChunk) { // which says nothing
		s.rest = bytes.Clone(b)
	}
}

// positionOf returns the position of a frame that is a notice.
func positionOf(frame []byte) (uint64, bool) {
	if !bytes.Contains(frame, ofNotice) {
		return 0, false
	}
	_, after, ok := bytes.Cut(frame, ofRevision)
	if !ok || len(after) < epochAndBar+positionDigits {
		return 0, false
	}
	position, err := strconv.ParseUint(string(after[epochAndBar:epochAndBar+positionDigits]), 16, 64)
	return position, err == nil
}
