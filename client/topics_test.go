package client

import (
	"context"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// planned makes a query that is never run.
func planned[Req, Res any](t *testing.T, req *Req, opts ...QueryOption) (*Query[Req, Res], error) {
	t.Helper()
	c, err := New("http://freshet.test")
	require.NoError(t, err)
	return NewQuery(c, func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error) {
		t.Error("called before Run")
		return nil, context.Canceled
	}, req, opts...)
}

// The topics are those of the method's contract and the request: the same that
// the server reckons with.
func TestNewQuery_topicsOfTheContract(t *testing.T) {
	list, err := planned[messagesv1.ListMessagesRequest, messagesv1.ListMessagesResponse](t,
		&messagesv1.ListMessagesRequest{Parent: "conversations/7"})
	require.NoError(t, err)
	require.Equal(t, []string{"conversations/7/messages"}, list.Topics())

	all, err := planned[messagesv1.ListConversationsRequest, messagesv1.ListConversationsResponse](t,
		&messagesv1.ListConversationsRequest{}, WithProcedure(messagesv1connect.MessageServiceListConversationsProcedure))
	require.NoError(t, err)
	require.Equal(t, []string{"messages"}, all.Topics())
}

func TestNewQuery_refuses(t *testing.T) {
	type (
		request = messagesv1.ListMessagesRequest
		answer  = messagesv1.ListMessagesResponse
	)
	_, noMessage := planned[struct{}, answer](t, new(struct{}))
	_, noAnswer := planned[request, string](t, new(request))
	_, none := planned[request, answer](t, nil)
	_, unknown := planned[wrapperspb.StringValue, answer](t, wrapperspb.String("x"))
	_, otherAnswer := planned[request, messagesv1.GetMessageResponse](t, new(request))
	_, shared := planned[health.HealthCheckRequest, health.HealthCheckResponse](t, new(health.HealthCheckRequest))
	_, silent := planned[health.HealthCheckRequest, health.HealthCheckResponse](t, new(health.HealthCheckRequest),
		WithProcedure("/grpc.health.v1.Health/Check"))
	_, elsewhere := planned[request, answer](t, new(request), WithProcedure(messagesv1connect.MessageServiceGetMessageProcedure))
	_, write := planned[messagesv1.DeleteMessageRequest, messagesv1.DeleteMessageResponse](t,
		&messagesv1.DeleteMessageRequest{Name: "conversations/7/messages/x"})
	_, unset := planned[request, answer](t, new(request))
	_, empty := planned[request, answer](t, &request{Parent: "conversations/"})
	for _, tt := range []struct {
		err        error
		name, text string
	}{
		{noMessage, "*struct {}", "is no protobuf message"},
		{noAnswer, "*messagesv1.ListMessagesRequest", "its answer *string, is no protobuf message"},
		{none, "messages.v1.ListMessagesRequest", "the request is nil"},
		{unknown, "google.protobuf.StringValue", "no method takes it and answers with messages.v1.ListMessagesResponse"},
		{otherAnswer, "messages.v1.ListMessagesRequest", "no method takes it"},
		{shared, "grpc.health.v1.HealthCheckRequest", "/grpc.health.v1.Health/Check and /grpc.health.v1.Health/Watch take it; name one by WithProcedure"},
		{silent, "grpc.health.v1.Health.Check", "declares neither (freshet.v1.reads) nor"},
		{elsewhere, "messages.v1.ListMessagesRequest", "WithProcedure: no /messages.v1.MessageService/GetMessage takes it"},
		{write, "messages.v1.MessageService.DeleteMessage", "it declares (freshet.v1.writes)"},
		{unset, "messages.v1.MessageService.ListMessages", "without topics; set those of {parent=**}/messages"},
		{empty, "messages.v1.MessageService.ListMessages", "an empty segment"},
	} {
		var query *QueryError
		require.ErrorAs(t, tt.err, &query)
		require.Equal(t, tt.name, query.Name)
		require.ErrorContains(t, tt.err, tt.text)
	}
	var problem *contract.Problem
	require.ErrorAs(t, silent, &problem)
	require.Equal(t, "method-declared", problem.Rule)
	var topic *freshet.TopicError
	require.ErrorAs(t, empty, &topic)
}

// A query is made for what is on a screen: it may cost microseconds, not more.
func BenchmarkNewQuery(b *testing.B) {
	c, err := New("http://freshet.test")
	require.NoError(b, err)
	service := messagesv1connect.NewMessageServiceClient(nil, "http://freshet.test")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewQuery(c, service.ListMessages, &messagesv1.ListMessagesRequest{Parent: "conversations/7"}); err != nil {
			b.Fatal(err)
		}
	}
}
