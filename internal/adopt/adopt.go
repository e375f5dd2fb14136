// Package adopt proposes a contract for a service that has none: which messages are
// rows of which tables, which topics their changes are told under, and which of them
// each method reads or writes. It goes by names, as a reader would who is new to the
// service, and says of each proposal why; what it can't tell it leaves out and says so.
//
// Its proposals err on one side: where fields and columns don't tell which rows an
// answer holds, the topic is the whole table's, which is told too often and never too
// seldom. What a handler really reads, the audit proves.
package adopt

import (
	"fmt"
	"slices"
	"strings"

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
}

// Propose returns proposals for all services of some files and the messages that are
// rows of tables, in the order of the files. What has an option of freshet.v1 already
// is left as it is.
func Propose(files []protoreflect.FileDescriptor, tables []*Table) []Proposal {
	a := &adoption{tables: tables, rows: make(map[protoreflect.FullName]*source)}
	for _, fd := range files {
		a.findRows(fd.Messages())
	}
	var methods []Proposal
	for _, fd := range files {
		for i := range fd.Services().Len() {
			for j := range fd.Services().Get(i).Methods().Len() {
				if p := a.method(fd.Services().Get(i).Methods().Get(j)); p != nil {
					methods = append(methods, *p)
				}
			}
		}
	}
	var all []Proposal
	for _, s := range a.sources {
		if p := s.proposal(); p != nil {
			all = append(all, *p)
		}
	}
	return append(all, methods...)
}

// adoption is one run of Propose.
type adoption struct {
	tables  []*Table
	sources []*source
	rows    map[protoreflect.FullName]*source // by the message
}

// source is a message that is a row of a table.
type source struct {
	message protoreflect.MessageDescriptor
	table   *Table
	topics  []string
	why     []string
}

// tell has the source emit a topic.
func (s *source) tell(topic string) {
	if !slices.Contains(s.topics, topic) {
		s.topics = append(s.topics, topic)
	}
}

// has reports whether an element has the option.
func has(d protoreflect.Descriptor, option protoreflect.ExtensionType) bool {
	return d.Options() != nil && proto.HasExtension(d.Options(), option)
}

func (s *source) proposal() *Proposal {
	if has(s.message, freshetv1.E_Source) {
		return nil
	}
	p := &Proposal{Element: s.message, Why: s.why}
	if len(s.topics) == 0 {
		p.Why = append(p.Why, "no method reads it, so it needs no topics")
		return p
	}
	p.Options = append(p.Options, "option (freshet.v1.source) = {", fmt.Sprintf("  table: %q", s.table))
	for _, topic := range s.topics {
		p.Options = append(p.Options, fmt.Sprintf("  topics: %q", topic))
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

// rowsOf matches a message with a table by their names; of several tables it takes the
// one that has most of the message's fields.
func (a *adoption) rowsOf(md protoreflect.MessageDescriptor) *source {
	name := snake(string(md.Name()))
	var best *source
	most := -1
	for _, t := range a.tables {
		if lower := strings.ToLower(t.Name); lower != name && lower != plural(name) && lower != strings.ReplaceAll(name, "_", "") {
			continue
		}
		var common []string
		for i := range md.Fields().Len() {
			if f := string(md.Fields().Get(i).Name()); t.column(f) != nil {
				common = append(common, f)
			}
		}
		if len(common) > most {
			most = len(common)
			best = &source{message: md, table: t, why: []string{fmt.Sprintf("%s is named like table %s, and has %d of its %d columns: %s", md.Name(), t, len(common), len(t.Columns), orNone(common))}}
		}
	}
	return best
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// method proposes what a method declares; nil: it does already.
func (a *adoption) method(md protoreflect.MethodDescriptor) *Proposal {
	if has(md, freshetv1.E_Reads) || has(md, freshetv1.E_Writes) {
		return nil
	}
	p := &Proposal{Element: md}
	if md.IsStreamingClient() || md.IsStreamingServer() {
		p.Why = []string{"it streams: it belongs to a service of its own, without a contract, and its callers follow topics instead"}
		return p
	}
	reads, why := isRead(md)
	p.Why = append(p.Why, why)
	sources := a.sourcesOf(md, reads)
	if len(sources) == 0 {
		p.Why = append(p.Why, "none of its messages is a row of a table: say by hand what it depends on, or move it to a service of its own")
		return p
	}
	var topics []string
	for i, s := range sources {
		for _, t := range a.topics(md, s, reads, i == 0, p) {
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
	p.Options = append(p.Options, "option (freshet.v1."+option+") = {")
	for _, t := range topics {
		p.Options = append(p.Options, fmt.Sprintf("  topics: %q", t))
	}
	p.Options = append(p.Options, "};")
	return p
}

// readVerbs begin the names of methods that read.
var readVerbs = []string{"Get", "List", "Search", "Find", "Count", "BatchGet", "Query", "Lookup", "Read", "Fetch"}

func isRead(md protoreflect.MethodDescriptor) (reads bool, why string) {
	if options, ok := md.Options().(*descriptorpb.MethodOptions); ok && options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS {
		return true, "it reads: it says NO_SIDE_EFFECTS"
	}
	for _, verb := range readVerbs {
		if strings.HasPrefix(string(md.Name()), verb) {
			return true, "it reads, by its name; if it changes anything, it is a write"
		}
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
	// The longest message's name in the method's is what it is about.
	var about *source
	for _, s := range a.sources {
		if name := string(s.message.Name()); strings.Contains(string(md.Name()), name) && (about == nil || len(name) > len(about.message.Name())) {
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
