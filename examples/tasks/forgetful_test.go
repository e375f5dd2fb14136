package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	boardv1 "example.com/tasks/gen/board/v1"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/server/intercept"
)

// startForgetful serves, until the test ends, a contract in which ListBoard doesn't
// declare the topics that end so. It returns the URL once the server is ready.
func startForgetful(t *testing.T, forgotten string, audit intercept.AuditMode) (url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	address, ended := make(chan string, 1), make(chan error, 1)
	cfg := config{databaseURL: service(), ownerURL: owner, address: "127.0.0.1:0", audit: audit, services: without(t, forgotten)}
	go func() { ended <- serve(ctx, cfg, func(a string) { address <- a }) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	select {
	case a := <-address:
		url = "http://" + a
	case err := <-ended:
		ended <- err
		require.FailNow(t, "it ended", "%v", err)
	}
	ready(t, url)
	return url
}

// without is the contract in which ListBoard declares all its topics but those that end
// so, of which there are some.
func without(t *testing.T, forgotten string) []protoreflect.ServiceDescriptor {
	t.Helper()
	original := boardv1.File_board_v1_board_service_proto
	var services []*descriptorpb.ServiceDescriptorProto
	for _, name := range []protoreflect.Name{"BoardService", "TaskService"} {
		services = append(services, protodesc.ToServiceDescriptorProto(original.Services().ByName(name)))
	}
	method := services[0].GetMethod()[0]
	require.Equal(t, "ListBoard", method.GetName())
	options := proto.CloneOf(method.GetOptions())
	reads := proto.CloneOf(proto.GetExtension(options, freshetv1.E_Reads).(*freshetv1.Reads))
	ends := func(topic string) bool { return strings.HasSuffix(topic, forgotten) }
	declared := len(reads.GetTopics()) + len(reads.GetResponseTopics())
	reads.Topics, reads.ResponseTopics = slices.DeleteFunc(reads.GetTopics(), ends), slices.DeleteFunc(reads.GetResponseTopics(), ends)
	require.Less(t, len(reads.GetTopics())+len(reads.GetResponseTopics()), declared)
	proto.SetExtension(options, freshetv1.E_Reads, reads)
	method.Options = options
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("board/v1/forgetful.proto"), Package: new("board.v1"), Syntax: new("proto3"),
		Dependency: []string{original.Path(), "freshet/v1/options.proto"}, Service: services,
	}, protoregistry.GlobalFiles)
	require.NoError(t, err)
	return []protoreflect.ServiceDescriptor{file.Services().Get(0), file.Services().Get(1)}
}
