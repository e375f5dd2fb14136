package testkit

import (
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
	return Declared(t, func(_ string, reads *freshetv1.Reads) { reads.Shared = false })
}

// Declared is the message service's contract with other declarations of its reads.
func Declared(t testing.TB, change func(method string, reads *freshetv1.Reads)) protoreflect.ServiceDescriptor {
	t.Helper()
	original := messagesv1.File_messages_v1_messages_service_proto
	service := protodesc.ToServiceDescriptorProto(original.Services().ByName("MessageService"))
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
		Name: new("messages/v1/declared.proto"), Package: new("messages.v1"), Syntax: new("proto3"),
		Dependency: []string{original.Path(), "freshet/v1/options.proto"},
		Service:    []*descriptorpb.ServiceDescriptorProto{service},
	}, protoregistry.GlobalFiles)
	require.NoError(t, err)
	return file.Services().Get(0)
}
