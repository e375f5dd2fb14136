package stream

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/freshet-dev/freshet"
)

// maxFrame bounds one frame in bytes: proxies and parsers have limits.
const maxFrame = 32 << 10

// invalidateOverhead is more than what a frame of invalidate has beside its
// topics: the retry and id lines, the event line, the fixed part of the data.
const invalidateOverhead = 256

// appendRetry appends the line that tells an EventSource how long to wait
// before it reconnects. It belongs to the frame that follows, so that no client
// takes it for an empty event.
func appendRetry(b []byte, d time.Duration) []byte {
	b = append(b, "retry: "...)
	b = strconv.AppendInt(b, d.Milliseconds(), 10)
	return append(b, '\n')
}

func appendRevision(b []byte, rev freshet.Revision) []byte {
	b, _ = rev.AppendText(b) // there is no error
	return b
}

// appendHead appends all of a frame that comes before its data; the zero id
// is no id.
func appendHead(b []byte, event string, id freshet.Revision) []byte {
	if !id.IsZero() {
		b = append(b, "id: "...)
		b = appendRevision(b, id)
		b = append(b, '\n')
	}
	b = append(b, "event: "...)
	b = append(b, event...)
	b = append(b, "\ndata: {\"revision\":\""...)
	return b
}

// appendInvalidate appends one frame with as many of the topics as fit, and
// returns the rest. The id is on the frame that leaves no rest; when the notice
// is partial, on none.
func appendInvalidate(b []byte, rev freshet.Revision, topics []string, partial bool) (frame []byte, rest []string) {
	fit := 0
	for size := invalidateOverhead; fit < len(topics); fit++ {
		size += jsonLen(topics[fit]) + 1
		if size > maxFrame && fit > 0 {
			break
		}
	}
	id := rev
	if fit < len(topics) || partial {
		id = freshet.Revision{}
	}
	b = appendHead(b, "invalidate", id)
	b = appendRevision(b, rev)
	b = append(b, `","topics":[`...)
	for i, topic := range topics[:fit] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, topic)
	}
	return append(b, `],"spread_ms":0}`+"\n\n"...), topics[fit:]
}

// appendReady appends the frame that says ready; expires is how long the caller's
// credential still counts, 0: it doesn't end.
func appendReady(b []byte, rev freshet.Revision, topics int, heartbeat, expires time.Duration, contract string) []byte {
	b = appendHead(b, "ready", rev)
	b = appendRevision(b, rev)
	b = append(b, `","topics":`...)
	b = strconv.AppendInt(b, int64(topics), 10)
	b = append(b, `,"heartbeat_ms":`...)
	b = strconv.AppendInt(b, heartbeat.Milliseconds(), 10)
	b = append(b, `,"contract":`...)
	b = appendJSON(b, contract)
	if expires > 0 {
		b = append(b, `,"expires_ms":`...)
		b = strconv.AppendInt(b, expires.Milliseconds(), 10)
	}
	return append(b, "}\n\n"...)
}

func appendReset(b []byte, rev freshet.Revision) []byte {
	b = appendHead(b, "reset", rev)
	b = appendRevision(b, rev)
	return append(b, `","reason":"epoch"}`+"\n\n"...)
}

func appendFrontier(b []byte, rev freshet.Revision, lag time.Duration) []byte {
	b = appendHead(b, "frontier", rev)
	b = appendRevision(b, rev)
	b = append(b, `","lag_ms":`...)
	b = strconv.AppendInt(b, lag.Milliseconds(), 10)
	return append(b, "}\n\n"...)
}

// appendEnd appends the frame that says why the stream ends. It has no id: nothing
// is told any more, so the last one stands.
func appendEnd(b []byte, reason string) []byte {
	b = append(b, `event: end`+"\n"+`data: {"reason":"`...)
	b = append(b, reason...)
	return append(b, "\"}\n\n"...)
}

const hexDigits = "0123456789abcdef"

// appendJSON appends s as a JSON string on one line (RFC 8259, section 7):
// quotes, backslashes and control characters are escaped, and nothing else, so
// that `<`, `&` and U+2028 stay readable. A byte that is not UTF-8 becomes
// U+FFFD. Neither CR nor LF can be in the result, so S5 holds for any s.
func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		} else if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch {
		case c >= utf8.RuneSelf:
			b = append(b, `\ufffd`...)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[c>>4], hexDigits[c&0xf])
		}
		i += size
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// jsonLen is a bound for the length of appendJSON's result; exact for a topic.
func jsonLen(s string) int {
	n, valid := len(s)+2, utf8.ValidString(s)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			n++
		case c < ' ' || c >= utf8.RuneSelf && !valid:
			n += 5
		}
	}
	return n
}

// chunkHead is room for the length of a chunk: hexadecimal, where leading zeros
// are allowed, and a line's end (RFC 9112, section 7.1).
const chunkHead = "00000000\r\n"

// lastChunk ends a body.
const lastChunk = "0\r\n\r\n"

// sealChunk fills in the length of a chunk that begins with chunkHead, and ends it.
func sealChunk(b []byte) []byte {
	n := len(b) - len(chunkHead)
	for i := len(chunkHead) - len("\r\n") - 1; i >= 0; i-- {
		b[i] = hexDigits[n&0xf]
		n >>= 4
	}
	return append(b, "\r\n"...)
}
