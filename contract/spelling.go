package contract

import (
	"fmt"
	"slices"
	"strings"
)

// Spelling tells which topics no row can have, because a value in them isn't written as
// Postgres writes one of the column's type: whoever follows such a topic is never told.
// It is immutable, and safe for concurrent use; nil knows nothing, and lets all pass.
type Spelling struct {
	byFirst map[string][]emission // by the first segment, of templates that begin with a literal
	others  []emission
}

// emission is a template of a source, with the types of its columns.
type emission struct {
	segments []segment
	types    []uint32 // by segment; 0: any text may be there
	paths    bool
}

// Spelling returns what is known if the columns of sources have the types that rows
// were bound to. Any text may be in topics of other sources, in those that are told by
// whoever changes a source, and in columns of text and of enums, whose labels change.
func (p *Program) Spelling(bound ...*Rows) *Spelling {
	types := make(map[*Source][]uint32, len(bound))
	for _, rows := range bound {
		types[rows.source] = rows.types
	}
	s, useful := &Spelling{byFirst: make(map[string][]emission)}, false
	for _, list := range [][]*Source{p.sources, p.told} {
		for _, source := range list {
			for _, t := range source.templates {
				e := emission{segments: t.segments, types: make([]uint32, len(t.segments)), paths: t.paths}
				for i, seg := range t.segments {
					if columns := types[source]; columns != nil && !seg.isLiteral() {
						if oid := columns[t.refs[seg.field]]; exampleOf[oid] != "" {
							e.types[i], useful = oid, true
						}
					}
				}
				if first := t.segments[0]; first.isLiteral() {
					s.byFirst[first.literal] = append(s.byFirst[first.literal], e)
				} else {
					s.others = append(s.others, e)
				}
			}
		}
	}
	if !useful {
		return nil
	}
	return s
}

// Check refuses a topic that is like those of sources, and that no row can have. The
// error is a *SpellingError.
func (s *Spelling) Check(topic string) error {
	if wrong, parts := s.find(topic); wrong.oid != 0 {
		value := valueOf(parts[wrong.at])
		return &SpellingError{
			Type: pathless[wrong.oid], Written: written(wrong.oid, value), example: exampleOf[wrong.oid],
			text: "topic " + quote(topic) + ": " + quote(value),
		}
	}
	return nil
}

// CheckRequest refuses the topics of a request to m in the same way, and says which
// field is at fault. What a template of m says itself isn't the request's fault.
func (s *Spelling) CheckRequest(m *Method, topics []string) error {
	for _, topic := range topics {
		wrong, parts := s.find(topic)
		if wrong.oid == 0 {
			continue
		}
		if f := m.fieldOf(parts, wrong.at); f != nil {
			return misspelled(f, wrong, parts)
		}
	}
	return nil
}

// CheckAnswer refuses the topics that an answer of m has beside its request's, by
// AnswerTopics, in the same way: whoever has made the answer is at fault then. The error
// is an *AnswerError.
func (s *Spelling) CheckAnswer(m *Method, topics []string) error {
	for _, topic := range topics {
		wrong, parts := s.find(topic)
		if wrong.oid == 0 {
			continue
		}
		for _, d := range m.derived {
			if f, _ := d.template.fieldOf(d.fields, parts, wrong.at); f != nil {
				return &AnswerError{Procedure: m.Procedure, Template: d.template.String(), Err: misspelled(f, wrong, parts)}
			}
		}
	}
	return nil
}

// misspelled says which field is at fault for a topic.
func misspelled(f *field, wrong misfit, parts []string) *SpellingError {
	err := &SpellingError{Field: f.path, Type: pathless[wrong.oid], example: exampleOf[wrong.oid]}
	if f.claim != "" {
		err.text = "the caller's claim " + quote(f.claim) // and not what it holds
	} else {
		value := valueOf(parts[wrong.at])
		err.text, err.Written = f.path+": "+quote(value), written(wrong.oid, value)
	}
	return err
}

// SpellingError says that a value isn't written as Postgres writes those of its
// column's type. Its text may be shown to the caller.
type SpellingError struct {
	Field   string // of the request or the answer, as templates have it; empty: a topic was asked for
	Type    string // of the column
	Written string // how Postgres writes the value; empty: not known, or it is none of the type

	text    string // what isn't written so
	example string
}

func (e *SpellingError) Error() string {
	article := "a "
	if e.Type == pathless[oidInt4] {
		article = "an "
	}
	instead := "it writes " + quote(e.Written)
	if e.Written == "" {
		instead = "one is " + quote(e.example)
	}
	return e.text + " isn't how Postgres writes " + article + e.Type + ", and no change would ever be told of it: " + instead
}

