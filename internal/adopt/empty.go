package adopt

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/freshet-dev/freshet/internal/presence"
)

// createVerbs begin the names of methods that make rows.
var createVerbs = []string{"Create", "BatchCreate", "Insert", "Add"}

func creates(md protoreflect.MethodDescriptor) bool {
	return slices.ContainsFunc(createVerbs, func(verb string) bool { return strings.HasPrefix(string(md.Name()), verb) })
}

// withoutMade takes out the fields whose columns the database fills when it makes a row:
// a request doesn't know them yet.
func (s *source) withoutMade(fields []field, omitted []omission) ([]field, []omission) {
	var known []field
	for _, f := range fields {
		if c := s.table.column(f.column); c.Made != "" {
			omitted = append(omitted, omission{path: f.path, of: c, why: isMade})
		} else {
			known = append(known, f)
		}
	}
	return known, omitted
}

// isOne reports whether an answer is one row: a request that doesn't say which is
// answered with none.
func isOne(md protoreflect.MessageDescriptor, s *source) bool {
	if md.FullName() == s.message.FullName() {
		return true
	}
	for i := range md.Fields().Len() {
		if f := md.Fields().Get(i); f.Message() != nil && !f.IsList() && f.Message().FullName() == s.message.FullName() {
			return true
		}
	}
	return false
}

// unfiltered says of a list whose topic goes by fields that a request may leave out what
// becomes of such a request: a text is empty then, and has no topic; a number or a boolean has
// the value that it has without being said. Only the handler's author knows whether there is one.
func (s *source) unfiltered(md protoreflect.MethodDescriptor, fields []string) (lines []string) {
	refused := refusedEmpty(md.Input())
	left := make(map[string][]string) // by what they are then
	for _, path := range fields {
		f := md.Input().Fields().ByName(protoreflect.Name(path))
		if refused[path] || presence.IsRequired(f) {
			continue
		}
		is := "may be empty, for all that the proto says"
		switch {
		case f.Kind() == protoreflect.BoolKind:
			is = unsaidBool
		case isInteger(f.Kind()):
			is = "is 0 in a request that doesn't say it"
		}
		left[is] = append(left[is], path)
	}
	for _, is := range slices.Sorted(maps.Keys(left)) {
		refuse := ", or refuse the request, by protovalidate"
		if is == unsaidBool { // it may mean it as well
			refuse = ""
		}
		lines = append(lines, fmt.Sprintf("%s %s. If such a request is answered with all, no topic tells that the answer changes: have the topic be %q then, here and in the source%s (docs/library.md, A request without topics)", strings.Join(left[is], " or "), is, cmp.Or(s.whole(), s.table.word()), refuse))
	}
	return lines
}

const unsaidBool = "is false in a request that doesn't say it"

// refusedEmpty returns the fields for whose want protovalidate refuses an empty request.
func refusedEmpty(md protoreflect.MessageDescriptor) map[string]bool {
	var invalid *protovalidate.ValidationError
	if !errors.As(protovalidate.Validate(dynamicpb.NewMessage(md)), &invalid) {
		return nil // it is allowed; or its rules can't be compiled, so nothing is refused
	}
	refused := make(map[string]bool)
	for _, v := range invalid.Violations {
		if path := v.Proto.GetField().GetElements(); len(path) > 0 {
			refused[path[0].GetFieldName()] = true
		}
	}
	return refused
}
