// Package adopt proposes a contract for a service that has none: which messages are
// rows of which tables, which topics their changes are told under, and which of them
// each method reads or writes. It goes by names, as a reader would who is new to the
// service, and says of each proposal why; what it can't tell it leaves out, and says what
// that is, why, and what is to be done about it.
//
// Its proposals err on one side: where fields and columns don't tell which rows an
// answer holds, the topic is the whole table's, which is told too often and never too
// seldom. What a handler really reads, the audit proves.
package adopt

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
)

// Proposal is what one message or method is to declare.
type Proposal struct {
	Element protoreflect.Descriptor // a message or a method
	Options []string                // lines of proto, without indentation; none: nothing can be told
	Why     []string                // for people
	Left    []string                // what was left out: why, and what to do about it
}

// Outcome is what there is to say about some files and a database.
type Outcome struct {
	Proposals []Proposal // in the order of the files: messages, then methods
	Rows      int        // messages that are rows of a table, with an option or without
	Unread    []*Table   // tables that no message is a row of, if methods are without an option
	Records   []*Table   // tables of migration tools, which aren't looked at
	Refused   []*Table   // tables that no source can have
	Declared  int        // methods that have an option already, and are left as they are
	Open      int        // methods that nothing is proposed for: somebody's to decide
}

// Propose returns proposals for all services of some files and the messages that are
// rows of tables. What has an option of freshet.v1 already is left as it is.
func Propose(files []protoreflect.FileDescriptor, tables []*Table) Outcome {
	a := &adoption{all: tables, rows: make(map[protoreflect.FullName]*source)}
	for _, t := range tables {
		if !t.isRecord() {
			a.tables = append(a.tables, t)
		}
	}
	for _, fd := range files {
		a.findRows(fd.Messages())
	}
	out := Outcome{Rows: len(a.sources)}
	var (
		methods []Proposal
		answers [][]*source // of each of them
	)
	for _, fd := range files {
		for i := range fd.Services().Len() {
			for j := range fd.Services().Get(i).Methods().Len() {
				p, answer := a.method(fd.Services().Get(i).Methods().Get(j))
				switch {
				case p == nil:
					out.Declared++
					continue
				case len(p.Options) == 0:
					out.Open++
				}
				methods, answers = append(methods, *p), append(answers, answer)
			}
		}
	}
	for i := range methods { // whether a row's name is a path, any of them may tell
		methods[i].Left = once(append(a.elsewhere(answers[i]), methods[i].Left...))
	}
	for _, s := range a.sources {
		if p := a.proposal(s); p != nil {
			out.Proposals = append(out.Proposals, *p)
		}
	}
	out.Proposals = append(append(out.Proposals, a.rowless(files)...), methods...)
	for _, t := range a.all {
		switch {
		case t.isRecord():
			out.Records = append(out.Records, t)
		case t.Refused != "":
			out.Refused = append(out.Refused, t)
		case len(methods) > 0 && !slices.ContainsFunc(a.sources, func(s *source) bool { return s.table == t }):
			out.Unread = append(out.Unread, t)
		}
	}
	return out
}

// once returns lines without those that were there before: of a field that two tables have,
// both say the same.
func once(lines []string) (list []string) {
	for _, line := range lines {
		if !slices.Contains(list, line) {
			list = append(list, line)
		}
	}
	return list
}

// adoption is one run of Propose.
type adoption struct {
	all     []*Table
	tables  []*Table // those that may have what messages are about
	sources []*source
	rows    map[protoreflect.FullName]*source // by the message
}

// source is a message that is a row of a table.
type source struct {
	message protoreflect.MessageDescriptor
	table   *Table
	// What the message declares that it tells; nil: it has no option yet.
	declared []string
	topics   []string // what methods go by: of an option, some of declared
	why      []string
	isPath   bool // its name is a path, by some method
}

// tell has the source emit a topic.
func (s *source) tell(topic string) {
	if !slices.Contains(s.topics, topic) {
		s.topics = append(s.topics, topic)
	}
}

// refused reports whether doctor would refuse the source's table: one that is told by
// whoever changes it may be any.
func (s *source) refused() bool {
	return s.table.Refused != "" && !sourceOf(s.message).GetTold()
}

// has reports whether an element has the option.
func has(d protoreflect.Descriptor, option protoreflect.ExtensionType) bool {
	return d.Options() != nil && proto.HasExtension(d.Options(), option)
}

// declares reports whether a method has a contract.
func declares(md protoreflect.MethodDescriptor) bool {
	return has(md, freshetv1.E_Reads) || has(md, freshetv1.E_Writes)
}

