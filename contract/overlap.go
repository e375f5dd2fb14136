package contract

import (
	"slices"
	"strconv"
	"strings"
)

// kind is what a field's values look like in a topic.
type kind uint8

const (
	kindAny  kind = iota // not known here: a column's type is the database's
	kindText             // text as it is; uuid too
	kindInt              // a decimal number
	kindBool             // true or false
)

func (k kind) String() string {
	return [...]string{kindAny: "any", kindText: "text", kindInt: "int", kindBool: "bool"}[k]
}

// token is one step of the language of a template's topics: a literal segment,
// an escaped value, a segment of a path, or any number of these.
type token struct {
	segment
	kind kind
	star bool
}

// tokens spells a template out; kinds has one kind per field.
func (t *template) tokens(kinds []kind) []token {
	var all []token
	for _, s := range t.segments {
		tok := token{segment: s}
		if !s.isLiteral() && !s.rest && kinds != nil {
			tok.kind = kinds[s.field]
		}
		all = append(all, tok)
		if s.rest { // one segment or more
			all = append(all, token{segment: s, star: true})
		}
	}
	return all
}

// overlap reports whether some topic belongs to both templates. It knows that
// an escaped value is never "-", holds no bare reserved byte, and is a number
// or a bool if its field is one; and that a path's segment is one, or "-". It does
// not know that a field which stands twice in one template has one value: it may
// then say true too often.
func overlap(a, b []token) bool {
	// can[j]: the tokens from a[i] on and from b[j] on share a path.
	can := make([]bool, len(b)+1)
	for i := len(a); i >= 0; i-- {
		next := slices.Clone(can) // the row of i+1; unused for i = len(a)
		for j := len(b); j >= 0; j-- {
			switch {
			case i == len(a) && j == len(b):
				can[j] = true
			case i < len(a) && a[i].star:
				can[j] = next[j] || j < len(b) && can[j+1] && a[i].meets(b[j])
			case j < len(b) && b[j].star:
				can[j] = can[j+1] || i < len(a) && next[j] && a[i].meets(b[j])
			default:
				can[j] = i < len(a) && j < len(b) && next[j+1] && a[i].meets(b[j])
			}
		}
	}
	return can[0]
}

// meets reports whether one segment fits both; a star counts as one of its segments.
func (t token) meets(o token) bool {
	switch {
	case t.isLiteral() && o.isLiteral():
		return t.literal == o.literal
	case t.isLiteral():
		return o.spells(t.literal)
	case o.isLiteral():
		return t.spells(o.literal)
	default:
		return t.kind == o.kind || t.kind <= kindText || o.kind <= kindText
	}
}

// spells reports whether a field's segment may be this one.
func (t token) spells(segment string) bool {
	return t.rest && segment == "-" || t.kind.spells(segment)
}

// spells reports whether some value of the kind is escaped to this segment.
func (k kind) spells(segment string) bool {
	switch k {
	case kindInt:
		digits := strings.TrimPrefix(segment, "-")
		_, err := strconv.ParseUint(digits, 10, 64)
		return err == nil && (digits == "0") == (digits[0] == '0') && segment != "-0"
	case kindBool:
		return segment == "true" || segment == "false"
	default:
		value, ok := unescape(segment)
		return ok && string(appendEscaped(nil, value)) == segment
	}
}

// unescape undoes appendEscaped; false means that a % is not followed by two
// hex digits.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), true
}
