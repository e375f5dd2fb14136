package grants

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/claimtext"
)

// maxClaims bounds the distinct claims of one pattern.
const maxClaims = 8

// pattern is a set of topics, but for the values of claims. The grammar:
//
//	pattern = segment *( "/" segment )
//	segment = "*" / "**" / "{" claim "}" / literal
//	claim   = 1*( any character but "{" "}" )
//	literal = 1*( any character of a topic but "/" "{" "}" "*" )
//
// with at most one "**".
type pattern struct {
	text     string
	at       place
	segments []segment
	rest     int     // index of **; -1: there is none
	claims   []claim // distinct
}

type kind uint8

const (
	literal kind = iota
	anyOne       // *
	anyRest      // **
	value        // {claim}
)

type segment struct {
	kind    kind
	literal string
	claim   int // index into claims, of a value
}

// claim is the way to a claim: a name, or the names of members that lead to it.
type claim struct {
	text string
	path []string
}

// patternError says where and why a text is no pattern.
type patternError struct {
	pattern string
	offset  int // in bytes, from 0
	reason  string
}

func (e *patternError) Error() string {
	return fmt.Sprintf("pattern %q: at offset %d: %s", clip(e.pattern), e.offset, e.reason)
}

// parsePattern's error is a *patternError.
func parsePattern(text string) (*pattern, error) {
	p := &pattern{text: text, rest: -1}
	fail := func(offset int, reason string) (*pattern, error) {
		return nil, &patternError{pattern: text, offset: offset, reason: reason}
	}
	switch {
	case text == "":
		return fail(0, "it is empty")
	case len(text) > 4*freshet.MaxTopicBytes:
		return fail(0, fmt.Sprintf("it has %d bytes; a topic has %d at most", len(text), freshet.MaxTopicBytes))
	}
	for start := 0; ; {
		part := segmentOf(text[start:])
		if at, reason := p.add(part); reason != "" {
			return fail(start+at, reason)
		}
		start += len(part)
		if start == len(text) {
			return p, nil
		}
		start++ // a slash
	}
}

// segmentOf cuts the first segment off: the name of a claim may hold slashes.
func segmentOf(text string) string {
	if text != "" && text[0] == '{' {
		if end := strings.IndexByte(text, '}'); end >= 0 {
			rest, _, _ := strings.Cut(text[end:], "/")
			return text[:end+len(rest)]
		}
	}
	part, _, _ := strings.Cut(text, "/")
	return part
}

// add parses one segment; the reason says why it is none.
func (p *pattern) add(part string) (at int, reason string) {
	switch {
	case part == "":
		return 0, "an empty segment"
	case part == "*":
		p.segments = append(p.segments, segment{kind: anyOne})
		return 0, ""
	case part == "**":
		if p.rest >= 0 {
			return 0, "a second **; one is enough, or write one pattern for each case"
		}
		p.rest = len(p.segments)
		p.segments = append(p.segments, segment{kind: anyRest})
		return 0, ""
	case part[0] != '{':
		p.segments = append(p.segments, segment{kind: literal, literal: part})
		return checkLiteral(part)
	}
	end := strings.IndexByte(part, '}')
	switch {
	case end < 0:
		return 0, "{ is not closed; write {claim}"
	case end != len(part)-1:
		return end + 1, "a claim must fill its segment"
	}
	c, at, reason := parseClaim(part[1:end])
	if reason != "" {
		return 1 + at, reason
	}
	i := 0
	for i < len(p.claims) && p.claims[i].text != c.text {
		i++
	}
	if i == len(p.claims) {
		if i == maxClaims {
			return 0, fmt.Sprintf("more than %d claims in one pattern", maxClaims)
		}
		p.claims = append(p.claims, c)
	}
	p.segments = append(p.segments, segment{kind: value, claim: i})
	return 0, ""
}

