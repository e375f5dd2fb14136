package check

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Workload is the service under test, as the checker sees it: rows in places, each
// row bearing a mark of the checker's, its [Cell]. It says which topics tell of
// them, how they are read and written by RPC, and which table holds them. It is
// values only; whoever runs it never changes it.
//
// A service fits if some column of its rows, and of the answers that show them, is
// the client's to choose: a title, a body, a number.
type Workload struct {
	// Topics are those of the service, each of another kind. OfPlace must be among
	// them.
	Topics []Topic
	// Create, Update and Delete are the RPCs that write one row. The zero value: the
	// service has none like it, and the RPC writers do without; without Create there
	// are none.
	Create, Update, Delete Mutation
	// Table holds the rows, for writers by SQL and for what Postgres holds; a view that
	// can be written to (INSTEAD OF triggers), too. The zero value: there can be no
	// Postgres.
	Table Table
	// Told is what topics begin with that the checker tells by SQL, and no row has; empty:
	// freshet.check. For a service whose callers may follow only some.
	Told string
	// ID is the id of a row that the checker makes: the same whenever it is asked, and
	// one that nobody else would take. nil: a UUID.
	ID func(run string, row int) string
}

// Topic is a topic of the service, and the RPC that reads what it names.
type Topic struct {
	Kind Kind
	// Name is its template, as in the contract: {id} is the id of a row, and
	// whatever else stands in braces is the name of a place: of the kind OfCaller a
	// claim, {principal.org}. Both must come out of the service as they went in.
	Name string
	Read Query
	// ByRow, of the kind OfPlace: the topic tells which rows the place has, and no more.
	// What they bear is told by the topic OfRow of each, and so the answer depends on
	// those of the rows that it shows, which the request doesn't name: response_topics
	// of a contract. Read then says which they are: see Page.AddRow.
	ByRow bool
}

// Row is one that an RPC writes.
type Row struct {
	// ID is the row's. To Create it is a proposal.
	ID    string
	Place string
	Cell  Cell
}

// Table is where the rows are. Names are written as Postgres keeps them, without
// quotes.
type Table struct {
	// Name with its schema: public.messages.
	Name string
	// ID, Place and Cell are columns: of any type that has a text form; of text; and
	// of text, or bigint if Numbers is set.
	ID, Place, Cell string
	// Numbers: the cell's column holds Cell.Number, not Cell.String.
	Numbers bool
	// Others are columns that an INSERT must fill, and with what.
	Others map[string]any
}

// service is a workload made ready.
type service struct {
	Workload
	kinds  kinds
	topics [allKinds]*topic
}

type topic struct {
	Topic
	pattern pattern
	notice  Exercise // being told of it
	reading Exercise
}

// prepare refuses a workload that can't be used.
func (w Workload) prepare() (*service, error) {
	s := &service{Workload: w}
	if s.ID == nil {
		s.ID = uuidOf
	}
	for _, t := range w.Topics {
		p, err := parsePattern(t.Name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("workload: topic %q: %w", t.Name, err)
		case t.Kind == ofNobody || t.Kind >= allKinds:
			return nil, fmt.Errorf("workload: topic %q: %d is no kind: set Kind to OfPlace, OfAll, OfItem, OfRow, OfCounts or OfCaller", t.Name, t.Kind)
		case !p.fits(t.Kind):
			return nil, fmt.Errorf("workload: topic %q doesn't name what its kind needs: OfPlace a {place}, OfCaller a {principal.claim}, OfRow an {id}, OfItem both, the others neither", t.Name)
		case s.topics[t.Kind] != nil:
			return nil, fmt.Errorf("workload: topics %q and %q are of one kind: leave one to another workload", s.topics[t.Kind].Name, t.Name)
		case t.Read.open == nil:
			return nil, fmt.Errorf("workload: topic %q: nobody can read it: set Read to a NewQuery", t.Name)
		case t.ByRow && t.Kind != OfPlace:
			return nil, fmt.Errorf("workload: topic %q is ByRow: only one of the kind OfPlace can be", t.Name)
		case t.ByRow:
			s.kinds |= byRow
		}
		s.topics[t.Kind] = &topic{Topic: t, pattern: p, notice: Exercise("notices of " + t.Name), reading: Exercise(t.Read.name)}
		s.kinds |= 1 << t.Kind
	}
	if !s.kinds.has(OfPlace) {
		return nil, errors.New("workload: no topic of the kind OfPlace, which every service needs")
	}
	if s.kinds&byRow != 0 && !s.kinds.has(OfRow) {
		return nil, errors.New("workload: what a place's rows bear has no topic (ByRow): add one of the kind OfRow")
	}
	return s, nil
}

