package contract

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Program is a compiled contract. It is immutable, and safe for concurrent use.
type Program struct {
	sources []*Source
	told    []*Source
	methods []*Method

	source map[[2]string]*Source
	method map[string]*Method
	hash   string
}

// Compile compiles the contract of some services: their methods, and the
// sources among the messages of their files and all their imports.
//
// Every service handed in is in the contract, and each of its methods must say
// what it reads or writes: a method that says nothing could be neither stamped
// nor granted. Services without a contract (health, reflection,
// freshet.v1.InvalidationService) are not handed in.
//
// The error joins a *Problem for each declaration that is wrong, all of them.
func Compile(services ...protoreflect.ServiceDescriptor) (*Program, error) {
	s := collect(services, nil)
	if problems := s.check(rules); len(problems) > 0 {
		return nil, joinProblems(problems)
	}
	return s.program(), nil
}

// CompileMethod compiles one method by itself: for a client, which wants to know
// what topics a request has, and not which tables emit them. Its Sources are nil,
// and that each of its topics has a source is not checked.
//
// The error joins a *Problem for each declaration of the method that is wrong;
// one that says neither what it reads nor what it writes is.
func CompileMethod(md protoreflect.MethodDescriptor) (*Method, error) {
	s := new(schema)
	s.addMethod(md)
	if problems := s.check(aloneRules); len(problems) > 0 {
		return nil, joinProblems(problems)
	}
	return s.methods[0].compile(), nil
}

// program builds the Program of a schema without problems.
func (s *schema) program() *Program {
	p := &Program{source: make(map[[2]string]*Source), method: make(map[string]*Method)}
	told := make(map[[2]string]*Source)
	for _, d := range s.sources {
		known, list := p.source, &p.sources
		if d.option.GetTold() {
			known, list = told, &p.told
		}
		key := [2]string{d.schema, d.table}
		src := known[key]
		if src == nil {
			src = &Source{Schema: d.schema, Table: d.table}
			known[key] = src
			*list = append(*list, src)
		}
		for _, t := range d.templates {
			if !slices.Contains(src.Templates(), t.text) {
				src.templates = append(src.templates, t.parsed)
			}
		}
	}
	for _, list := range [][]*Source{p.sources, p.told} {
		slices.SortFunc(list, func(a, b *Source) int {
			return slices.Compare([]string{a.Schema, a.Table}, []string{b.Schema, b.Table})
		})
		for _, src := range list {
			src.seal()
		}
	}
	for _, d := range s.methods {
		m := d.compile()
		if m.Kind == Read {
			m.sources = slices.DeleteFunc(slices.Concat(p.sources, p.told), func(src *Source) bool {
				return !m.dependsOn(src)
			})
		}
		p.method[m.Procedure] = m
		p.methods = append(p.methods, m)
	}
	slices.SortFunc(p.methods, func(a, b *Method) int { return strings.Compare(a.Procedure, b.Procedure) })
	p.hash = p.sum()
	return p
}

// seal computes what follows from the templates.
func (s *Source) seal() {
	for _, t := range s.templates {
		s.columns = append(s.columns, t.fields...)
		if floor := t.floor(); !slices.Contains(s.floors, floor) {
			s.floors = append(s.floors, floor)
		}
	}
	slices.Sort(s.columns)
	s.columns = slices.Compact(s.columns)
	for _, t := range s.templates {
		t.bind(func(column string) int { return slices.Index(s.columns, column) })
	}
}

// compile builds the Method of a declaration without problems.
func (d *methodDecl) compile() *Method {
	m := &Method{
		Procedure: "/" + string(d.desc.Parent().FullName()) + "/" + string(d.desc.Name()),
		Kind:      Write,
		input:     d.desc.Input(),
		output:    d.desc.Output(),
		claims:    d.claims(),
	}
	if d.reads != nil {
		m.Kind, m.Shared, m.Uncached = Read, d.reads.GetShared(), d.reads.GetUncached()
	}
	for _, t := range d.templates {
		if t.option == responseTopics {
			m.derived = append(m.derived, newDerived(t.parsed, d.desc.Output()))
			continue
		}
		t.parsed.bind(func(path string) int {
			for i, f := range m.fields {
				if f.path == path {
					return i
				}
			}
			f, _, _ := resolveField(m.input, path)
			m.fields = append(m.fields, f)
			return len(m.fields) - 1
		})
		m.templates = append(m.templates, t.parsed)
	}
	return m
}

// dependsOn reports whether src emits a topic of the method.
func (m *Method) dependsOn(src *Source) bool {
	for _, read := range m.templates {
		if src.emits(read.tokens(m.kinds(read))) {
			return true
		}
	}
	return slices.ContainsFunc(m.derived, func(d *derived) bool { return src.emits(d.tokens()) })
}

// emits reports whether a topic of the source has these tokens.
func (s *Source) emits(tokens []token) bool {
	return slices.ContainsFunc(s.templates, func(t *template) bool { return overlap(tokens, t.tokens(nil)) })
}

func (m *Method) kinds(t *template) []kind {
	list := make([]kind, len(t.refs))
	for i, ref := range t.refs {
		list[i] = m.fields[ref].kind
	}
	return list
}

// Sources returns all sources that are captured, sorted by schema and table.
func (p *Program) Sources() []*Source { return p.sources }

// Told returns the sources whose topics are told by whoever changes them, sorted in the
// same way. Their columns are names and no more: nothing looks at rows.
func (p *Program) Told() []*Source { return p.told }

// Emissions returns the templates of all sources.
func (p *Program) Emissions() (all []Emission) {
	for _, s := range p.sources {
		for _, t := range s.templates {
			all = append(all, Emission{Source: s.String(), Template: t.String(), Floor: t.floor()})
		}
	}
	return all
}

// Source returns the source of a table that is captured; nil: there is none.
func (p *Program) Source(schema, table string) *Source { return p.source[[2]string{schema, table}] }

// Methods returns all methods, sorted by procedure.
func (p *Program) Methods() []*Method { return p.methods }

// Method returns the method of a procedure; nil: it is not in the contract.
func (p *Program) Method(procedure string) *Method { return p.method[procedure] }

// Hash names the contract, in 32 hex digits: servers and clients with the same
// hash agree on every topic. The order of declarations does not count.
func (p *Program) Hash() string { return p.hash }

// sum hashes a canonical text of the contract. Its first line is the version of
// that text and of the topics' grammar.
func (p *Program) sum() string {
	lines := []string{}
	for _, s := range p.sources {
		for _, t := range s.Templates() {
			lines = append(lines, fmt.Sprintf("source %q %q %q", s.Schema, s.Table, t))
		}
	}
	for _, s := range p.told {
		for _, t := range s.Templates() {
			lines = append(lines, fmt.Sprintf("told %q %q %q", s.Schema, s.Table, t))
		}
	}
	for _, m := range p.methods {
		lines = append(lines, fmt.Sprintf("method %q %s shared=%t uncached=%t", m.Procedure, m.Kind, m.Shared, m.Uncached))
		for _, t := range m.Templates() {
			lines = append(lines, fmt.Sprintf("topics %q %q", m.Procedure, t))
		}
		for _, d := range m.derived {
			lines = append(lines, fmt.Sprintf("response topics %q %q", m.Procedure, d.template))
			for _, f := range d.fields {
				lines = append(lines, fmt.Sprintf("response field %q %q %s", m.Procedure, f.path, f.kind))
			}
		}
		for _, f := range m.fields {
			lines = append(lines, fmt.Sprintf("field %q %q %s", m.Procedure, f.path, f.kind))
		}
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte("freshet contract 2\n" + strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:16])
}
