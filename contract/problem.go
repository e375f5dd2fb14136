package contract

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Problem is one declaration that is wrong.
type Problem struct {
	Rule    string // such as "field-exists"
	Element string // full protobuf name of the message or method
	Text    string // what is wrong with it, and often what would be right

	file protoreflect.FileDescriptor
	path protoreflect.SourcePath
}

func (p *Problem) Error() string { return p.Element + ": " + p.Text }

// rule is one check over a schema. Each has a file of its own, rule_*.go, and
// examples in testdata/rules.
type rule struct {
	name  string
	check func(*schema, report)
}

// report takes a problem of an element, at a path within its file.
type report func(e *element, at protoreflect.SourcePath, format string, args ...any)

// aloneRules judge each declaration by itself.
var aloneRules = []rule{
	optionKnown,
	tableName,
	topicsRequired,
	templateSyntax,
	templateOnce,
	columnName,
	methodDeclared,
	methodUnary,
	methodSideEffects,
	fieldExists,
	fieldType,
	responseField,
	principalClaim,
	principalShared,
}

// rules are all: also what declarations have to do with each other, and what is no
// matter of a client's, which looks at the requests that it has.
var rules = append(slices.Clip(aloneRules), readEmitted, responseWildcard, readOptional)

// check runs rules and returns the problems in the order of the source.
func (s *schema) check(rules []rule) []*Problem {
	var found []*Problem
	for _, r := range rules {
		r.check(s, func(e *element, at protoreflect.SourcePath, format string, args ...any) {
			found = append(found, &Problem{
				Rule:    r.name,
				Element: string(e.on.FullName()),
				Text:    fmt.Sprintf(format, args...),
				file:    e.on.ParentFile(),
				path:    at,
			})
		})
	}
	slices.SortStableFunc(found, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.file.Path(), b.file.Path()), slices.Compare(a.path, b.path))
	})
	// A field that stands twice in a template is reported once.
	return slices.CompactFunc(found, func(a, b *Problem) bool {
		return a.Rule == b.Rule && a.file == b.file && slices.Equal(a.path, b.path) && a.Text == b.Text
	})
}

func joinProblems(problems []*Problem) error {
	list := make([]error, len(problems))
	for i, p := range problems {
		list[i] = p
	}
	return errors.Join(list...)
}

// describe names a template in a problem's text.
func (t *templateDecl) describe() string {
	return fmt.Sprintf("%s template %q", t.option, t.text)
}