// proposal is what is said of a source; nil: nothing, it declares all that it needs to.
func (a *adoption) proposal(s *source) *Proposal {
	p := &Proposal{Element: s.message, Why: s.why}
	if s.refused() {
		p.Left = append(p.Left, fmt.Sprintf("no source can have table %s: %s; and run this again", s.table, s.table.Refused))
		return p
	}
	if s.declared != nil {
		p.Left = append(p.Left, s.misnamed()...)
		if s.table.View && !sourceOf(s.message).GetTold() {
			p.Left = append(p.Left, fmt.Sprintf("%s is a materialized view, of which the WAL shows nothing: add `told: true` to its source, and have whoever refreshes it tell its topics, in the transaction of the refresh (docs/library.md, Topics of your own)", s.table))
		}
		if len(s.topics) > 0 {
			p.Left = append(append(p.Left, a.joined(s)...), s.dropped()...)
		}
		if len(p.Left) == 0 {
			return nil
		}
		return p
	}
	if len(s.topics) == 0 {
		p.Why = append(p.Why, "no method reads it, so it needs no topics")
		return p
	}
	p.Options = append(p.Options, "option (freshet.v1.source) = {", fmt.Sprintf("  table: %q", s.table))
	for _, topic := range s.topics {
		p.Options = append(p.Options, fmt.Sprintf("  topics: %q", topic))
	}
	p.Left = a.joined(s)
	if s.table.View {
		p.Options = append(p.Options, "  told: true")
		p.Left = append(p.Left, fmt.Sprintf("%s is a materialized view, of which the WAL shows nothing: whoever refreshes it tells its topics, in the transaction of the refresh (docs/library.md, Topics of your own)", s.table))
	} else {
		p.Left = append(append(p.Left, s.dropped()...), s.outsideKey()...)
	}
	p.Options = append(p.Options, "};")
	return p
}

// findRows finds the messages that are rows of a table.
func (a *adoption) findRows(messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		md := messages.Get(i)
		a.findRows(md.Messages())
		if strings.HasSuffix(string(md.Name()), "Request") || strings.HasSuffix(string(md.Name()), "Response") || md.IsMapEntry() {
			continue
		}
		if s := a.rowsOf(md); s != nil {
			a.rows[md.FullName()] = s
			a.sources = append(a.sources, s)
		}
	}
}

// rowsOf matches a message with a table: by what it declares, else by their names; of
// several tables it takes the one that has most of the message's fields.
func (a *adoption) rowsOf(md protoreflect.MessageDescriptor) *source {
	if declared := sourceOf(md); declared != nil {
		if i := slices.IndexFunc(a.all, func(t *Table) bool { return t.named(declared.GetTable()) }); i >= 0 {
			return &source{message: md, table: a.all[i], declared: append([]string{}, declared.GetTopics()...)}
		}
		return nil
	}
	if collects(md) {
		return nil
	}
	var candidates, refused []*Table
	for _, t := range a.tables {
		switch {
		case !t.of(snake(string(md.Name()))):
		case t.Refused == "":
			candidates = append(candidates, t)
		default:
			refused = append(refused, t)
		}
	}
	if len(candidates) == 0 { // it is said why there is no source, then
		candidates = refused
	}
	if len(candidates) == 0 {
		return nil
	}
	slices.SortStableFunc(candidates, func(x, y *Table) int { return len(y.common(md)) - len(x.common(md)) })
	best := candidates[0]
	why := []string{fmt.Sprintf("%s is named like table %s, and has %d of its %d columns: %s", md.Name(), best, len(best.common(md)), len(best.Columns), orNone(best.common(md)))}
	if len(candidates) > 1 {
		why = append(why, fmt.Sprintf("so is %s, which has fewer of its fields; if it is a row of that, change the table", list(candidates[1:])))
	}
	return &source{message: md, table: best, why: why}
}

