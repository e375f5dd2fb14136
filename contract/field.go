package contract

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// field is a request or response field that templates use: its dotted path, resolved
// once. Or a claim of the caller.
type field struct {
	path  string
	claim string // the name of the claim; empty: a field, of steps
	steps []protoreflect.FieldDescriptor
	kind  kind
}

// resolveField looks a dotted path up; the reason says in whole words why it
// leads nowhere that a template can use.
func resolveField(md protoreflect.MessageDescriptor, path string) (f *field, missing bool, reason string) {
	f = &field{path: path}
	if claim, ok := strings.CutPrefix(path, claimPrefix); ok {
		f.claim = claim // of whatever type the caller has it
		return f, false, ""
	}
	names := strings.Split(path, ".")
	for i, name := range names {
		fd := md.Fields().ByName(protoreflect.Name(name))
		if fd == nil {
			if of := md.Oneofs().ByName(protoreflect.Name(name)); of != nil && !of.IsSynthetic() {
				return nil, true, fmt.Sprintf("%q is a oneof of %s, and no field; its members are %s", name, md.FullName(), fieldNames(of.Fields()))
			}
			reason = fmt.Sprintf("no field %q in %s; %s", name, md.FullName(), fieldList(md))
			if path+"." == claimPrefix {
				reason += "; a claim of the caller is {principal.CLAIM}"
			}
			return nil, true, reason
		}
		f.steps = append(f.steps, fd)
		if fd.IsMap() {
			return nil, false, fmt.Sprintf("field %s is a map, and its entries have no order; use a repeated field", fd.FullName())
		}
		if i == len(names)-1 {
			break
		}
		if fd.Message() == nil {
			return nil, true, fmt.Sprintf("field %s is of type %s and has no field %q", fd.FullName(), fd.Kind(), names[i+1])
		}
		md = fd.Message()
	}
	last := f.steps[len(f.steps)-1]
	switch last.Kind() {
	case protoreflect.StringKind:
		f.kind = kindText
	case protoreflect.BoolKind:
		f.kind = kindBool
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind,
		protoreflect.Uint32Kind, protoreflect.Fixed32Kind,
		protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind,
		protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		f.kind = kindInt
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return nil, false, fmt.Sprintf("field %s is a message; name one field of %s: %s",
			last.FullName(), last.Message().FullName(), fieldList(last.Message()))
	case protoreflect.EnumKind:
		return nil, false, fmt.Sprintf("field %s is an enum, whose column may hold its name or its number; use a string or an integer", last.FullName())
	default:
		return nil, false, fmt.Sprintf("field %s is of type %s; templates take string, bool and integers", last.FullName(), last.Kind())
	}
	return f, false, ""
}

func fieldList(md protoreflect.MessageDescriptor) string {
	fields := md.Fields()
	if fields.Len() == 0 {
		return "it has no fields"
	}
	return "fields are " + fieldNames(fields)
}

func fieldNames(fields protoreflect.FieldDescriptors) string {
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = string(fields.Get(i).Name())
	}
	return strings.Join(names, ", ")
}

// appendValues appends the texts of the field's values in m: none if it is
// unset, several if it is repeated.
func (f *field) appendValues(dst []string, m protoreflect.Message) []string {
	return f.walk(dst, f.steps, m)
}

func (f *field) walk(dst []string, steps []protoreflect.FieldDescriptor, m protoreflect.Message) []string {
	fd := steps[0]
	if fd.IsList() {
		list := m.Get(fd).List()
		for i := range list.Len() {
			dst = f.take(dst, steps[1:], list.Get(i))
		}
		return dst
	}
	if fd.HasPresence() && !m.Has(fd) {
		return dst // NULL
	}
	return f.take(dst, steps[1:], m.Get(fd))
}

func (f *field) take(dst []string, steps []protoreflect.FieldDescriptor, v protoreflect.Value) []string {
	if len(steps) > 0 {
		return f.walk(dst, steps, v.Message())
	}
	// Value.String writes integers in decimal, bools as true and false.
	if s := v.String(); s != "" {
		dst = append(dst, s)
	}
	return dst
}
