package testkit

import (
	"path"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

// Unshared is the message service's contract as a team with row security would have
// it: none of its reads is `shared`.
func Unshared(t testing.TB) protoreflect.ServiceDescriptor {
	t.Helper()
	return Declared(t, MessageService(), func(_ string, reads *freshetv1.Reads) { reads.Shared = false })
}

// MessageService is the message service's contract.
func MessageService() protoreflect.ServiceDescriptor {
	return messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService")
}

// Declared is a service's contract with other declarations of its reads.
func Declared(t testing.TB, original protoreflect.ServiceDescriptor, change func(method string, reads *freshetv1.Reads)) protoreflect.ServiceDescriptor {
	t.Helper()
	service := protodesc.ToServiceDescriptorProto(original)
	for _, method := range service.GetMethod() {
		if reads, _ := proto.GetExtension(method.GetOptions(), freshetv1.E_Reads).(*freshetv1.Reads); reads != nil {
			reads = proto.CloneOf(reads)
			change(method.GetName(), reads)
			options := proto.CloneOf(method.GetOptions())
			proto.SetExtension(options, freshetv1.E_Reads, reads)
			method.Options = options
		}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new(path.Dir(original.ParentFile().Path()) + "/declared.proto"), Package: new(string(original.ParentFile().Package())), Syntax: new("proto3"),
		Dependency: []string{original.ParentFile().Path(), "freshet/v1/options.proto"},
		Service:    []*descriptorpb.ServiceDescriptorProto{service},
	}, protoregistry.GlobalFiles)
	require.NoError(t, err)
	return file.Services().Get(0)
}