// quote shortens a text from outside for an error message.
func quote(s string) string {
	const limit = 64
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}

// valueOf returns the value that a segment stands for.
func valueOf(segment string) string {
	if value, ok := unescape(segment); ok {
		return value
	}
	return segment
}

// misfit is a segment of a topic that its column can't have. The zero value: there is
// none.
type misfit struct {
	at  int    // which segment
	oid uint32 // the column's type
}

// find returns what is wrong with a topic, and its segments: by the first of the
// templates that it is like, if no row can have it by any of them.
func (s *Spelling) find(topic string) (wrong misfit, parts []string) {
	if s == nil {
		return misfit{}, nil
	}
	first, _, _ := strings.Cut(topic, "/")
	var few [8]string
	some := few[:0]
	for _, list := range [...][]emission{s.byFirst[first], s.others} {
		for i := range list {
			if len(some) == 0 {
				for part := range strings.SplitSeq(topic, "/") {
					some = append(some, part)
				}
			}
			matches, here := list[i].judge(some, 0, 0)
			switch {
			case matches && here.oid == 0:
				return misfit{}, nil
			case matches && wrong.oid == 0:
				wrong = here
			}
		}
	}
	if wrong.oid == 0 {
		return misfit{}, nil
	}
	return wrong, slices.Clone(some) // else all would be on the heap
}

// judge compares segments of a topic, from j on, with the template's from i on: whether
// they match, and what is wrong then.
func (e *emission) judge(parts []string, i, j int) (matches bool, wrong misfit) {
	least, left := len(e.segments)-i, len(parts)-j
	switch {
	case left < least || left > least && !e.paths:
		return false, misfit{}
	case least == 0:
		return left == 0, misfit{}
	}
	seg := e.segments[i]
	if seg.rest {
		for next := j + 1; next <= len(parts); next++ {
			fits, here := e.judge(parts, i+1, next)
			if fits && here.oid == 0 {
				return true, misfit{}
			}
			if fits && !matches {
				matches, wrong = true, here
			}
		}
		return matches, wrong
	}
	if seg.isLiteral() && seg.literal != parts[j] {
		return false, misfit{}
	}
	matches, wrong = e.judge(parts, i+1, j+1)
	if oid := e.types[i]; matches && oid != 0 && !isSegment(oid, parts[j]) {
		wrong = misfit{at: j, oid: oid}
	}
	return matches, wrong
}

// isSegment reports whether a column of the type may fill the segment. So may the
// wildcard, which is no value.
func isSegment(oid uint32, segment string) bool {
	if segment == "-" {
		return true
	}
	if !strings.ContainsAny(segment, "% ") { // of a value that is written, nothing else is escaped
		return isWritten(oid, segment)
	}
	value, ok := unescape(segment)
	return ok && Escape(value) == segment && isWritten(oid, value)
}

// fieldOf returns the field of a request that has given its topic a segment; nil: the
// template has.
func (m *Method) fieldOf(parts []string, at int) (of *field) {
	for _, t := range m.templates {
		switch f, matches := t.fieldOf(m.fields, parts, at); {
		case !matches:
		case f == nil:
			return nil
		case of == nil:
			of = f
		}
	}
	return of
}

// fieldOf returns which of the fields has given a topic of the template a segment; nil:
// it is the template's own, if it matches.
func (t *template) fieldOf(fields []*field, parts []string, at int) (of *field, matches bool) {
	i := t.segmentOf(parts, at, 0, 0)
	if i < 0 || t.segments[i].isLiteral() {
		return nil, i >= 0
	}
	return fields[t.refs[t.segments[i].field]], true
}

// segmentOf returns which of the template's segments, from i on, has made the one at
// of a topic, if its segments from j on match them; -1: they don't.
func (t *template) segmentOf(parts []string, at, i, j int) int {
	switch {
	case i == len(t.segments) && j == len(parts):
		return i
	case i == len(t.segments) || j == len(parts):
		return -1
	}
	seg, last := t.segments[i], j+1
	if seg.rest {
		last = len(parts)
	}
	if seg.isLiteral() && seg.literal != parts[j] {
		return -1
	}
	for next := j + 1; next <= last; next++ {
		if of := t.segmentOf(parts, at, i+1, next); of >= 0 {
			if j <= at && at < next {
				return i
			}
			return of
		}
	}
	return -1
}
