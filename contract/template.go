package contract

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/freshet-dev/freshet"
)

// template is a parsed topic template.
type template struct {
	segments []segment
	// fields are the distinct fields of the segments; refs say where the value
	// of each is found among the values handed to appendTopic.
	fields []string
	refs   []int
	fixed  string // the one topic of a template without fields
	paths  bool   // some field is a path
}

// segment is one segment of a template: a literal or a field.
type segment struct {
	literal string
	field   int  // index into fields; meaningful only if literal is empty
	rest    bool // {f=**}: a resource path, escaped by segment
}

func (s segment) isLiteral() bool { return s.literal != "" }

// SyntaxError says where and why a text is not a template.
type SyntaxError struct {
	Template string
	Offset   int // in bytes, from 0
	Reason   string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("template %q: at offset %d: %s", e.Template, e.Offset, e.Reason)
}

// parseTemplate parses the grammar
//
//	template = segment *( "/" segment )
//	segment  = literal / "{" path [ "=**" ] "}"
//	path     = name *( "." name )
//	name     = ( ALPHA / "_" ) *( ALPHA / DIGIT / "_" )
//	literal  = 1*( any character of a topic but "/" "{" "}" "*" )
//
// A template has one spelling: String gives back the text. Every error is a
// *SyntaxError.
func parseTemplate(text string) (*template, error) {
	t := new(template)
	fail := func(offset int, format string, args ...any) (*template, error) {
		return nil, &SyntaxError{Template: text, Offset: offset, Reason: fmt.Sprintf(format, args...)}
	}
	if text == "" {
		return fail(0, "it is empty")
	}
	for start, least := 0, 0; ; {
		part, _, more := strings.Cut(text[start:], "/")
		s, at, reason := t.parseSegment(part)
		if pattern, _, _ := strings.Cut(text[start:], "}"); reason == notClosed && strings.Contains(pattern, "=") {
			at, reason = strings.IndexByte(pattern, '='), otherPattern // it has a slash
		}
		if reason != "" {
			return fail(start+at, "%s", reason)
		}
		// The shortest topic has a byte for a field and one for each slash.
		least += max(len(s.literal), 1)
		if least > freshet.MaxTopicBytes {
			return fail(start, "every topic of it would be over %d bytes", freshet.MaxTopicBytes)
		}
		t.segments = append(t.segments, s)
		t.paths = t.paths || s.rest
		if !more {
			break
		}
		start += len(part) + 1
		least++
	}
	if len(t.fields) == 0 {
		t.fixed = text
	}
	return t, nil
}

// parseSegment returns a segment, or where in part and why it is none.
func (t *template) parseSegment(part string) (s segment, at int, reason string) {
	if part == "" {
		return s, 0, "an empty segment"
	}
	if part[0] != '{' {
		at, reason = checkLiteral(part)
		return segment{literal: part}, at, reason
	}
	end := strings.IndexByte(part, '}')
	if end < 0 {
		return s, 0, notClosed
	}
	if end != len(part)-1 {
		return s, end + 1, "a field must fill its segment"
	}
	path, suffix, assigned := strings.Cut(part[1:end], "=")
	if assigned && suffix != "**" {
		return s, 1 + len(path), otherPattern
	}
	if at, reason = checkPath(path); reason != "" {
		return s, 1 + at, reason
	}
	return segment{field: t.fieldIndex(path), rest: assigned}, 0, ""
}

const notClosed = "{ is not closed in its segment"

// otherPattern answers what google.api.http and AIP-127 have, {field=*} and
// {field=tenants/*}.
const otherPattern = "{field} takes one segment, {field=**} a whole path, as tenants/7; other patterns aren't supported"

// fieldIndex returns the index of a field, adding it when it is new.
func (t *template) fieldIndex(path string) int {
	for i, f := range t.fields {
		if f == path {
			return i
		}
	}
	t.fields = append(t.fields, path)
	return len(t.fields) - 1
}

func checkLiteral(part string) (at int, reason string) {
	for i, r := range part {
		switch {
		case r == '{':
			return i, "a field must fill its segment"
		case r == '}':
			return i, "} without {"
		case r == '*':
			return i, "* stands for nothing here: a resource path is {field=**}"
		case r == utf8.RuneError && !utf8.ValidString(part[i:min(i+3, len(part))]):
			return i, "it is not valid UTF-8"
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			return i, "a control character"
		}
	}
	return 0, ""
}

