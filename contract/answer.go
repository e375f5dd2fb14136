package contract

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Topics out of the answer. What they promise, by induction over commits in the
// order of the WAL:
//
//	R1  Let A be the answer of a snapshot, and T(A) its AnswerTopics. The first
//	    commit that makes the answer another than A emits a topic of T(A).
//
// It rests on the declaration, as a read's request topics do: which elements A
// has is changed only by rows with a topic of the request, or of an element that
// holds them; what an element shows, only by rows with a topic of that element.
// Since the commit is the first, the elements that it finds are those of A, so
// their topics are in T(A). The topics of another answer say nothing of A: whoever
// keeps A keeps T(A) with it.

// FromAnswer reports whether an answer of the method has topics that its request
// doesn't tell.
func (m *Method) FromAnswer() bool { return len(m.derived) > 0 }

// ResponseTemplates returns the templates over the response, for people.
func (m *Method) ResponseTemplates() []string {
	list := make([]string, len(m.derived))
	for i, d := range m.derived {
		list[i] = d.template.String()
	}
	return list
}

// AnswerTopics returns the distinct topics that an answer depends on, at most
// MaxTopics: those of its request, and then those of its response, in the order
// of the templates. An answer that is an error has its request's only: res is nil.
//
// A template with more topics than there is room for, or with one that is no
// topic, gives its wildcard instead; where all together are too many, the last
// template is the first to do so.
//
// A *RequestError is that of Topics. An *AnswerError says that not even a
// wildcard can be spelled: then it isn't known what the answer depends on.
func (m *Method) AnswerTopics(req, res proto.Message) ([]string, error) {
	asked, err := m.Topics(req)
	if err != nil || res == nil || !m.FromAnswer() {
		return asked, err
	}
	msg := res.ProtoReflect()
	if msg.Descriptor() != m.output {
		return nil, fmt.Errorf("contract: %s answers with a %s, not a %s with another descriptor",
			m.Procedure, m.output.FullName(), msg.Descriptor().FullName())
	}
	exact, wild := make([][]string, len(m.derived)), make([][]string, len(m.derived))
	for i, d := range m.derived {
		if wild[i], err = d.wildcard.topics(m, msg); err != nil {
			return nil, &AnswerError{Procedure: m.Procedure, Template: d.template.String(), Err: err}
		}
		if exact[i], err = d.topics(m, msg); err != nil {
			exact[i] = wild[i]
		}
	}
	for n := len(m.derived); ; n-- { // templates that give their own topics
		all := topicList{most: MaxTopics}
		if all.addLists(append([][]string{asked}, slices.Concat(exact[:n], wild[n:])...)) == nil {
			return all.list, nil
		}
		// It ends: the request has left room for all wildcards.
	}
}

// AnswerError says that an answer's topics can't be spelled: the mistake is in
// the data, or in the contract.
type AnswerError struct {
	Procedure, Template string
	Err                 error
}

func (e *AnswerError) Error() string {
	return fmt.Sprintf("%s: response topics %q: %v", e.Procedure, e.Template, e.Err)
}

func (e *AnswerError) Unwrap() error { return e.Err }

// derived is a template over responses.
type derived struct {
	template *template
	fields   []*field
	roots    []*branch
	wildcard *derived // itself, if it has no repeated field
}

// branch is a step into a response. Fields of one message come together: those
// below one repeated field are of the same element.
type branch struct {
	step protoreflect.FieldDescriptor
	slot int // of a leaf: which field's value it is
	next []*branch
}

func newDerived(t *template, output protoreflect.MessageDescriptor) *derived {
	d := &derived{template: t}
	d.wildcard = d
	for slot, path := range t.fields {
		f, _, _ := resolveField(output, path)
		d.fields = append(d.fields, f) // a claim has no steps
		level := &d.roots
		for i, step := range f.steps {
			at := slices.IndexFunc(*level, func(b *branch) bool { return b.step == step })
			if at < 0 {
				at = len(*level)
				*level = append(*level, &branch{step: step})
			}
			b := (*level)[at]
			if i == len(f.steps)-1 {
				b.slot = slot
			}
			level = &b.next
		}
	}
	t.bind(func(path string) int { return slices.Index(t.fields, path) })
	if text := t.wildcard(d.isRepeated); text != t.String() {
		parsed, err := parseTemplate(text)
		if err != nil {
			panic(err) // not reached: a field gave way to a literal that is shorter
		}
		d.wildcard = newDerived(parsed, output)
	}
	return d
}

