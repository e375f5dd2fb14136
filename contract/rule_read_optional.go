package contract

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/internal/presence"
)

// readOptional: no field that its proto declares to be left out takes all topics of a
// read with it. Such a request is answered, and nothing would ever tell that its answer
// has changed. A string without `optional` may be empty as well, and a message unset, but
// there nobody says that it is meant to be: nearly all reads are so, and a request decides.
var readOptional = rule{"read-optional", func(s *schema, report report) {
	for _, d := range s.methods {
		name, f := d.withoutWhich()
		if name == "" {
			continue
		}
		which, instead := "optional", "drop `optional`, or say that it is required"
		switch presence.AbsenceOf(f) {
		case presence.Member:
			which = fmt.Sprintf("a member of oneof %s", f.ContainingOneof().Name())
			instead = "give the other members topics as well, or take it out of the oneof"
		case presence.Wrapped:
			which, instead = "wrapped to be left out", "have the field unwrapped, or say that it is required"
		}
		report(&d.element, d.atReads(), "without %s, which is %s, a request has no topics, and nothing would tell that its answer changes; add a topic without it, or %s",
			name, which, instead)
	}
}}

// withoutWhich returns the path that all templates over the request take and that may be
// left out, and which of its fields may be; empty: there is none, or it can't be told.
func (d *methodDecl) withoutWhich() (name string, left protoreflect.FieldDescriptor) {
	var common map[string]protoreflect.FieldDescriptor // what all templates so far take
	for _, t := range d.templates {
		if t.option == responseTopics {
			continue // what the answer names comes on top of what the request does
		}
		if d.reads == nil || t.parsed == nil {
			return "", nil
		}
		taken := make(map[string]protoreflect.FieldDescriptor)
		for _, path := range t.parsed.fields {
			f, _, _ := resolveField(d.desc.Input(), path)
			if f == nil || common != nil && common[path] == nil {
				continue
			}
			if left := f.mayBeLeft(); left != nil {
				taken[path] = left
			}
		}
		common = taken
	}
	for path, f := range common {
		if name == "" || path < name {
			name, left = path, f
		}
	}
	return name, left
}

// mayBeLeft returns the field, or the message on the way to it, that is declared to be
// left out; nil: none is.
func (f *field) mayBeLeft() protoreflect.FieldDescriptor {
	for _, step := range f.steps {
		if presence.AbsenceOf(step) != presence.Undeclared {
			return step
		}
	}
	return nil
}
