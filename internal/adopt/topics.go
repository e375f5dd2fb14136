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
	judged string // the column's type, if it is a text that the server refuses where it is spelled otherwise
}

// topicsOf returns templates of a method about a source, and has the source tell them.
// Main is what the method is about; what else an answer holds is told by the table. None:
// the source, as it is declared, tells none that the request can spell.
func (s *source) topicsOf(md protoreflect.MethodDescriptor, reads, main bool, p *Proposal) []string {
	if s.table.View && s.declared == nil { // a refresh changes all of it
		s.tell(s.table.word())
		p.Why = append(p.Why, fmt.Sprintf("a refresh of %s may change all of it, so it has one topic", s.table))
		return []string{s.table.word()}
	}
	if topic, emitted, why := s.resourcePath(md, main); topic != "" {
		s.tell(emitted)
		s.isPath = true
		p.Why = append(p.Why, why)
		return []string{topic}
	}
	fields, omitted := s.fieldsOf(md.Input(), "")
	if !main { // a request's id is of what the method is about
		fields = slices.DeleteFunc(fields, func(f field) bool { return isID(f.path) })
		omitted = slices.DeleteFunc(omitted, func(o omission) bool { return isID(o.path) })
	}
	if !reads { // a write names its row in full, in a message
		fields = append(fields, nestedFields(md.Input(), s)...)
	}
	if creates(md) {
		fields, omitted = s.withoutMade(fields, omitted)
	}
	var topics, taken []string
	for _, w := range s.ways(fields, reads) {
		s.tell(w.emitted)
		topics, taken = append(topics, w.topic), append(taken, w.paths...)
		p.Why = append(p.Why, fmt.Sprintf("%s of the request tells which rows of %s it is about", strings.Join(w.paths, ", "), s.table))
		for _, f := range fields { // for who has other texts for them, as order-7
			if f.judged != "" && slices.Contains(w.paths, f.path) {
				p.Why = append(p.Why, fmt.Sprintf("%s is a text and its column %s: the server refuses a request that spells it otherwise than the database", f.path, f.judged))
			}
		}
	}
	if main && reads && len(topics) > 0 && !s.byKey(fields) && !isOne(md.Output(), s) {
		p.Left = append(p.Left, s.unfiltered(md, taken)...)
	}
	if !s.byKey(fields) {
		p.Left = append(p.Left, explain(omitted, s.table, main && len(topics) == 0)...)
	}
	if len(topics) == 0 {
		topic := s.whole()
		if topic == "" {
			p.Left = append(p.Left, fmt.Sprintf("the source %s tells %s, of which the request spells none: have it tell %q as well, and run this again", s.message.Name(), quoted(s.declared), s.table.word()))
			return nil
		}
		s.tell(topic)
		topics = []string{topic}
		why := "no field of the request is a column of " + s.table.String()
		if len(fields) > 0 {
			why = fmt.Sprintf("what the request says of %s (%s, …) is neither its key nor which list a row is in", s.table, fields[0].path)
		}
		if len(fields) > 0 && s.declared != nil {
			why = fmt.Sprintf("no topic that the source %s tells goes by what the request says of it (%s, …)", s.message.Name(), fields[0].path)
		}
		p.Why = append(p.Why, why+", so it is about the whole table")
	}
	return topics
}

// isID reports whether a field is named so that it doesn't say of what it is the id.
func isID(path string) bool { return path == "id" || path == "ids" }

// whole is the topic of the whole table; empty: what is declared has none.
func (s *source) whole() string {
	if s.declared == nil {
		return s.table.word()
	}
	if i := slices.IndexFunc(s.declared, func(t string) bool { return !strings.Contains(t, "{") }); i >= 0 {
		return s.declared[i]
	}
	return ""
}

// way is a topic by which a method names rows.
type way struct {
	topic, emitted string   // templates of the method, and of the source
	paths          []string // the fields that it takes
}

// ways returns the topics that the fields can spell: of a read one, of a write all that
// its reads go by.
func (s *source) ways(fields []field, reads bool) (ways []way) {
	if s.declared == nil {
		for _, columns := range s.columns(fields, reads) {
			ways = append(ways, spell(s.table, columns, fields))
		}
		return ways
	}
	for _, t := range s.declared {
		if w, ok := s.respell(t, fields); ok {
			ways = append(ways, w)
		}
	}
	if reads && len(ways) > 1 { // what takes the most fields is told the least
		narrowest := slices.MaxFunc(ways, func(a, b way) int { return len(a.paths) - len(b.paths) })
		ways = []way{narrowest}
	}
	return ways
}