func checkLiteral(part string) (at int, reason string) {
	for i, r := range part {
		switch {
		case r == '{' || r == '}':
			return i, "a claim must fill its segment: {claim}"
		case r == '*':
			return i, "* and ** must fill their segment"
		case r == utf8.RuneError && !utf8.ValidString(part[i:min(i+3, len(part))]):
			return i, "it is not valid UTF-8"
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			return i, "a control character"
		}
	}
	return 0, ""
}

// parseClaim: a name of plain characters is a path by dots; any other is one
// claim's name, as it is ("https://example.com/org").
func parseClaim(name string) (c claim, at int, reason string) {
	if name == "" {
		return c, 0, "a claim's name is missing"
	}
	plain := true
	for i, r := range name {
		if r == '{' {
			return c, i, "{ within the name of a claim"
		}
		plain = plain && (r == '.' || r == '_' || r == '-' || r|0x20 >= 'a' && r|0x20 <= 'z' || r >= '0' && r <= '9')
	}
	c = claim{text: name, path: []string{name}}
	if plain {
		c.path = strings.Split(name, ".")
	}
	for _, member := range c.path {
		if member == "" {
			return c, at, "the name of a claim has an empty part"
		}
		at += len(member) + 1
	}
	return c, 0, ""
}

// bound is a pattern with the values of one caller's claims.
type bound struct {
	*pattern
	values []values // one per claim
}

// values are the texts, escaped, that a segment may have.
type values struct {
	one  string
	many map[string]struct{} // nil: one is the only one
}

func (v *values) has(segment string) bool {
	if v.many == nil {
		return v.one == segment
	}
	_, ok := v.many[segment]
	return ok
}

// bind returns false if the claims leave nothing that could match.
func (p *pattern) bind(claims map[string]any) (bound, bool) {
	b := bound{pattern: p}
	if len(p.claims) == 0 {
		return b, true
	}
	b.values = make([]values, len(p.claims))
	for i, c := range p.claims {
		texts := c.texts(claims)
		if len(texts) == 0 {
			return bound{}, false
		}
		b.values[i].one = texts[0]
		if len(texts) > 1 {
			b.values[i].many = make(map[string]struct{}, len(texts))
			for _, text := range texts {
				b.values[i].many[text] = struct{}{}
			}
		}
	}
	return b, true
}

// texts returns the claim's values as a topic has them; none if the claim is
// absent, empty or of a type that is no value.
func (c claim) texts(claims map[string]any) []string {
	var v any = claims
	for _, member := range c.path {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		if v, ok = object[member]; !ok {
			return nil
		}
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var texts []string
	for _, v := range list {
		// What is longer than a topic can't be in one.
		if text := claimtext.Of(v); text != "" && len(text) <= freshet.MaxTopicBytes {
			texts = append(texts, contract.Escape(text))
		}
	}
	return texts
}

// match reports whether a topic is in the set. It does not allocate.
func (b *bound) match(topic string) bool {
	if topic == "" {
		return false
	}
	var seen [maxClaims]string
	head, tail := b.segments, []segment(nil)
	if b.rest >= 0 {
		head, tail = b.segments[:b.rest], b.segments[b.rest+1:]
	}
	left, more := topic, true
	for i := range head {
		if !more {
			return false
		}
		var part string
		part, left, more = strings.Cut(left, "/")
		if !b.fits(&head[i], part, &seen) {
			return false
		}
	}
	if b.rest < 0 {
		return !more
	}
	for i := len(tail) - 1; i >= 0; i-- {
		if !more {
			return false
		}
		part := left
		if slash := strings.LastIndexByte(left, '/'); slash >= 0 {
			part, left = left[slash+1:], left[:slash]
		} else {
			more = false
		}
		if !b.fits(&tail[i], part, &seen) {
			return false
		}
	}
	return true
}

// fits judges one segment; seen are the values that claims have taken so far.
func (b *bound) fits(s *segment, part string, seen *[maxClaims]string) bool {
	switch s.kind {
	case literal:
		return part == s.literal
	case value:
		if taken := seen[s.claim]; taken != "" {
			return part == taken
		}
		seen[s.claim] = part
		return b.values[s.claim].has(part)
	default:
		return true
	}
}

// clip shortens a text for an error message.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
