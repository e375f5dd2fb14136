package adopt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/internal/presence"
)

// omission is a field of a request that no topic goes by.
type omission struct {
	path string
	kind protoreflect.Kind
	of   *Column // that it is named like; nil: none
	why  string  // a key of advice
}

// Why a field is left out.
const (
	unset   = "may be unset"
	member  = "is a member of a oneof"
	repeats = "repeats"
	quotes  = "has a column whose name needs quotes"
	derived = "has a column that is generated"
	isMade  = "has a column that the database fills"
	unfit   = "is of a type that has several texts for one value"
	untaken = "is of a type that no template takes"
	spelled = "is spelled otherwise"
	unknown = "is no column"
)

// becauseOf says why no topic goes by a field; empty: one may. The column is the one that it
// is named like, if any is.
func (s *source) becauseOf(f protoreflect.FieldDescriptor, c *Column) string {
	switch {
	case c == nil:
		return unknown
	case f.IsList():
		return repeats
	case presence.AbsenceOf(f) == presence.Member:
		return member
	case presence.AbsenceOf(f) != presence.Undeclared:
		return unset
	case !isName(c.Name):
		return quotes
	case c.Made == generated:
		return derived
	case !c.fits():
		return unfit
	case !isTaken(f.Kind()):
		return untaken
	case !s.sameText(f.Kind(), c):
		return spelled
	default:
		return ""
	}
}

// example of what two types spell otherwise: the number that one has, and the text of the other.
func (o omission) example() string {
	number, text := isInteger(o.kind), o.kind == protoreflect.StringKind
	if number && o.of.isText() || text && strings.HasPrefix(o.of.Type, "int") {
		return " (007)"
	}
	return ""
}

// explain says of omitted fields why, and what to do. Those that are named like no column
// are of interest only where nothing else says which rows the method is about.
func explain(omitted []omission, t *Table, all bool) (lines []string) {
	var strangers []string
	for _, o := range omitted {
		switch o.why {
		case unset:
			lines = append(lines, fmt.Sprintf("%s may be unset, and says nothing then: no topic goes by it. It costs reads, not freshness; if a request without it is refused, say so ([(buf.validate.field).required = true]), or drop `optional`", o.path))
		case member:
			lines = append(lines, fmt.Sprintf("%s is a member of a oneof, of which a request may have another, or none: no topic goes by it. It costs reads, not freshness; if each request has one of them, write a topic for each member", o.path))
		case repeats:
			lines = append(lines, fmt.Sprintf("%s repeats: no topic goes by it, since an empty one would have none. It costs reads, not freshness; if the method refuses an empty one, write a topic with {%s}, which is one for each element, and have the source tell it", o.path, o.path))
		case quotes:
			lines = append(lines, fmt.Sprintf("%s: no template can name column %q of %s: names in it have letters, digits and _. It costs reads, not freshness; rename the column, or have a trigger keep its value in one with such a name (docs/lint/column-name.md)", o.path, o.of.Name, t))
		case derived:
			lines = append(lines, fmt.Sprintf("%s: column %s of %s is generated, which isn't in the WAL: no topic can go by it. It costs reads, not freshness; have a trigger fill an ordinary column (docs/lint/column-name.md)", o.path, o.of.Name, t))
		case isMade:
			lines = append(lines, fmt.Sprintf("%s: the database makes column %s of %s (%s) when it makes the row, so a request can't say it yet: no topic goes by it. If the request does say it, write the topic by hand", o.path, o.of.Name, t, o.of.Made))
		case unfit:
			lines = append(lines, fmt.Sprintf("%s: column %s of %s is %s, which has several texts for one value: no topic can go by it. It costs reads, not freshness", o.path, o.of.Name, t, o.of.Type))
		case untaken:
			lines = append(lines, fmt.Sprintf("%s is of type %s, of which templates take no field: no topic can go by it. It costs reads, not freshness; a string or an integer would do (docs/lint/field-type.md)", o.path, o.kind))
		case spelled:
			lines = append(lines, fmt.Sprintf("%s: column %s of %s is %s, which a field of type %s may spell otherwise%s: no topic goes by it. Give both one type, or refuse other spellings and write the topic by hand", o.path, o.of.Name, t, o.of.Type, o.kind, o.example()))
		case unknown:
			strangers = append(strangers, o.path)
		}
	}
	if all && len(strangers) > 0 {
		lines = append(lines, fmt.Sprintf("%s: named like no column of %s. If one of them says which rows these are, write the topic by hand", strings.Join(strangers, ", "), t))
	}
	return lines
}