// respell returns a template of the source with the request's fields in the columns' place;
// false: it takes none, or one that the request doesn't have.
func (s *source) respell(emitted string, fields []field) (w way, ok bool) {
	segments := strings.Split(emitted, "/")
	for i, segment := range segments {
		name, suffix, isField := fieldOf(segment)
		if !isField {
			continue
		}
		at := slices.IndexFunc(fields, func(f field) bool { return f.column == name })
		if at < 0 {
			return way{}, false
		}
		segments[i] = "{" + fields[at].path + suffix + "}"
		w.paths = append(w.paths, fields[at].path)
	}
	w.topic, w.emitted = strings.Join(segments, "/"), emitted
	return w, len(w.paths) > 0
}

// fieldOf parses a template's segment as {name} or {name=**}.
func fieldOf(segment string) (name, suffix string, ok bool) {
	inner, opened := strings.CutPrefix(segment, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	name, isPath := strings.CutSuffix(inner, "=**")
	if isPath {
		suffix = "=**"
	}
	return name, suffix, opened && closed
}

// columns returns the sets of columns that topics are made of: of a read one, the key if
// the request has all of it; of a write, all those that its reads go by and it can spell.
func (s *source) columns(fields []field, reads bool) (ways [][]string) {
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
func spell(t *Table, columns []string, fields []field) way {
	var request, row, paths []string
	table := t.word()
	key := slices.Equal(columns, t.Key)
	if key {
		request, row = append(request, table), append(row, table)
	}
	for _, c := range columns {
		i := slices.IndexFunc(fields, func(f field) bool { return f.column == c })
		if !key {
			request, row = append(request, collection(snake(c))), append(row, collection(snake(c)))
		}
		paths = append(paths, fields[i].path)
		request, row = append(request, "{"+fields[i].path+"}"), append(row, "{"+c+"}")
	}
	if !key {
		request, row = append(request, table), append(row, table)
	}
	return way{strings.Join(request, "/"), strings.Join(row, "/"), paths}
}

// fieldsOf returns the fields of a message that are columns of the table by their name:
// board or board_id, and id as note_id; and those that no topic can go by. One of
// these may be unset, or repeats: without it the answer is about more.
func (s *source) fieldsOf(md protoreflect.MessageDescriptor, prefix string) (found []field, omitted []omission) {
	t := s.table
	for i := range md.Fields().Len() {
		f := md.Fields().Get(i)
		if f.Message() != nil {
			continue
		}
		path, name := prefix+string(f.Name()), snake(string(f.Name()))
		stem, isID := strings.CutSuffix(name, "_id")
		candidates := []string{string(f.Name()), name + "_id", stem}
		if f.IsList() { // ids
			candidates = append(candidates, singular(name))
		}
		if isID && t.of(stem) {
			candidates = []string{string(f.Name()), "id"}
		}
		var of *Column
		for _, candidate := range candidates {
			if c := t.column(candidate); c != nil && (of == nil || c.fits() && s.sameText(f.Kind(), c)) {
				of = c
				if c.fits() && s.sameText(f.Kind(), c) {
					break
				}
			}
		}
		why := s.becauseOf(f, of)
		if why == "" {
			is := field{path: path, column: of.Name}
			if f.Kind() == protoreflect.StringKind && !of.isText() && !of.Enum {
				is.judged = of.Type
			}
			found = append(found, is)
		} else {
			omitted = append(omitted, omission{path, f.Kind(), of, why})
		}
	}
	return found, omitted
}

// nestedFields returns the fields of the row that a write's request holds.
func nestedFields(md protoreflect.MessageDescriptor, s *source) (found []field) {
	for i := range md.Fields().Len() {
		if f := md.Fields().Get(i); f.Message() != nil && !f.IsList() && f.Message().FullName() == s.message.FullName() {
			fields, _ := s.fieldsOf(f.Message(), string(f.Name())+".") // what else it has, it sets
			found = append(found, fields...)
		}
	}
	return found
}

// sameText reports whether a field and a column that fits spell their values alike. What a
// string spells otherwise than the column's type the server refuses, so that nobody waits for
// it in vain (contract.Spelling judges all such types); but not where rows are told, since
// nobody looks at their columns then.
func (s *source) sameText(of protoreflect.Kind, c *Column) bool {
	switch {
	case of == protoreflect.StringKind:
		return c.Enum || c.isText() || !s.isTold()
	case of == protoreflect.BoolKind:
		return c.Type == "bool"
	case isInteger(of):
		return c.Type == "int2" || c.Type == "int4" || c.Type == "int8"
	default:
		return false
	}
}

// isTold reports whether the source's topics are told by whoever changes its rows.
func (s *source) isTold() bool { return s.table.View || sourceOf(s.message).GetTold() }

// isTaken reports whether a template takes fields of the type (docs/lint/field-type.md).
func isTaken(kind protoreflect.Kind) bool {
	return kind == protoreflect.StringKind || kind == protoreflect.BoolKind || isInteger(kind)
}

func isInteger(kind protoreflect.Kind) bool {
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind,
		protoreflect.Sint32Kind, protoreflect.Sint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind,
		protoreflect.Sfixed32Kind, protoreflect.Sfixed64Kind:
		return true
	default:
		return false
	}
}

// resourcePath proposes for methods after Google's AIP: parent is the path of a list,
// name that of a row, as projects/{project}/tasks/{id}.
func (s *source) resourcePath(md protoreflect.MethodDescriptor, main bool) (topic, emitted, why string) {
	if !main {
		return "", "", ""
	}
	if f := textField(md.Input(), "parent"); f != nil && s.table.column("parent") == nil {
		if emitted := s.pathTopic(f, false); emitted != "" {
			end := strings.LastIndex(emitted, "/")
			return "{parent=**}" + emitted[end:], emitted, fmt.Sprintf("parent is taken for the path of a list, %s; if paths look different, so must the topics", emitted[:end])
		}
	}
	if s.table.column("name") != nil {
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
	if emitted := s.pathTopic(f, true); emitted != "" {
		return template, emitted, fmt.Sprintf("name is taken for the path of a row, %s; if paths look different, so must the topics", emitted)
	}
	return "", "", ""
}

// pathTopic returns what the source tells of a row that a field has the path of, as
// projects/{project}/tasks/{id}, or of a list, without its end; empty: nothing.
func (s *source) pathTopic(f protoreflect.FieldDescriptor, row bool) string {
	if s.declared != nil {
		return s.declaredPath(row)
	}
	if len(s.table.Key) == 0 || row && !s.table.fit(s.table.Key) {
		return ""
	}
	id := s.table.Key[len(s.table.Key)-1]
	columns := pathColumns(f, s.table)
	if n := len(columns); n > 0 && columns[n-1] == id { // of a row, not of its list
		columns = columns[:n-1]
	}
	if len(columns) == 0 {
		columns = s.parents()
	}
	if len(columns) == 0 {
		return ""
	}
	var path []string
	for _, c := range columns {
		path = append(path, collection(snake(c)), "{"+c+"}")
	}
	path = append(path, s.table.word())
	if row {
		path = append(path, "{"+id+"}")
	}
	return strings.Join(path, "/")
}

// declaredPath returns the first declared topic that looks like a resource's path: of a
// row, which ends in a column, or of a list, which ends in a word.
func (s *source) declaredPath(row bool) string {
	for _, t := range s.declared {
		segments := strings.Split(t, "/")
		n := len(segments)
		_, _, ends := fieldOf(segments[n-1])
		if n >= 2 && ends == row && strings.Contains(t, "{") {
			return t
		}
	}
	return ""
}

// textField returns a message's field if it is a single string; else nil.
func textField(md protoreflect.MessageDescriptor, name protoreflect.Name) protoreflect.FieldDescriptor {
	if f := md.Fields().ByName(name); f != nil && f.Kind() == protoreflect.StringKind && !f.IsList() {
		return f
	}
	return nil
}

// pathSegment is a step of a resource's path, as comments have it after AIP-122.
var pathSegment = regexp.MustCompile(`[a-z][A-Za-z_]*/\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// pathColumns returns the columns that a path is made of which the field's comment
// spells, as projects/{project}; none: it has none, or names what is no column.
func pathColumns(f protoreflect.FieldDescriptor, t *Table) (columns []string) {
	at := f.ParentFile().SourceLocations().ByDescriptor(f)
	for _, m := range pathSegment.FindAllStringSubmatch(at.LeadingComments+at.TrailingComments, -1) {
		c := t.column(m[1])
		if c == nil {
			c = t.column(snake(m[1]) + "_id")
		}
		if c == nil || !c.fits() {
			break
		}
		if !slices.Contains(columns, c.Name) {
			columns = append(columns, c.Name)
		}
	}
	return columns
}
