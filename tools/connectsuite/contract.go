package connectsuite

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
)

// declared is the suite's service as it would be if its unary methods had a contract: one
// reads, whose answers aren't kept since they say what the request's header was; the other
// writes. So they pass all that reads and mutations pass. The rest has none.
func declared() (protoreflect.ServiceDescriptor, error) {
	file := protodesc.ToFileDescriptorProto(descriptor().ParentFile())
	file.Dependency = append(file.Dependency, freshetv1.File_freshet_v1_options_proto.Path())
	source := &descriptorpb.MessageOptions{}
	proto.SetExtension(source, freshetv1.E_Source, &freshetv1.Source{Table: "suite", Topics: []string{"suite"}})
	file.MessageType = append(file.MessageType, &descriptorpb.DescriptorProto{Name: new("Suite"), Options: source})
	service := file.GetService()[0]
	service.Method = slices.DeleteFunc(service.Method, func(m *descriptorpb.MethodDescriptorProto) bool {
		return m.GetName() != "Unary" && m.GetName() != "IdempotentUnary"
	})
	for _, m := range service.Method {
		options := &descriptorpb.MethodOptions{}
		if m.GetName() == "IdempotentUnary" {
			options.IdempotencyLevel = descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()
			proto.SetExtension(options, freshetv1.E_Reads, &freshetv1.Reads{Topics: []string{"suite"}, Uncached: true})
		} else {
			proto.SetExtension(options, freshetv1.E_Writes, &freshetv1.Writes{Topics: []string{"suite"}})
		}
		m.Options = options
	}
	made, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		return nil, err
	}
	return made.Services().Get(0), nil
}
