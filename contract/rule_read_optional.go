package contract

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// readOptional: no field that its proto declares `optional` takes all topics of a
// read with it. Such a request is answered, and nothing would ever tell that its answer
// has changed. A string without `optional` may be empty as well, but there nobody says
// that it is meant to be: nearly all reads are so, and a request decides.
var readOptional = rule{"read-optional", func(s *schema, report report) {
	for _, d := range s.methods {
		if name := d.withoutWhich(); name != "" {
			report(&d.element, d.atReads(), "without %s, which is optional, a request has no topics, and nothing would tell that its answer changes; add a topic without it, or drop `optional`, or say that it is required",
				name)
		}
	}
}}

// withoutWhich returns the field that is optional and that all templates over the
// request take; empty: there is none, or it can't be told.
func (d *methodDecl) withoutWhich() (name string) {
	var common map[string]bool // optional fields that all templates so far take
	for _, t := range d.templates {
		if t.option == responseTopics {
			continue // what the answer names comes on top of what the request does
		}
		if d.reads == nil || t.parsed == nil {
			return ""
		}
		taken := make(map[string]bool)
		for _, path := range t.parsed.fields {
			if f, _, _ := resolveField(d.desc.Input(), path); f != nil && f.isOptional() && (common == nil || common[path]) {
				taken[path] = true
			}
		}
		common = taken
	}
	for path := range common {
		if name == "" || path < name {
			name = path
		}
	}
	return name
}

// isOptional reports whether the field, or a message on the way to it, is declared to be
// left out: by proto3's `optional`, which is there for nothing else. Elsewhere that word
// is on every field.
func (f *field) isOptional() bool {
	for _, fd := range f.steps {
		if fd.HasOptionalKeyword() && fd.ParentFile().Syntax() == protoreflect.Proto3 && !isRequired(fd) {
			return true
		}
	}
	return false
}

// Numbers of options of fields that say that a request without them is refused. They are
// read off the bytes, since a program may not have their code.
const (
	fieldBehavior         = 1052 // google.api.field_behavior, repeated
	fieldBehaviorRequired = 2
	fieldRules            = 1159 // buf.validate.field
	fieldRulesRequired    = 25
)

// isRequired reports whether a field is to be set in spite of its `optional`.
func isRequired(fd protoreflect.FieldDescriptor) (required bool) {
	options, err := proto.MarshalOptions{AllowPartial: true}.Marshal(fd.Options())
	if err != nil {
		return false // a descriptor that its own runtime refuses; other rules meet it, too
	}
	eachValue(options, func(num protowire.Number, value uint64, bytes []byte) {
		switch num {
		case fieldBehavior:
			required = required || value == fieldBehaviorRequired
			for len(bytes) > 0 { // packed
				v, n := protowire.ConsumeVarint(bytes)
				if n < 0 {
					return
				}
				required = required || v == fieldBehaviorRequired
				bytes = bytes[n:]
			}
		case fieldRules:
			eachValue(bytes, func(num protowire.Number, value uint64, _ []byte) {
				required = required || num == fieldRulesRequired && value != 0
			})
		}
	})
	return required
}

// eachValue visits the fields of a message on the wire that are varints or have bytes.
func eachValue(b []byte, visit func(num protowire.Number, value uint64, bytes []byte)) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if size < 0 {
			return
		}
		switch typ {
		case protowire.VarintType:
			value, _ := protowire.ConsumeVarint(b[n:])
			visit(num, value, nil)
		case protowire.BytesType:
			bytes, _ := protowire.ConsumeBytes(b[n:])
			visit(num, 0, bytes)
		}
		b = b[n+size:]
	}
}
