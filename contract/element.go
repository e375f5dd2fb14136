package contract

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
)

// optionTypes resolves the options of freshet.v1 and nothing else.
var optionTypes = func() *protoregistry.Types {
	types := new(protoregistry.Types)
	for _, xt := range []protoreflect.ExtensionType{freshetv1.E_Source, freshetv1.E_Reads, freshetv1.E_Writes} {
		if err := types.RegisterExtension(xt); err != nil {
			panic(err) // two extensions with one name or number: a mistake in options.proto
		}
	}
	return types
}()

// reread copies options into the generated type with freshet.v1 resolved.
// Descriptors that do not come from generated code hold them as unknown fields,
// or as dynamic messages which proto.GetExtension panics on.
func reread(from, into proto.Message) {
	b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(from)
	if err == nil {
		err = proto.UnmarshalOptions{AllowPartial: true, Resolver: optionTypes}.Unmarshal(b, into)
	}
	if err != nil {
		panic(err) // a descriptor that its own runtime refuses
	}
}

// newElement describes the declaration on d, whose options have the given field
// number in its descriptor. It notes options in freshet.v1's range of numbers
// that this version does not know.
func newElement(d protoreflect.Descriptor, field int32, options proto.Message) element {
	e := element{on: d, at: append(sourcePath(d), field)}
	for b := options.ProtoReflect().GetUnknown(); len(b) > 0; {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 {
			break // not reached: unmarshalled above
		}
		if num >= firstExtension && num <= lastExtension {
			e.unknown = append(e.unknown, num)
		}
		b = b[n:]
	}
	return e
}

// addUnknown notes the fields of an option that this version does not know.
func (e *element) addUnknown(option proto.Message) {
	for b := option.ProtoReflect().GetUnknown(); len(b) > 0; {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 {
			break // not reached: unmarshalled above
		}
		e.unknown = append(e.unknown, num)
		b = b[n:]
	}
}

// extension returns the path of one of the element's options.
func (e *element) extension(xt protoreflect.ExtensionType) protoreflect.SourcePath {
	return append(slices.Clone(e.at), int32(xt.TypeDescriptor().Number()))
}

// parse parses the templates of an option's field.
func (e *element) parse(xt protoreflect.ExtensionType, field protoreflect.Name, texts []string) []*templateDecl {
	option := xt.TypeDescriptor()
	topics := option.Message().Fields().ByName(field)
	list := make([]*templateDecl, len(texts))
	for i, text := range texts {
		d := &templateDecl{option: string(option.Name()), text: text}
		if field == responseTopics {
			d.option = responseTopics
		}
		d.at = append(e.extension(xt), int32(topics.Number()), int32(i))
		d.parsed, d.err = parseTemplate(text)
		list[i] = d
	}
	return list
}

// sourcePath returns the path of a message, service or method in its file's
// descriptor (google.protobuf.SourceCodeInfo.Location.path).
func sourcePath(d protoreflect.Descriptor) protoreflect.SourcePath {
	var field int32
	switch d.Parent().(type) {
	case protoreflect.MessageDescriptor:
		field = 3 // DescriptorProto.nested_type
	case protoreflect.ServiceDescriptor:
		field = 2 // ServiceDescriptorProto.method
	default: // the file
		field = 4 // FileDescriptorProto.message_type
		if _, service := d.(protoreflect.ServiceDescriptor); service {
			field = 6 // FileDescriptorProto.service
		}
		return protoreflect.SourcePath{field, int32(d.Index())}
	}
	return append(sourcePath(d.Parent()), field, int32(d.Index()))
}
