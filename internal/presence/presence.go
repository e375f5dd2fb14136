// Package presence says of fields of a request whether they may be left out. The rules of a
// contract ask it, and so does who proposes one.
package presence

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// IsOptional reports whether a field is declared to be left out: by proto3's `optional`,
// which is there for nothing else, and not refused all the same. Elsewhere that word is on
// every field.
func IsOptional(fd protoreflect.FieldDescriptor) bool {
	return fd.HasOptionalKeyword() && fd.ParentFile().Syntax() == protoreflect.Proto3 && !IsRequired(fd)
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