// wide are the topics that whatever change concerns.
func (s *service) wide() []string {
	var topics []string
	if s.kinds.has(OfAll) {
		topics = append(topics, Everything)
	}
	if s.kinds.has(OfCounts) {
		topics = append(topics, Counted)
	}
	return topics
}

// followed is what a request names of the topics that its answer depends on.
func followed(topic string) []string {
	if kindOf(topic) == OfCaller {
		return nil
	}
	return []string{topic}
}

// answerTopics are all that an answer to the read of a topic depends on, as far as a
// client can know.
func (s *service) answerTopics(read *Read) []string {
	topic, cells := read.Topic, read.Cells
	if kindOf(topic) == OfCaller {
		return read.Names
	}
	topics := []string{topic}
	if s.kinds&byRow != 0 && kindOf(topic) == OfPlace {
		for _, cell := range cells {
			topics = append(topics, itemTopic("", cell.Row))
		}
	}
	return topics
}

// madeUp is a topic that is like nobody's row: a server refuses one that only the value
// keeps from being some row's, where a column's type has no such values.
func (s *service) madeUp(place, name string) string {
	for _, kind := range []Kind{OfItem, OfRow} {
		if t := s.topics[kind]; t != nil {
			return t.pattern.format(place, name) + "/x"
		}
	}
	return s.topics[OfPlace].pattern.format(name, "") + "/x"
}

// noticeOf is being told of a topic.
func (s *service) noticeOf(topic string) Exercise {
	if t := s.topics[kindOf(topic)]; t != nil {
		return t.notice
	}
	return "notices of topics that SQL tells"
}

// methodOf is the last part of a procedure's name.
func methodOf(procedure string) string { return path.Base(procedure) }

// pattern is a template taken apart: a value stands between each two literals.
type pattern struct {
	literals []string
	ids      []bool // which of the values are ids of rows; the others are places
	claim    string // of the caller, which the place is; empty: none is
}

func parsePattern(template string) (pattern, error) {
	p := pattern{}
	for rest := template; ; {
		literal, after, more := strings.Cut(rest, "{")
		if len(p.ids) > 0 && more && literal == "" {
			return p, errors.New("two values stand together: nobody can tell where one ends")
		}
		p.literals = append(p.literals, literal)
		if !more {
			break
		}
		name, next, closed := strings.Cut(after, "}")
		if !closed {
			return p, errors.New("a brace isn't closed")
		}
		if claim, ok := strings.CutPrefix(name, "principal."); ok {
			p.claim = claim
		}
		p.ids, rest = append(p.ids, name == "id"), next
	}
	if n := len(p.ids); n > 2 || n == 2 && p.ids[0] == p.ids[1] {
		return p, errors.New("at most one place and one id can be in it")
	}
	return p, nil
}

// fits says that the pattern holds what topics of the kind have in their names.
func (p pattern) fits(kind Kind) bool {
	place, id := slices.Contains(p.ids, false), slices.Contains(p.ids, true)
	return place == (kind == OfPlace || kind == OfItem || kind == OfCaller) && id == (kind == OfRow || kind == OfItem) && (p.claim != "") == (kind == OfCaller)
}

func (p pattern) format(place, id string) string {
	var b strings.Builder
	b.WriteString(p.literals[0])
	for i, isID := range p.ids {
		if isID {
			b.WriteString(id)
		} else {
			b.WriteString(place)
		}
		b.WriteString(p.literals[i+1])
	}
	return b.String()
}

// match takes a topic apart; ok: it is one of the pattern's. A value has no slash.
func (p pattern) match(topic string) (place, id string, ok bool) {
	rest, ok := strings.CutPrefix(topic, p.literals[0])
	for i, isID := range p.ids {
		literal := p.literals[i+1]
		at := strings.Index(rest, literal)
		if i == len(p.ids)-1 {
			at = len(rest) - len(literal)
		}
		if !ok || at < 1 || rest[at:][:len(literal)] != literal || strings.Contains(rest[:at], "/") {
			return "", "", false
		}
		if isID {
			id = rest[:at]
		} else {
			place = rest[:at]
		}
		rest = rest[at+len(literal):]
	}
	return place, id, ok && rest == ""
}