func checkPath(path string) (at int, reason string) {
	for start := 0; ; {
		name, _, more := strings.Cut(path[start:], ".")
		if name == "" {
			return start, "a field name is missing"
		}
		for i, c := range []byte(name) {
			letter := c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
			if !letter && (i == 0 || c < '0' || c > '9') {
				return start + i, "a field name has letters, digits and _ only, and no digit first"
			}
		}
		if !more {
			return 0, ""
		}
		start += len(name) + 1
	}
}

// String returns the template's text.
func (t *template) String() string {
	var b strings.Builder
	for i, s := range t.segments {
		if i > 0 {
			b.WriteByte('/')
		}
		switch {
		case s.isLiteral():
			b.WriteString(s.literal)
		case s.rest:
			b.WriteString("{" + t.fields[s.field] + "=**}")
		default:
			b.WriteString("{" + t.fields[s.field] + "}")
		}
	}
	return b.String()
}

// floor returns the pattern that matches every topic of the template.
func (t *template) floor() freshet.Pattern {
	parts := make([]string, len(t.segments))
	for i, s := range t.segments {
		switch {
		case s.isLiteral():
			parts[i] = s.literal
		case s.rest:
			parts[i] = "**"
		default:
			parts[i] = "*"
		}
	}
	return freshet.Pattern(strings.Join(parts, "/"))
}

// bind lets the template's fields refer to values in a list that holds one for
// each name in all.
func (t *template) bind(index func(field string) int) {
	t.refs = make([]int, len(t.fields))
	for i, f := range t.fields {
		t.refs[i] = index(f)
	}
}

// appendTopic appends the topic for the given values; false means that a value
// is NULL or empty, so that there is none. Whether the outcome is a valid topic
// remains to be checked.
func appendTopic[T string | []byte](b []byte, t *template, values []T) ([]byte, bool) {
	for i, s := range t.segments {
		if i > 0 {
			b = append(b, '/')
		}
		if s.isLiteral() {
			b = append(b, s.literal...)
			continue
		}
		v := values[t.refs[s.field]]
		switch {
		case len(v) == 0:
			return b, false
		case s.rest:
			b = appendPath(b, v)
		default:
			b = appendEscaped(b, v)
		}
	}
	return b, true
}

// check reports whether what appendTopic wrote is a topic. Literals were checked
// when they were parsed, and escapes are plain ASCII; so it may be too long, or have
// an empty segment, which only a path can bring. No row tells of such a segment by
// {column}, since an empty value drops its topic: what asks for it would follow
// nothing. The error is a *freshet.TopicError.
func (t *template) check(topic string) error {
	if t.paths && (topic[0] == '/' || topic[len(topic)-1] == '/' || strings.Contains(topic, "//")) {
		return &freshet.TopicError{Topic: topic, Reason: "it has an empty segment; leave out the slash, or put a name beside it"}
	}
	if len(topic) > freshet.MaxTopicBytes {
		return freshet.CheckTopic(topic)
	}
	return nil
}

// appendPath escapes a resource path: each of its segments as a value of its own, so
// that projects/a b is what projects/{project} spells for 'a b'. A segment "-" is the
// wildcard of AIP-159, and stays.
func appendPath[T string | []byte](b []byte, v T) []byte {
	for start, i := 0, 0; i <= len(v); i++ {
		if i < len(v) && v[i] != '/' {
			continue
		}
		if part := v[start:i]; len(part) == 1 && part[0] == '-' {
			b = append(b, '-')
		} else {
			b = appendEscaped(b, part)
		}
		if i < len(v) {
			b = append(b, '/')
		}
		start = i + 1
	}
	return b
}

// appendEscaped escapes a value so that it fills exactly one segment. It is
// injective, and never yields "-".
func appendEscaped[T string | []byte](b []byte, v T) []byte {
	if len(v) == 1 && v[0] == '-' {
		return append(b, "%2D"...)
	}
	for i := range len(v) {
		if c := v[i]; isUnreserved(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&0xf])
		}
	}
	return b
}

// isUnreserved: RFC 3986, section 2.3.
func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
