package adopt

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// field is a field of a request that says which rows a method is about.
type field struct {
	path   string // as templates name it
	column string // of the table
}

// topics returns templates of a method about a source, and has the source tell them.
// Main is what the method is about; what else an answer holds is told by the table.
func (a *adoption) topics(md protoreflect.MethodDescriptor, s *source, reads, main bool, p *Proposal) []string {
	if s.table.View { // a refresh changes all of it
		s.tell(s.table.word())
		p.Why = append(p.Why, fmt.Sprintf("a refresh of %s may change all of it, so it has one topic", s.table))
		return []string{s.table.word()}
	}
	if topic, emitted, why := resourcePath(md, s, main); topic != "" {
		s.tell(emitted)
		s.isPath = true
		p.Why = append(p.Why, why)
		return []string{topic}
	}
	fields, omitted := fieldsOf(md.Input(), "", s.table)
	if !reads { // a write names its row in full, in a message
		fields = append(fields, nestedFields(md.Input(), s)...)
	}
	if creates(md) {
		fields, omitted = s.withoutMade(fields, omitted)
	}
	var topics []string
	for _, columns := range s.ways(fields, reads) {
		topic, emitted := spell(s.table, columns, fields)
		s.tell(emitted)
		topics = append(topics, topic)
		p.Why = append(p.Why, fmt.Sprintf("%s of the request tells which rows of %s it is about", strings.Join(paths(columns, fields), ", "), s.table))
	}
	if main && reads && len(topics) > 0 && !s.byKey(fields) && !isOne(md.Output(), s) {
		p.Left = append(p.Left, s.unfiltered(md, fields)...)
	}
	if !s.byKey(fields) {
		p.Left = append(p.Left, explain(omitted, s.table, main && len(topics) == 0)...)
	}
	if len(topics) == 0 {
		topic := s.table.word()
		s.tell(topic)
		topics = []string{topic}
		why := "no field of the request is a column of " + s.table.String()
		if len(fields) > 0 {
			why = fmt.Sprintf("what the request says of %s (%s, …) is neither its key nor which list a row is in", s.table, fields[0].path)
		}
		p.Why = append(p.Why, why+", so it is about the whole table")
	}
	return topics
}

// ways returns the sets of columns that topics are made of: of a read one, the key if
// the request has all of it; of a write, all those that its reads go by and it can spell.
func (s *source) ways(fields []field, reads bool) (ways [][]string) {
	var named []string
	for _, c := range s.table.Columns { // in their order
		if slices.ContainsFunc(fields, func(f field) bool { return f.column == c.Name }) {
			named = append(named, c.Name)
		}
	}
	switch {
	case s.byKey(fields):
		ways = append(ways, s.table.Key)
		if parents := s.parents(); !reads && len(parents) > 0 && !slices.Equal(parents, s.table.Key) && subset(parents, named) {
			ways = append(ways, parents)
		}
	case reads && len(named) > 0:
		ways = append(ways, named)
	case !reads:
		if parents := s.parents(); len(parents) > 0 && subset(parents, named) {
			ways = append(ways, parents)
		}
	}
	return ways
}

// byKey reports whether the fields have all of the key.
func (s *source) byKey(fields []field) bool {
	named := make([]string, len(fields))
	for i, f := range fields {
		named[i] = f.column
	}
	return len(s.table.Key) > 0 && subset(s.table.Key, named)
}

func subset(some, of []string) bool {
	for _, c := range some {
		if !slices.Contains(of, c) {
			return false
		}
	}
	return true
}

// parents are the columns that say which list a row is in: of the key all but the last,
// or, where that is one column, the foreign keys.
func (s *source) parents() (columns []string) {
	if n := len(s.table.Key); n > 1 {
		if !s.table.fit(s.table.Key[:n-1]) {
			return nil
		}
		return s.table.Key[:n-1]
	}
	for _, c := range s.table.Columns {
		if c.FK && c.fits() {
			columns = append(columns, c.Name)
		}
	}
	return columns
}

// spell returns the template of a method about the rows that have the given columns, and
// what the source tells of them: notes/{id} by the key, boards/{board}/notes by others.
func spell(t *Table, columns []string, fields []field) (topic, emitted string) {
	var request, row []string
	table := t.word()
	key := slices.Equal(columns, t.Key)
	if key {
		request, row = append(request, table), append(row, table)
	}
	for _, c := range columns {
		i := slices.IndexFunc(fields, func(f field) bool { return f.column == c })
		if !key {
			request, row = append(request, collection(word(c))), append(row, collection(word(c)))
		}
		request, row = append(request, "{"+fields[i].path+"}"), append(row, "{"+c+"}")
	}
	if !key {
		request, row = append(request, table), append(row, table)
	}
	return strings.Join(request, "/"), strings.Join(row, "/")
}

func paths(columns []string, fields []field) (list []string) {
	for _, c := range columns {
		list = append(list, fields[slices.IndexFunc(fields, func(f field) bool { return f.column == c })].path)
	}
	return list
}