// isRepeated reports whether the template's field has several values.
func (d *derived) isRepeated(slot int) bool { return d.fields[slot].isRepeated() }

func (f *field) isRepeated() bool {
	return slices.ContainsFunc(f.steps, protoreflect.FieldDescriptor.IsList)
}

func (d *derived) tokens() []token {
	kinds := make([]kind, len(d.fields))
	for i, f := range d.fields {
		kinds[i] = f.kind
	}
	return d.template.tokens(kinds)
}

var errTooManyRows = errors.New("too many elements")

// topics returns the distinct topics of a response to a caller of m.
func (d *derived) topics(m *Method, msg protoreflect.Message) ([]string, error) {
	rows, err := d.rows(d.roots, msg)
	if err != nil {
		return nil, err
	}
	all := topicList{most: MaxTopics}
	for _, row := range rows {
		for slot, f := range d.fields {
			if f.claim != "" {
				row[slot] = m.valueOf(f.claim)
			}
		}
		b, _ := appendTopic(nil, d.template, row) // no value is empty
		topic := string(b)
		if err := d.template.check(topic); err != nil {
			return nil, err
		}
		if err := all.add(topic); err != nil {
			return nil, err
		}
	}
	return all.list, nil
}

// rows returns the distinct rows of values below a message, each with a value for
// every field of the branches; several branches give every combination. Every
// branch is looked at, so that what is too many doesn't depend on their order.
func (d *derived) rows(branches []*branch, msg protoreflect.Message) ([][]string, error) {
	rows := [][]string{make([]string, len(d.fields))}
	for _, b := range branches {
		values, err := d.below(b, msg)
		if err != nil {
			return nil, err
		}
		if len(rows)*len(values) > MaxTopics {
			return nil, errTooManyRows
		}
		var both [][]string
		for _, row := range rows {
			for _, value := range values {
				both = append(both, merge(row, value))
			}
		}
		rows = both
	}
	return rows, nil
}

// below returns the distinct rows of one branch of a message.
func (d *derived) below(b *branch, msg protoreflect.Message) ([][]string, error) {
	if !b.step.IsList() {
		if b.step.HasPresence() && !msg.Has(b.step) {
			return nil, nil // NULL
		}
		return d.valueOf(b, msg.Get(b.step))
	}
	var rows [][]string
	seen := make(map[string]bool)
	list := msg.Get(b.step).List()
	for i := range list.Len() {
		of, err := d.valueOf(b, list.Get(i))
		if err != nil {
			return nil, err
		}
		for _, row := range of {
			key := keyOf(row)
			if seen[key] {
				continue
			}
			if len(rows) == MaxTopics {
				return nil, errTooManyRows
			}
			seen[key] = true
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func (d *derived) valueOf(b *branch, v protoreflect.Value) ([][]string, error) {
	if len(b.next) > 0 {
		return d.rows(b.next, v.Message())
	}
	text := v.String()
	if text == "" {
		return nil, nil
	}
	row := make([]string, len(d.fields))
	row[b.slot] = text
	return [][]string{row}, nil
}

// merge joins two rows that have values of different fields.
func merge(a, b []string) []string {
	row := slices.Clone(a)
	for i, value := range b {
		if value != "" {
			row[i] = value
		}
	}
	return row
}

// keyOf is a text that no other row has.
func keyOf(row []string) string {
	var key strings.Builder
	for _, value := range row {
		key.WriteString(strconv.Itoa(len(value)) + ":" + value)
	}
	return key.String()
}

// wildcard returns the template's text with `-` for some of its fields.
func (t *template) wildcard(instead func(field int) bool) string {
	parts := strings.Split(t.String(), "/")
	for i, s := range t.segments {
		if !s.isLiteral() && instead(s.field) {
			parts[i] = "-"
		}
	}
	return strings.Join(parts, "/")
}

// addLists adds the topics of lists, which are topics.
func (l *topicList) addLists(lists [][]string) error {
	for _, list := range lists {
		for _, topic := range list {
			if err := l.add(topic); err != nil {
				return err
			}
		}
	}
	return nil
}
