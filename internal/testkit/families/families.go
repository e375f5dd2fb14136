// Package families is services for tests whose schemas are random: tables of parents and
// children, down to three levels, of which each row knows its parent only. The answer for
// a place has all that is below it, and so it is the answer that says which topics it
// depends on (response_topics). Rows come, go, change, move, and change their keys at
// random, by SQL.
//
// The contract of each is a descriptor that is made here and registered beside generated
// ones, so that server and clients use it as they use any other.
package families

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Family is one service. Its methods are safe for concurrent use.
type Family struct {
	// Service is its contract, Procedure the read's.
	Service   protoreflect.ServiceDescriptor
	Procedure string
	// Places are those that the topmost rows are in.
	Places []Place

	name   string
	place  column // of the topmost tables
	roots  []*table
	tables []*table // parents first
}

// Place is a value by which a request names a place, in its one field or the other.
type Place struct {
	ID     string
	Number int64
}

// table is one, and what is below it.
type table struct {
	name     string
	key      []column
	parent   *table   // nil: a place
	refers   []column // to the parent's key, or the place
	orphans  bool     // rows may have no parent; it takes a replica identity of whole rows
	template string   // of its topics, with a %s for each of refers
	path     string   // in the answer: a.b
	children []*table
}

// column is one, with the values that it is given.
type column struct {
	name, kind string
	field      string // of Row: id, number
	values     []string
	segment    int // of refers: which %s of the template it is
}

const most = 5 // tables

var (
	numbers = []string{"0", "-1", "7", "42", "1000", "-32768", "32767", "5"}
	texts   = []string{"a", "B", "ü", "a/b", "-", "%2F", "x y", "it's", "日本", "~._", "{id}"}
	days    = []string{"2026-11-27", "0001-01-01", "9999-12-31", "2024-02-29", "1999-12-31", "2000-01-01"}
	uuids   = []string{
		"00000000-0000-0000-0000-000000000000", "01928c7e-0000-7000-8000-00000000000a", "ffffffff-ffff-ffff-ffff-ffffffffffff",
		"01928c7e-0000-7000-8000-00000000000b", "123e4567-e89b-12d3-a456-426614174000", "01928c7e-0000-7000-8000-00000000000c",
	}
	labels = []string{"open", "in progress", "done"}
)

// New makes a family of a name, which is a word of letters and digits that no other has
// in this program. The same numbers make the same family.
func New(rng *rand.Rand, name string) *Family {
	f := &Family{name: name}
	f.place = f.column(rng, rng.IntN(2) == 0, "place", false)
	for _, v := range f.place.values[:4] {
		f.Places = append(f.Places, placeOf(f.place, v))
	}
	depth := 1 + rng.IntN(3)
	f.below(rng, nil, &f.roots, depth)
	f.register()
	return f
}

// column makes one with a number or an id; inner: a part of a key of several.
func (f *Family) column(rng *rand.Rand, number bool, name string, inner bool) column {
	c := column{name: name, field: "id"}
	if number {
		c.field, c.values = "number", numbers
		c.kind = []string{"bigint", "integer", "smallint"}[rng.IntN(3)]
		if c.kind == "bigint" {
			c.values = append([]string{"9223372036854775807", "-9223372036854775808"}, numbers...)
		}
		return c
	}
	kinds := []string{"text", "varchar", "uuid", "date", f.domain(), f.enum()}
	if !inner {
		kinds = kinds[:5] // an enum has few values
	}
	c.kind = kinds[rng.IntN(len(kinds))]
	switch c.kind {
	case "uuid":
		c.values = uuids
	case "date":
		c.values = days
	case f.enum():
		c.values = labels
	default:
		c.values = texts
	}
	return c
}

func (f *Family) domain() string { return f.name + "_domain" }
func (f *Family) enum() string   { return f.name + "_enum" }

// below makes the tables below a parent, which are its children or the topmost.
func (f *Family) below(rng *rand.Rand, parent *table, into *[]*table, depth int) {
	if depth == 0 {
		return
	}
	n := 1 + rng.IntN(3)
	for i := 0; i < n && len(f.tables) < most; i++ {
		t := &table{
			name: fmt.Sprintf("%s_t%d", f.name, len(f.tables)), parent: parent, path: string(rune('a' + i)),
			orphans: rng.IntN(2) == 0,
		}
		switch rng.IntN(3) {
		case 0:
			t.key = []column{f.column(rng, true, "number", false)}
		case 1:
			t.key = []column{f.column(rng, false, "id", false)}
		default:
			t.key = []column{f.column(rng, true, "number", true), f.column(rng, false, "id", true)}
		}
		of := []column{f.place}
		if parent != nil {
			of, t.path = parent.key, parent.path+"."+t.path
		}
		for _, c := range of {
			c.name = "of_" + c.name
			t.refers = append(t.refers, c)
		}
		t.template = t.random(rng, *into)
		*into = append(*into, t)
		f.tables = append(f.tables, t)
		f.below(rng, t, &t.children, depth-1)
	}
}

// random makes the template: what the row refers to, in some order, with some literals.
// Sometimes it is a sibling's.
func (t *table) random(rng *rand.Rand, siblings []*table) string {
	if len(siblings) > 0 && rng.IntN(4) == 0 {
		s := siblings[rng.IntN(len(siblings))]
		t.refers = s.refers
		return s.template
	}
	parts := []string{t.name}
	for n, i := range rng.Perm(len(t.refers)) {
		if rng.IntN(3) == 0 {
			parts = append(parts, "of")
		}
		parts = append(parts, "%s")
		t.refers[i].segment = n
	}
	if rng.IntN(2) == 0 {
		parts = append(parts, "rows")
	}
	return strings.Join(parts, "/")
}

// fill puts something in the place of each value of the template.
func (t *table) fill(with func(c column) string) string {
	values := make([]any, len(t.refers))
	for _, c := range t.refers {
		values[c.segment] = with(c)
	}
	return fmt.Sprintf(t.template, values...)
}