// fieldsOf returns the fields of a message that are columns of a table by their name:
// board or board_id, and id as note_id; and those that no topic can go by. One of
// these may be unset, or repeats: without it the answer is about more.
func fieldsOf(md protoreflect.MessageDescriptor, prefix string, t *Table) (found []field, omitted []omission) {
	for i := range md.Fields().Len() {
		f := md.Fields().Get(i)
		if f.Message() != nil {
			continue
		}
		name := string(f.Name())
		candidates := []string{name, name + "_id", strings.TrimSuffix(name, "_id")}
		if f.IsList() { // ids
			candidates = append(candidates, singular(name))
		}
		if stem := strings.TrimSuffix(name, "_id"); stem != name && (plural(stem) == t.word() || stem == t.word()) {
			candidates = []string{name, "id"}
		}
		var of *Column
		for _, candidate := range candidates {
			if c := t.column(candidate); c != nil && (of == nil || c.fits() && sameText(f, c)) {
				of = c
				if c.fits() && sameText(f, c) {
					break
				}
			}
		}
		why := becauseOf(f, of)
		if why == "" {
			found = append(found, field{prefix + name, of.Name})
		} else {
			omitted = append(omitted, omission{prefix + name, of, why})
		}
	}
	return found, omitted
}

// nestedFields returns the fields of the row that a write's request holds.
func nestedFields(md protoreflect.MessageDescriptor, s *source) (found []field) {
	for i := range md.Fields().Len() {
		if f := md.Fields().Get(i); f.Message() != nil && !f.IsList() && f.Message().FullName() == s.message.FullName() {
			fields, _ := fieldsOf(f.Message(), string(f.Name())+".", s.table) // what else it has, it sets
			found = append(found, fields...)
		}
	}
	return found
}

// sameText reports whether a field and a column spell their values alike.
func sameText(f protoreflect.FieldDescriptor, c *Column) bool {
	switch f.Kind() {
	case protoreflect.StringKind:
		return c.Type == "text" || c.Type == "varchar" || c.Type == "uuid"
	case protoreflect.BoolKind:
		return c.Type == "bool"
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind,
		protoreflect.Sint32Kind, protoreflect.Sint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind,
		protoreflect.Sfixed32Kind, protoreflect.Sfixed64Kind:
		return c.Type == "int2" || c.Type == "int4" || c.Type == "int8"
	default:
		return false
	}
}

// resourcePath proposes for methods after Google's AIP: parent is the path of a list,
// name that of a row, as projects/{project}/tasks/{id}.
func resourcePath(md protoreflect.MethodDescriptor, s *source, main bool) (topic, emitted, why string) {
	if !main || len(s.table.Key) == 0 {
		return "", "", ""
	}
	table := s.table.word()
	list := func(f protoreflect.FieldDescriptor) string {
		columns := pathColumns(f, s.table)
		if len(columns) == 0 {
			columns = s.parents()
		}
		var path []string
		for _, c := range columns {
			path = append(path, collection(word(c)), "{"+c+"}")
		}
		return strings.Join(path, "/")
	}
	if f := textField(md.Input(), "parent"); f != nil && s.table.column("parent") == nil {
		if path := list(f); path != "" {
			return "{parent=**}/" + table, path + "/" + table, fmt.Sprintf("parent is taken for the path of a list, %s; if paths look different, so must the topics", path)
		}
	}
	if s.table.column("name") != nil || !s.table.fit(s.table.Key) {
		return "", "", ""
	}
	template, f := "{name=**}", textField(md.Input(), "name")
	for i := 0; f == nil && i < md.Input().Fields().Len(); i++ {
		if row := md.Input().Fields().Get(i); row.Message() != nil && row.Message().FullName() == s.message.FullName() {
			template, f = "{"+string(row.Name())+".name=**}", textField(row.Message(), "name")
		}
	}
	if f == nil {
		return "", "", ""
	}
	if path := list(f); path != "" {
		emitted = path + "/" + table + "/{" + s.table.Key[len(s.table.Key)-1] + "}"
		return template, emitted, fmt.Sprintf("name is taken for the path of a row, %s; if paths look different, so must the topics", emitted)
	}
	return "", "", ""
}

// textField returns a message's field if it is a single string; else nil.
func textField(md protoreflect.MessageDescriptor, name protoreflect.Name) protoreflect.FieldDescriptor {
	if f := md.Fields().ByName(name); f != nil && f.Kind() == protoreflect.StringKind && !f.IsList() {
		return f
	}
	return nil
}

// pathSegment is a step of a resource's path, as comments have it after AIP-122.
var pathSegment = regexp.MustCompile(`[a-z][A-Za-z_]*/\{([a-z][a-z0-9_]*)\}`)

// pathColumns returns the columns that a path is made of which the field's comment
// spells, as projects/{project}; none: it has none, or names what is no column.
func pathColumns(f protoreflect.FieldDescriptor, t *Table) (columns []string) {
	at := f.ParentFile().SourceLocations().ByDescriptor(f)
	for _, m := range pathSegment.FindAllStringSubmatch(at.LeadingComments+at.TrailingComments, -1) {
		c := t.column(m[1])
		if c == nil {
			c = t.column(m[1] + "_id")
		}
		if c == nil || !c.fits() {
			break
		}
		if !slices.Contains(columns, c.Name) {
			columns = append(columns, c.Name)
		}
	}
	if n := len(columns); n > 0 && columns[n-1] == "id" { // of a row, not of its list
		columns = columns[:n-1]
	}
	return columns
}