// foreign returns the fields of a row that are no columns of its table, and guesses of
// which other's: an answer that has them depends on more than that table.
func (a *adoption) foreign(s *source) (fields, hints []string) {
	for i := range s.message.Fields().Len() {
		f := s.message.Fields().Get(i)
		name := string(f.Name())
		if f.Message() != nil && (f.IsMap() || a.rows[f.Message().FullName()] != nil || s.message.ParentFile().Package() == f.Message().ParentFile().Package()) {
			continue // said of that message
		}
		if s.isPath && (name == "name" || name == "parent") || s.table.holds(name) {
			continue
		}
		fields = append(fields, name)
		if t, column := a.columnOf(name); t != nil && t != s.table {
			hints = append(hints, fmt.Sprintf("%s may be %s.%s", name, t, column))
		}
	}
	return fields, hints
}

// elsewhere says of a method that what it answers with depends on more than its topics tell,
// of which the rows' own notes say more.
func (a *adoption) elsewhere(answer []*source) (lines []string) {
	for _, s := range answer {
		if fields, _ := a.foreign(s); len(fields) > 0 {
			lines = append(lines, fmt.Sprintf("it answers with %s, of which %s is NOT told by these topics: see there", s.message.Name(), strings.Join(fields, ", ")))
		}
	}
	return lines
}

// joined says so of the row.
func (a *adoption) joined(s *source) []string {
	fields, hints := a.foreign(s)
	if len(fields) == 0 {
		return nil
	}
	hint := ""
	if len(hints) > 0 {
		hint = " (" + strings.Join(hints, "; ") + ")"
	}
	return []string{fmt.Sprintf("%s: no column of %s. What comes from another table%s is NOT told by these topics: give that table a message with a `source`, and the methods that answer with it a topic of it", strings.Join(fields, ", "), s.table, hint)}
}

// holds reports whether a field of the name is a column: itself, its id, or a time as AIP-142
// names it, create_time of created_at.
func (t *Table) holds(field string) bool {
	field = snake(field)
	names := []string{field, field + "_id", strings.TrimSuffix(field, "_id")}
	if stem, isTime := strings.CutSuffix(field, "_time"); isTime {
		names = append(names, stem+"_at", stem+"s_at", stem+"d_at", stem+"ed_at", stem)
	}
	return slices.ContainsFunc(names, func(name string) bool { return t.column(name) != nil })
}

// columnOf finds the column that a field like customer_name is of another table.
func (a *adoption) columnOf(field string) (*Table, string) {
	field = snake(field)
	for i, r := range field {
		if r != '_' {
			continue
		}
		noun, column := field[:i], field[i+1:]
		for _, t := range a.tables {
			if c := t.column(column); c != nil && t.of(noun) {
				return t, c.Name
			}
		}
	}
	return nil, ""
}

// dropped says which rows tell nothing on a topic, since a column of it is NULL there.
func (s *source) dropped() (lines []string) {
	if sourceOf(s.message).GetTold() { // no row of it tells anything by itself
		return nil
	}
	for _, topic := range s.topics {
		var columns []string
		for segment := range strings.SplitSeq(topic, "/") {
			name, _, ok := fieldOf(segment)
			if i := slices.IndexFunc(s.table.Columns, func(c Column) bool { return c.Name == name }); ok && i >= 0 && s.table.Columns[i].Nullable {
				columns = append(columns, name)
			}
		}
		if len(columns) > 0 {
			lines = append(lines, fmt.Sprintf("%s may be NULL, and a row in which it is tells nothing on %q. If a method that goes by this answers with such rows, have its topic be %q, here and there; if there are none, let the column be NOT NULL (docs/lint/template-syntax.md, A column that may be NULL)", strings.Join(columns, " or "), topic, cmp.Or(s.whole(), s.table.word())))
		}
	}
	return lines
}

// outsideKey says what the database needs, where topics have columns that a deleted row
// doesn't show by itself.
func (s *source) outsideKey() []string {
	var columns []string
	for _, c := range s.table.Columns {
		if slices.ContainsFunc(s.topics, func(t string) bool { return strings.Contains(t, "{"+c.Name+"}") }) && !slices.Contains(s.table.Key, c.Name) {
			columns = append(columns, c.Name)
		}
	}
	if len(columns) == 0 && len(s.table.Key) > 0 {
		return nil
	}
	what := "is outside the primary key"
	switch {
	case len(s.table.Key) == 0:
		columns, what = []string{s.table.String()}, "has no primary key"
	case len(columns) > 1:
		what = "are outside the primary key"
	}
	return []string{fmt.Sprintf("%s %s: what a deleted or moved row was has to be in the WAL, by a replica identity. The service makes one of an index that is there, or says which statement to run, as `freshet doctor --image` does (docs/operations.md, Replica identities)", strings.Join(columns, ", "), what)}
}

