package server_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// dial connects with gRPC's own client: not ours, and not Connect's.
func dial(t *testing.T, r *running) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(r.url[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func TestRun_grpcMetadata(t *testing.T) {
	r := start(t, testkit.Migrated(t), nil)
	conn := dial(t, r)
	var header, trailer metadata.MD
	created := new(messagesv1.CreateMessageResponse)
	err := conn.Invoke(r.ctx, messagesv1connect.MessageServiceCreateMessageProcedure, &messagesv1.CreateMessageRequest{
		Parent: "conversations/7", Message: &messagesv1.Message{Author: "ada", Body: "hi"},
	}, created, grpc.Header(&header))
	require.NoError(t, err)
	require.Len(t, header.Get("freshet-revision"), 1)
	require.Len(t, header.Get("freshet-topics"), 1)

	ctx := metadata.AppendToOutgoingContext(r.ctx, "freshet-at-least", header.Get("freshet-revision")[0])
	err = conn.Invoke(ctx, messagesv1connect.MessageServiceGetMessageProcedure,
		&messagesv1.GetMessageRequest{Name: created.GetMessage().GetName()}, new(messagesv1.GetMessageResponse))
	require.NoError(t, err)

	err = conn.Invoke(ctx, messagesv1connect.MessageServiceGetMessageProcedure,
		&messagesv1.GetMessageRequest{Name: "conversations/7/messages/01890a5d-ac96-774b-bcce-b302099a8057"},
		new(messagesv1.GetMessageResponse), grpc.Trailer(&trailer))
	require.Equal(t, codes.NotFound, status.Code(err))
	require.Len(t, trailer.Get("freshet-revision"), 1, "trailers on errors")

	err = conn.Invoke(metadata.AppendToOutgoingContext(r.ctx, "freshet-at-least", "junk"),
		messagesv1connect.MessageServiceListConversationsProcedure, new(messagesv1.ListConversationsRequest), new(messagesv1.ListConversationsResponse))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestRun_grpcWatch(t *testing.T) {
	database := testkit.Migrated(t)
	r := start(t, database, nil)
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	watch, err := dial(t, r).NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, freshetv1connect.InvalidationServiceWatchProcedure)
	require.NoError(t, err)
	require.NoError(t, watch.SendMsg(&freshetv1.WatchRequest{Topics: []string{"messages"}}))
	require.NoError(t, watch.CloseSend())
	next := func() *freshetv1.WatchResponse {
		m := new(freshetv1.WatchResponse)
		require.NoError(t, watch.RecvMsg(m))
		return m
	}
	require.NotNil(t, next().GetReady())
	insert(t, ctx, testkit.Conn(t, database), "7")
	m := next()
	for m.GetFrontier() != nil { // a heartbeat, or the first word on the lag
		m = next()
	}
	require.Equal(t, []string{"messages"}, m.GetInvalidate().GetTopics())
}

func TestRun_grpcHealthAndReflection(t *testing.T) {
	r := start(t, testkit.Migrated(t), nil)
	conn := dial(t, r)
	health := healthv1.NewHealthClient(conn)
	for _, service := range []string{"", "messages.v1.MessageService", "freshet.v1.InvalidationService"} {
		resp, err := health.Check(r.ctx, &healthv1.HealthCheckRequest{Service: service})
		require.NoError(t, err)
		require.Equal(t, healthv1.HealthCheckResponse_SERVING, resp.GetStatus())
	}
	_, err := health.Check(r.ctx, &healthv1.HealthCheckRequest{Service: "nothing.v1.Nothing"})
	require.Equal(t, codes.NotFound, status.Code(err))

	reflection, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(r.ctx)
	require.NoError(t, err)
	require.NoError(t, reflection.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}))
	listed, err := reflection.Recv()
	require.NoError(t, err)
	var names []string
	for _, s := range listed.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	require.ElementsMatch(t, []string{"messages.v1.MessageService", "freshet.v1.InvalidationService", "grpc.health.v1.Health"}, names)
	for _, symbol := range names {
		require.NoError(t, reflection.Send(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol},
		}))
		described, err := reflection.Recv()
		require.NoError(t, err)
		require.NotEmpty(t, described.GetFileDescriptorResponse().GetFileDescriptorProto(), symbol)
	}
	require.NoError(t, reflection.CloseSend())
}
