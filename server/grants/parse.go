package grants

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a file.
const (
	maxFileBytes = 1 << 20
	maxRules     = 1000
	maxPatterns  = 10_000
	maxProblems  = 20 // that are told
)

// place is where something stands.
type place struct {
	file string
	line int // from 1
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// Problem is one thing that is wrong in a file.
type Problem struct {
	File string
	Line int // from 1; 0: it is about the file as a whole
	Rule int // from 1; 0: it is about none
	Text string
}

func (p Problem) String() string {
	at := p.File
	if p.Line > 0 {
		at = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	if p.Rule > 0 {
		at += fmt.Sprintf(": rule %d", p.Rule)
	}
	return at + ": " + p.Text
}

// FileError is all that is wrong in a file, at least one thing.
type FileError struct{ Problems []Problem }

func (e *FileError) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for i, p := range e.Problems {
		if i == maxProblems {
			lines = append(lines, fmt.Sprintf("… and %d more", len(e.Problems)-i))
			break
		}
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// rule is a rule of the file; `anonymous` is one, too.
type rule struct {
	at          place
	number      int        // from 1; 0: anonymous
	when        *condition // nil: always
	expression  string
	read, write []*pattern
	admin       bool
}

func (r *rule) name() string {
	if r.number == 0 {
		return "anonymous"
	}
	return "rule " + strconv.Itoa(r.number)
}

// Parse compiles a file's text; name is what errors and explanations call it. The
// error is a *FileError.
func Parse(name string, text []byte) (*Set, error) {
	f := &parser{set: newSet(), file: name}
	f.document(text)
	if len(f.problems) > 0 {
		return nil, &FileError{f.problems}
	}
	return f.set, nil
}

// parser walks the nodes of a file, since only they know their lines.
type parser struct {
	set      *Set
	file     string
	rule     int // that is being parsed
	patterns int
	problems []Problem
}

func (f *parser) failf(n *yaml.Node, format string, args ...any) {
	p := Problem{File: f.file, Rule: f.rule, Text: fmt.Sprintf(format, args...)}
	if n != nil {
		p.Line = n.Line
	}
	f.problems = append(f.problems, p)
}

// lineOf finds the line in an error of the YAML library.
var lineOf = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)$`)

func (f *parser) document(text []byte) {
	if len(text) > maxFileBytes {
		f.failf(nil, "it has more than %d bytes: let patterns with claims do the work of many", maxFileBytes)
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF):
		f.failf(nil, "it is empty; if nobody may do anything, write `rules: []`")
		return
	case err != nil:
		f.malformed(err)
		return
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		f.failf(nil, "it goes on after the first document: leave out what follows `---`")
		return
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		f.failf(root, "it is empty; if nobody may do anything, write `rules: []`")
		return
	}
	f.mapping(root, "the file", map[string]func(*yaml.Node){
		"anonymous":             f.anonymous,
		"rules":                 f.rules,
		"authorization_details": f.details,
	}, "anonymous", "rules", "authorization_details")
}

func (f *parser) malformed(err error) {
	parts := lineOf.FindStringSubmatch(oneLine(err.Error()))
	p := Problem{File: f.file, Text: "it is not YAML: " + parts[2]}
	p.Line, _ = strconv.Atoi(parts[1]) // 0: the library doesn't know it
	f.problems = append(f.problems, p)
}

// mapping hands each member to its function. known are the names in the order in
// which people are told of them.
func (f *parser) mapping(n *yaml.Node, what string, members map[string]func(*yaml.Node), known ...string) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		f.failf(n, "%s takes a mapping of %s", what, strings.Join(known, ", "))
		return
	}
	seen := make(map[string]bool, len(known))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], n.Content[i+1]
		member := members[key.Value]
		switch {
		case member == nil:
			f.failf(key, "%s has no %q: it takes %s", what, clip(key.Value), strings.Join(known, ", "))
		case seen[key.Value]:
			f.failf(key, "%q stands there twice", key.Value)
		default:
			seen[key.Value] = true
			member(v)
		}
	}
}

// resolve follows an alias. Nothing of a file is nested deep enough to go in circles.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func (f *parser) anonymous(n *yaml.Node) {
	r := &rule{at: place{f.file, n.Line}}
	f.mapping(n, "anonymous", map[string]func(*yaml.Node){
		"read":  func(n *yaml.Node) { r.read = f.list(n, "anonymous.read") },
		"write": func(n *yaml.Node) { r.write = f.list(n, "anonymous.write") },
	}, "read", "write")
	for _, list := range [][]*pattern{r.read, r.write} {
		for _, p := range list {
			if len(p.claims) > 0 {
				f.problems = append(f.problems, Problem{File: f.file, Line: p.at.line, Text: fmt.Sprintf(
					"anonymous: pattern %q: who isn't known has no claims; write a rule", p.text)})
			}
		}
	}
	f.set.rules = append([]*rule{r}, f.set.rules...)
}

func (f *parser) rules(n *yaml.Node) {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		f.failf(n, "rules takes a list: begin each rule with -")
		return
	}
	if len(n.Content) > maxRules {
		f.failf(n, "%d rules: at most %d are allowed; let patterns with claims do the work of many", len(n.Content), maxRules)
		return
	}
	for i, node := range n.Content {
		f.rule = i + 1
		f.oneRule(node)
	}
	f.rule = 0
}

func (f *parser) oneRule(n *yaml.Node) {
	r := &rule{at: place{f.file, n.Line}, number: f.rule}
	f.mapping(n, "a rule", map[string]func(*yaml.Node){
		"when": func(n *yaml.Node) {
			n = resolve(n)
			if n.Kind != yaml.ScalarNode || strings.TrimSpace(n.Value) == "" {
				f.failf(n, "when takes an expression in CEL; leave it out if the rule always applies")
				return
			}
			var err error
			r.expression = oneLine(n.Value)
			if r.when, err = newCondition(n.Value); err != nil {
				f.failf(n, "when: %v", err)
			}
		},
		"read":  func(n *yaml.Node) { r.read = f.list(n, "read") },
		"write": func(n *yaml.Node) { r.write = f.list(n, "write") },
		"admin": func(n *yaml.Node) { r.admin = f.flag(n, "admin") },
	}, "when", "read", "write", "admin")
	if resolve(n).Kind == yaml.MappingNode && len(r.read)+len(r.write) == 0 && !r.admin && len(f.problems) == 0 {
		f.failf(n, "it grants nothing: give it patterns of read or write, or admin, or remove it")
	}
	f.set.rules = append(f.set.rules, r)
}

func (f *parser) list(n *yaml.Node, what string) (list []*pattern) {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		f.failf(n, `%s takes a list of patterns, as ["orgs/{org}/**"]`, what)
		return nil
	}
	for _, node := range n.Content {
		at := node.Line
		node = resolve(node)
		if node.Kind != yaml.ScalarNode {
			f.failf(node, `%s: a pattern is a text; put it into quotes, since { and * mean something in YAML`, what)
			continue
		}
		if node.Tag == "!!null" {
			f.failf(node, `%s: there is no pattern here; put it into quotes if that is its name`, what)
			continue
		}
		p, err := parsePattern(node.Value)
		if err != nil {
			f.failf(node, "%s: %v", what, err)
			continue
		}
		p.at = place{f.file, at}
		list = append(list, p)
	}
	if f.patterns += len(n.Content); f.patterns > maxPatterns {
		f.failf(n, "more than %d patterns: let patterns with claims do the work of many", maxPatterns)
		return nil
	}
	return list
}

func (f *parser) details(n *yaml.Node) {
	f.set.takesDetails = f.flag(n, "authorization_details")
}

func (f *parser) flag(n *yaml.Node, what string) bool {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		f.failf(n, "%s takes true or false", what)
		return false
	}
	on, _ := strconv.ParseBool(n.Value)
	return on
}
