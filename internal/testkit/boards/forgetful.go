package boards

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	boardsv1 "github.com/freshet-dev/freshet/internal/testkit/boards/gen/boards/v1"
)

// Forgetful is the service's contract without the topics of reactions.
func Forgetful(t testing.TB) protoreflect.ServiceDescriptor {
	t.Helper()
	original := boardsv1.File_boards_v1_boards_proto
	service := protodesc.ToServiceDescriptorProto(Service())
	method := service.GetMethod()[0]
	reads := proto.CloneOf(proto.GetExtension(method.GetOptions(), freshetv1.E_Reads).(*freshetv1.Reads))
	reads.ResponseTopics = reads.GetResponseTopics()[:1]
	method.Options = proto.CloneOf(method.GetOptions())
	proto.SetExtension(method.Options, freshetv1.E_Reads, reads)
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("boards/v1/forgetful.proto"), Package: new("boards.v1"), Syntax: new("proto3"),
		Dependency: []string{original.Path(), "freshet/v1/options.proto"},
		Service:    []*descriptorpb.ServiceDescriptorProto{service},
	}, protoregistry.GlobalFiles)
	require.NoError(t, err)
	return file.Services().Get(0)
}
