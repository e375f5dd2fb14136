package contract

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Kind says what a method does to data.
type Kind uint8

const (
	// Read is a method with the option (freshet.v1.reads).
	Read Kind = iota + 1
	// Write is a method with the option (freshet.v1.writes).
	Write
)

func (k Kind) String() string {
	switch k {
	case Read:
		return "reads"
	case Write:
		return "writes"
	default:
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
}

// MaxTopics bounds the topics of one request; more could not be subscribed to
// on one stream either.
const MaxTopics = 1000

// Method is one RPC of the contract. The exported fields are not to be changed.
type Method struct {
	Procedure string // as Connect has it: "/messages.v1.MessageService/ListMessages"
	Kind      Kind
	Shared    bool // a read: the answer depends on the request alone
	Uncached  bool // a read: never answered from the cache

	input     protoreflect.MessageDescriptor
	fields    []*field
	templates []*template // bound to fields
	output    protoreflect.MessageDescriptor
	derived   []*derived // of response_topics
	sources   []*Source
	claims    []string // of the caller, that templates take
	values    []string // of claims; nil: not known, or there are none
}

// Sources returns, of a read, the sources that can emit one of its topics, in
// the order of Program.Sources, and then of Program.Told; of a write, nil.
func (m *Method) Sources() []*Source { return m.sources }

// Templates returns the topic templates, for people.
func (m *Method) Templates() []string { return texts(m.templates) }

// Topics returns the distinct topics of a request, in the order of the
// templates. The outcome may be empty, since an unset or empty field drops its
// topic: then nothing is known of what the answer depends on, and it must be
// neither kept nor shared.
//
// A *RequestError says that the request has no such topics, the caller's fault;
// any other error, that req is not this method's input.
//
// Where FromAnswer holds, the answer has more: see AnswerTopics. Where there are Claims,
// only what For returns has topics.
func (m *Method) Topics(req proto.Message) ([]string, error) {
	if req == nil {
		return nil, fmt.Errorf("contract: %s: no request", m.Procedure)
	}
	msg := req.ProtoReflect()
	if msg.Descriptor() != m.input {
		return nil, fmt.Errorf("contract: %s takes a %s, not a %s with another descriptor",
			m.Procedure, m.input.FullName(), msg.Descriptor().FullName())
	}
	if m.unknownCaller() {
		return nil, fmt.Errorf("contract: %s: %w", m.Procedure, errNoCaller)
	}
	values := make([][]string, len(m.fields))
	for i, f := range m.fields {
		if f.claim != "" {
			values[i] = []string{m.valueOf(f.claim)}
		} else {
			values[i] = f.appendValues(nil, msg)
		}
	}
	// Room for the wildcards of what the answer adds.
	topics := topicList{list: make([]string, 0, len(m.templates)), most: MaxTopics - len(m.derived)}
	for _, t := range m.templates {
		if err := topics.addAll(t, values); err != nil {
			return nil, &RequestError{Procedure: m.Procedure, Template: t.String(), Err: err}
		}
	}
	return topics.list, nil
}

// RequestError says that a request's topics can't be spelled: one is not valid
// (Err is then a *freshet.TopicError), or there are more than MaxTopics. Its
// text may be shown to the caller.
type RequestError struct {
	Procedure, Template string
	Err                 error
}

func (e *RequestError) Error() string {
	return fmt.Sprintf("%s: topics %q: %v", e.Procedure, e.Template, e.Err)
}

func (e *RequestError) Unwrap() error { return e.Err }

// topicList gathers distinct topics.
type topicList struct {
	list []string
	most int
	seen map[string]struct{} // of a long list; in a short one, looking is faster
}

// addAll adds the topics for every combination of values: a list for each field,
// of one value unless it is repeated.
func (l *topicList) addAll(t *template, values [][]string) error {
	combinations := 1
	for _, ref := range t.refs {
		combinations *= len(values[ref])
		if combinations == 0 {
			return nil
		}
		// Before any is written, so that a small request can't ask for much work.
		if combinations > MaxTopics {
			return errTooManyTopics
		}
	}
	// A combination's number, written with a digit for each field: the last
	// field of the template varies fastest.
	chosen := make([]string, len(values))
	for n := range combinations {
		for _, ref := range slices.Backward(t.refs) {
			chosen[ref] = values[ref][n%len(values[ref])]
			n /= len(values[ref])
		}
		b, _ := appendTopic(nil, t, chosen) // no value is empty
		topic := string(b)
		if err := t.check(topic); err != nil {
			return err
		}
		if err := l.add(topic); err != nil {
			return err
		}
	}
	return nil
}

// add adds what is a topic.
func (l *topicList) add(topic string) error {
	const short = 16
	switch {
	case len(l.list) < short:
		if slices.Contains(l.list, topic) {
			return nil
		}
	case l.seen == nil:
		l.seen = make(map[string]struct{})
		for _, t := range l.list {
			l.seen[t] = struct{}{}
		}
		fallthrough
	default:
		if _, ok := l.seen[topic]; ok {
			return nil
		}
		l.seen[topic] = struct{}{}
	}
	if len(l.list) == l.most {
		return fmt.Errorf("more than %d topics", l.most)
	}
	l.list = append(l.list, topic)
	return nil
}

var errTooManyTopics = fmt.Errorf("more than %d topics", MaxTopics)
