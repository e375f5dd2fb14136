package testkit

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/freshet-dev/freshet/contract"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
)

// Source is a table of a contract, and the templates of its topics.
type Source struct {
	Table  string
	Topics []string
}

// Contract compiles a contract that has these sources, and one method, which writes.
func Contract(t testing.TB, sources ...Source) *contract.Program {
	t.Helper()
	method := new(descriptorpb.MethodOptions)
	proto.SetExtension(method, freshetv1.E_Writes, &freshetv1.Writes{Topics: []string{"rows"}})
	file := &descriptorpb.FileDescriptorProto{
		Name:        new("test/v1/test.proto"),
		Package:     new("test.v1"),
		Syntax:      new("proto3"),
		Dependency:  []string{"freshet/v1/options.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Row")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name:   new("RowService"),
			Method: []*descriptorpb.MethodDescriptorProto{{Name: new("PutRow"), InputType: new(".test.v1.Row"), OutputType: new(".test.v1.Row"), Options: method}},
		}},
	}
	for i, s := range sources {
		options := new(descriptorpb.MessageOptions)
		proto.SetExtension(options, freshetv1.E_Source, &freshetv1.Source{Table: s.Table, Topics: s.Topics})
		file.MessageType = append(file.MessageType, &descriptorpb.DescriptorProto{Name: new(fmt.Sprint("Row", i)), Options: options})
	}
	built, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	require.NoError(t, err)
	p, err := contract.Compile(built.Services().Get(0))
	require.NoError(t, err)
	return p
}
