package contract

import (
	"fmt"
	"slices"

	"github.com/freshet-dev/freshet"
)

// Source is a table whose committed changes emit topics. Several messages may
// declare topics of one table; the Source has them all.
type Source struct {
	Schema, Table string

	templates []*template // bound to columns
	columns   []string
	floors    []freshet.Pattern
}

// String returns schema.table, unquoted.
func (s *Source) String() string { return s.Schema + "." + s.Table }

// Columns returns the columns that the templates use, sorted; none when all
// topics are literal.
func (s *Source) Columns() []string { return s.columns }

// Templates returns the topic templates, for people.
func (s *Source) Templates() []string { return texts(s.templates) }

// Emission is one template of a source, in a form that other versions of a contract
// can be compared by.
type Emission struct {
	Source   string          `json:"source"`   // as Source.String has it
	Template string          `json:"template"` // its text
	Floor    freshet.Pattern `json:"floor"`    // matches all its topics
}

// Floors returns "all topics of this table": the distinct patterns of the
// templates, {x} as *, {x=**} as **. Whatever Rows.AppendTopics emits is matched
// by one of them.
func (s *Source) Floors() []freshet.Pattern { return s.floors }

// Rows turns rows of a table, as one version of its schema has them, into
// topics. It is immutable, and safe for concurrent use.
type Rows struct {
	source *Source
	types  []uint32 // of the columns
	bools  []bool   // by column: Postgres writes t and f
}

// Bind checks the types of the columns, one type OID for each of Columns() in
// that order (as a Relation message of the replication protocol has them; of a
// domain that of the type below it, of an enum AnyEnum), and returns the way from rows to topics. It refuses a type that a template can't
// take with a *TypeError, so that no wrong topic is ever emitted.
func (s *Source) Bind(types []uint32) (*Rows, error) {
	if len(types) != len(s.columns) {
		return nil, fmt.Errorf("contract: %s: %d types for %d columns", s, len(types), len(s.columns))
	}
	r := &Rows{source: s, types: slices.Clone(types), bools: make([]bool, len(types))}
	for i, oid := range types {
		switch oid {
		case oidText, oidVarchar:
		case AnyEnum, oidDate, oidUUID, oidInt2, oidInt4, oidInt8, oidBool:
			if s.isPath(i) {
				return nil, s.typeError(i, oid, true)
			}
			r.bools[i] = oid == oidBool
		default:
			return nil, s.typeError(i, oid, false)
		}
	}
	return r, nil
}

// isPath reports whether a template inserts the column as a resource path.
func (s *Source) isPath(column int) bool {
	for _, t := range s.templates {
		for _, seg := range t.segments {
			if seg.rest && t.refs[seg.field] == column {
				return true
			}
		}
	}
	return false
}

// AppendTopics appends the topics of one row. Column is asked for the text
// output of Columns()[i]; ok=false is NULL; the text is not kept. Duplicates are
// not removed.
//
// Where a row's topic can't be spelled (over 512 bytes, or a resource path with
// an empty segment), floors has the pattern of that template in its place: to
// be told as "all of these changed", so that nothing is lost. It is nil
// otherwise. Nothing but the topics themselves is allocated for rows of up to 8
// columns.
func (r *Rows) AppendTopics(dst []string, column func(i int) (text []byte, ok bool)) (topics []string, floors []freshet.Pattern) {
	var (
		few     [8][]byte
		scratch [freshet.MaxTopicBytes]byte
	)
	values := append(few[:0], make([][]byte, len(r.bools))...)
	for i, isBool := range r.bools {
		text, ok := column(i)
		switch {
		case !ok: // NULL
		case isBool:
			values[i] = boolText(text)
		default:
			values[i] = text
		}
	}
	for _, t := range r.source.templates {
		if t.fixed != "" {
			dst = append(dst, t.fixed)
			continue
		}
		b, ok := appendTopic(scratch[:0], t, values)
		if !ok {
			continue
		}
		topic := string(b)
		if t.check(topic) != nil {
			floors = append(floors, t.floor())
			continue
		}
		dst = append(dst, topic)
	}
	return dst, floors
}

// boolText gives Postgres' text of a bool the form that requests have. boolout
// writes t and f and nothing else.
func boolText(text []byte) []byte {
	if len(text) == 1 && text[0] == 't' {
		return textTrue
	}
	return textFalse
}

var textTrue, textFalse = []byte("true"), []byte("false")

// texts returns the texts of templates.
func texts(all []*template) []string {
	list := make([]string, len(all))
	for i, t := range all {
		list[i] = t.String()
	}
	return list
}