// collects reports whether a message, Orders, is many of another, Order: that is the row then,
// though a table has the name of this one.
func collects(md protoreflect.MessageDescriptor) bool {
	for i := range md.Fields().Len() {
		f := md.Fields().Get(i)
		element := f.Message()
		if f.IsMap() {
			element = f.MapValue().Message()
		}
		if element != nil && f.Cardinality() == protoreflect.Repeated && same(string(md.Name()), plural(snake(string(element.Name())))) {
			return true
		}
	}
	return false
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// method proposes what a method declares; nil: it does already. The answer is what a read
// has topics of.
func (a *adoption) method(md protoreflect.MethodDescriptor) (p *Proposal, answer []*source) {
	if declares(md) {
		return nil, nil
	}
	p = &Proposal{Element: md}
	if md.IsStreamingClient() || md.IsStreamingServer() {
		p.Why = []string{"it streams: it belongs to a service of its own, without a contract, and its callers follow topics instead"}
		return p, nil
	}
	reads, why := isRead(md)
	p.Why = append(p.Why, why)
	sources := a.sourcesOf(md, reads)
	if len(sources) == 0 {
		p.Why = append(p.Why, "none of its messages is a row of a table: say by hand what it "+map[bool]string{true: "depends on", false: "changes"}[reads]+", or move it to a service of its own")
		return p, nil
	}
	if i := slices.IndexFunc(sources, (*source).refused); i >= 0 {
		p.Left = append(p.Left, fmt.Sprintf("it deals with %s, of a table that no source can have: see there", sources[i].message.Name()))
		return p, nil
	}
	if !reads {
		p.Left = append(p.Left, a.alsoWritten(md, sources)...)
	}
	var topics []string
	for i, s := range sources {
		of := s.topicsOf(md, reads, i == 0, p)
		if len(of) == 0 { // without them the contract would leave changes out
			return p, answer
		}
		if reads {
			answer = append(answer, s)
		}
		for _, t := range of {
			if !slices.Contains(topics, t) {
				topics = append(topics, t)
			}
		}
	}
	option := "writes"
	if reads {
		option = "reads"
		if options, ok := md.Options().(*descriptorpb.MethodOptions); !ok || options.GetIdempotencyLevel() != descriptorpb.MethodOptions_NO_SIDE_EFFECTS {
			p.Options = append(p.Options, "option idempotency_level = NO_SIDE_EFFECTS;")
		}
	}
	if len(topics) == 1 { // in one line, as buf format has it
		p.Options = append(p.Options, fmt.Sprintf("option (freshet.v1.%s) = {topics: %q};", option, topics[0]))
		return p, answer
	}
	p.Options = append(p.Options, "option (freshet.v1."+option+") = {")
	for _, t := range topics {
		p.Options = append(p.Options, fmt.Sprintf("  topics: %q", t))
	}
	p.Options = append(p.Options, "};")
	return p, answer
}

// readVerbs begin the names of methods that read.
var readVerbs = []string{"Get", "List", "Search", "Find", "Count", "BatchGet", "Query", "Lookup", "Read", "Fetch"}

// alsoWrites is in the names of methods that begin as those that read, and write:
// GetOrCreateCart, ListAndDeleteExpired.
var alsoWrites = regexp.MustCompile(`(And|Or|Then)(Add|Archive|Claim|Clear|Consume|Create|Decrement|Delete|Drain|Increment|Insert|Lock|Make|Mark|Merge|Move|Pop|Put|Register|Remove|Replace|Reserve|Reset|Save|Set|Start|Stop|Touch|Update|Upsert|Write)([A-Z]|$)`)

func isRead(md protoreflect.MethodDescriptor) (reads bool, why string) {
	if options, ok := md.Options().(*descriptorpb.MethodOptions); ok && options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS {
		return true, "it reads: it says NO_SIDE_EFFECTS"
	}
	name := string(md.Name())
	for _, verb := range readVerbs {
		rest, begins := strings.CutPrefix(name, verb)
		if !begins || rest != "" && unicode.IsLower(rune(rest[0])) || alsoWrites.MatchString(rest) { // Listen, GetOrCreate
			continue
		}
		return true, "it reads, by its name; if it changes anything, it is a write"
	}
	return false, "it writes, by its name; if it changes nothing, it is a read"
}

// sourcesOf returns what a method deals with: of a read all that its answer may hold, of
// a write the one that its request or its name is about.
func (a *adoption) sourcesOf(md protoreflect.MethodDescriptor, reads bool) (found []*source) {
	add := func(s *source) {
		if s != nil && !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	// The longest message's name in the method's is what it is about; of several packages'
	// messages of one name, the method's own.
	var about *source
	for _, s := range a.sources {
		name := string(s.message.Name())
		if !strings.Contains(string(md.Name()), name) {
			continue
		}
		own := s.message.ParentFile().Package() == md.ParentFile().Package()
		if about == nil || len(name) > len(about.message.Name()) || len(name) == len(about.message.Name()) && own {
			about = s
		}
	}
	add(about)
	if reads || about == nil {
		a.reach(md.Output(), add, make(map[protoreflect.FullName]bool))
	}
	if !reads && len(found) == 0 {
		a.reach(md.Input(), add, make(map[protoreflect.FullName]bool))
	}
	return found
}

// reach adds the sources among a message and what it holds.
func (a *adoption) reach(md protoreflect.MessageDescriptor, add func(*source), seen map[protoreflect.FullName]bool) {
	if seen[md.FullName()] {
		return
	}
	seen[md.FullName()] = true
	add(a.rows[md.FullName()])
	for i := range md.Fields().Len() {
		if inner := md.Fields().Get(i).Message(); inner != nil {
			a.reach(inner, add, seen)
		}
	}
}
