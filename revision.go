package freshet

import (
	"cmp"
	"fmt"
	"strconv"
)

// Epoch names one uninterrupted run of one database. It is a counter (a unix
// time, or the last epoch plus one): the higher one wins. Zero is no epoch.
type Epoch uint32

// Revision is a point in the history of one database: all commits at or below
// its position, in its epoch. On the wire it is opaque and sortable,
// `<epoch>-<position>`: 8 hex digits, a dash, 16 hex digits, in lower case.
//
// The zero value is no revision; it sorts before every other.
type Revision struct {
	Epoch    Epoch
	Position uint64
}

// revisionLen is the length of a revision on the wire.
const revisionLen = 8 + 1 + 16

// ParseRevision parses the wire form and nothing else: no upper case, no
// spaces, no lists, and not the zero epoch. The error is a *RevisionError.
func ParseRevision(s string) (Revision, error) {
	if len(s) != revisionLen || s[8] != '-' || !isLowerHex(s[:8]) || !isLowerHex(s[9:]) {
		return Revision{}, &RevisionError{Text: s}
	}
	epoch, err := strconv.ParseUint(s[:8], 16, 32)
	if err != nil || epoch == 0 {
		return Revision{}, &RevisionError{Text: s}
	}
	position, err := strconv.ParseUint(s[9:], 16, 64)
	if err != nil {
		return Revision{}, &RevisionError{Text: s}
	}
	return Revision{Epoch: Epoch(epoch), Position: position}, nil
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// IsZero reports whether r is no revision at all.
func (r Revision) IsZero() bool { return r == Revision{} }

// Compare orders by epoch, then by position. Positions of different epochs are
// never compared: the higher epoch is simply a later history.
func (r Revision) Compare(o Revision) int {
	return cmp.Or(cmp.Compare(r.Epoch, o.Epoch), cmp.Compare(r.Position, o.Position))
}

// Less reports whether r sorts before o.
func (r Revision) Less(o Revision) bool { return r.Compare(o) < 0 }

// Max returns the later of the two.
func (r Revision) Max(o Revision) Revision {
	if r.Less(o) {
		return o
	}
	return r
}

// String returns the wire form; of the zero value, the empty string.
func (r Revision) String() string {
	if r.IsZero() {
		return ""
	}
	return string(r.append(make([]byte, 0, revisionLen)))
}

// AppendText implements encoding.TextAppender: it appends the wire form; of the
// zero value, nothing. It allocates only if b is too short, and the error is
// always nil.
func (r Revision) AppendText(b []byte) ([]byte, error) { return r.append(b), nil }

// MarshalText implements encoding.TextMarshaler, so that JSON and logs show the
// wire form; of the zero value, the empty text. The error is always nil.
func (r Revision) MarshalText() ([]byte, error) {
	return r.append(make([]byte, 0, revisionLen)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler: it takes what MarshalText
// writes. An error is a *RevisionError, and leaves r as it was.
func (r *Revision) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Revision{}
		return nil
	}
	parsed, err := ParseRevision(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

func (r Revision) append(b []byte) []byte {
	if r.IsZero() {
		return b
	}
	b = appendHex(b, uint64(r.Epoch), 8)
	b = append(b, '-')
	return appendHex(b, r.Position, 16)
}

func appendHex(b []byte, v uint64, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[v>>shift&0xf])
	}
	return b
}

// RevisionError says that a text is not a revision.
type RevisionError struct{ Text string }

func (e *RevisionError) Error() string {
	return fmt.Sprintf("%q is not a revision: want 8 hex digits, a dash and 16 hex digits in lower case, as received", clip(e.Text))
}
