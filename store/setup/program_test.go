package setup_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/freshet-dev/freshet/contract"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
)

// programOf is the contract of one source.
func programOf(t *testing.T, table string, topics ...string) *contract.Program {
	t.Helper()
	source := new(descriptorpb.MessageOptions)
	proto.SetExtension(source, freshetv1.E_Source, &freshetv1.Source{Table: table, Topics: topics})
	method := new(descriptorpb.MethodOptions)
	proto.SetExtension(method, freshetv1.E_Writes, &freshetv1.Writes{Topics: []string{"rows"}})
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name:        new("test/v1/test.proto"),
		Package:     new("test.v1"),
		Syntax:      new("proto3"),
		Dependency:  []string{"freshet/v1/options.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Row"), Options: source}},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name:   new("RowService"),
			Method: []*descriptorpb.MethodDescriptorProto{{Name: new("PutRow"), InputType: new(".test.v1.Row"), OutputType: new(".test.v1.Row"), Options: method}},
		}},
	}, protoregistry.GlobalFiles)
	require.NoError(t, err)
	p, err := contract.Compile(file.Services().Get(0))
	require.NoError(t, err)
	return p
}