// misnamed says of declared topics which columns of theirs the table doesn't have by that
// very name.
func (s *source) misnamed() (lines []string) {
	for _, t := range s.declared {
		for segment := range strings.SplitSeq(t, "/") {
			name, _, ok := fieldOf(segment)
			if !ok || slices.ContainsFunc(s.table.Columns, func(c Column) bool { return c.Name == name }) {
				continue
			}
			line := fmt.Sprintf("topic %q of its source names column %s, which %s doesn't have", t, name, s.table)
			if c := s.table.column(name); c != nil {
				line += fmt.Sprintf("; there it is %q, and a template names a column in its true case", c.Name)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// alsoWritten names the rows of other tables that a write's request holds.
func (a *adoption) alsoWritten(md protoreflect.MethodDescriptor, sources []*source) (lines []string) {
	a.reach(md.Input(), func(s *source) {
		if s != nil && !slices.Contains(sources, s) {
			lines = append(lines, fmt.Sprintf("the request holds %s, a row of %s: if the method changes that table too, add topics of it to its writes", s.message.Name(), s.table))
		}
	}, make(map[protoreflect.FullName]bool))
	return lines
}

// rowless says of messages that are rows of no table, and that methods without an option
// deal with, that they are. Requests and responses aren't meant to be.
func (a *adoption) rowless(files []protoreflect.FileDescriptor) (proposals []Proposal) {
	held, seen := make(map[protoreflect.FullName]bool), make(map[protoreflect.FullName]bool)
	for _, fd := range files {
		for i := range fd.Services().Len() {
			methods := fd.Services().Get(i).Methods()
			for j := range methods.Len() {
				if declares(methods.Get(j)) {
					continue
				}
				for _, md := range []protoreflect.MessageDescriptor{methods.Get(j).Input(), methods.Get(j).Output()} {
					held[md.FullName()] = true // whatever it is named
					a.reach(md, func(*source) {}, seen)
				}
			}
		}
	}
	var walk func(protoreflect.MessageDescriptors)
	walk = func(messages protoreflect.MessageDescriptors) {
		for i := range messages.Len() {
			md := messages.Get(i)
			walk(md.Messages())
			if seen[md.FullName()] && !held[md.FullName()] && !md.IsMapEntry() && a.rows[md.FullName()] == nil && !collects(md) {
				proposals = append(proposals, Proposal{Element: md, Left: []string{a.noTable(md)}})
			}
		}
	}
	for _, fd := range files {
		walk(fd.Messages())
	}
	return proposals
}

// noTable says which tables a message might be of.
func (a *adoption) noTable(md protoreflect.MessageDescriptor) string {
	if s := sourceOf(md); s != nil {
		return fmt.Sprintf("its source is table %s, which isn't in this database: make it, or name another database", s.GetTable())
	}
	name := snake(string(md.Name()))
	text := "no table is named " + plural(name) + " or " + name
	// One that has most of its fields is likely, if it has more than an id in common.
	var best *Table
	for _, t := range a.tables {
		if n := len(t.common(md)); n >= 2 && (best == nil || n > len(best.common(md))) {
			best = t
		}
	}
	if best != nil {
		return fmt.Sprintf("%s, but %s has %s. If it is a row of that, say so: `option (freshet.v1.source) = {table: %q topics: …}`, and run this again", text, best, strings.Join(best.common(md), ", "), best)
	}
	return text + ". If its fields are of the message around it, nothing is to be done; if they are of another table, say so by `option (freshet.v1.source)`, and run this again"
}

// sourceOf returns what a message declares; nil: nothing. A compiler's options hold it as
// a message made at run time, so it is read anew from its bytes.
func sourceOf(md protoreflect.MessageDescriptor) *freshetv1.Source {
	if !has(md, freshetv1.E_Source) {
		return nil
	}
	bytes, err := proto.Marshal(md.Options())
	if err != nil {
		return nil // it has been compiled, so it can be marshalled
	}
	options := new(descriptorpb.MessageOptions)
	if err := proto.Unmarshal(bytes, options); err != nil {
		return nil // as above
	}
	source, _ := proto.GetExtension(options, freshetv1.E_Source).(*freshetv1.Source)
	return source
}

func quoted(texts []string) string {
	all := make([]string, len(texts))
	for i, t := range texts {
		all[i] = fmt.Sprintf("%q", t)
	}
	return strings.Join(all, ", ")
}

// list names tables.
func list(tables []*Table) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.String()
	}
	return strings.Join(names, ", ")
}
