// Package presence says of fields of a request whether they may be left out. The rules of a
// contract ask it, and so does who proposes one.
package presence

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Absence is what declares that a field may be left out.
type Absence int

// What declares it. A field may be empty, or a message unset, without any of these: but
// there nobody says that it is meant to be.
const (
	Undeclared Absence = iota
	Optional           // proto3's `optional`, which is there for nothing else; proto2 has it on every field
	Member             // of a oneof: a request has another one, or none
	Wrapped            // in one of google/protobuf/wrappers.proto, which are there for nothing else
)

// AbsenceOf says what declares that a field may be left out, if it isn't refused all the
// same.
func AbsenceOf(fd protoreflect.FieldDescriptor) Absence {
	of := fd.ContainingOneof()
	switch {
	case IsRequired(fd):
		return Undeclared
	case fd.HasOptionalKeyword() && fd.ParentFile().Syntax() == protoreflect.Proto3:
		return Optional
	case of != nil && !of.IsSynthetic():
		return Member
	case fd.Message() != nil && !fd.IsList() && fd.Message().ParentFile().Path() == "google/protobuf/wrappers.proto":
		return Wrapped
	default:
		return Undeclared
	}
}

// Numbers of options of fields that say that a request without them is refused. They are
// read off the bytes, since a program may not have their code.
const (
	fieldBehavior         = 1052 // google.api.field_behavior, repeated
	fieldBehaviorRequired = 2
	fieldRules            = 1159 // buf.validate.field
	fieldRulesRequired    = 25
)

// IsRequired reports whether a field says that a request without it is refused: by
// protovalidate's `required`, or as AIP-203 has it.
func IsRequired(fd protoreflect.FieldDescriptor) (required bool) {
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
