package contract

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

// messages is the contract of the message service, from generated code.
func messages(t testing.TB) *Program {
	p, err := Compile(messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"))
	require.NoError(t, err)
	return p
}

func TestCompile_messageService(t *testing.T) {
	p := messages(t)

	require.Len(t, p.Sources(), 1)
	s := p.Source("public", "messages")
	require.Same(t, p.Sources()[0], s)
	require.Equal(t, "public.messages", s.String())
	require.Equal(t, []string{"conversation", "id"}, s.Columns())
	require.Equal(t, []freshet.Pattern{
		"messages", "conversations/-/messages", "conversations/*/messages", "conversations/*/messages/*",
	}, s.Floors())
	require.Nil(t, p.Source("public", "conversations"))
	require.Nil(t, p.Source("other", "messages"))

	require.Len(t, p.Methods(), 6)
	require.Nil(t, p.Method("/messages.v1.MessageService/Nope"))
	list := p.Method("/messages.v1.MessageService/ListMessages")
	require.Equal(t, Read, list.Kind)
	require.True(t, list.Shared)
	require.False(t, list.Uncached)
	require.Equal(t, []*Source{s}, list.Sources())
	require.Equal(t, []string{"{parent=**}/messages"}, list.Templates())
	create := p.Method("/messages.v1.MessageService/CreateMessage")
	require.Equal(t, Write, create.Kind)
	require.Nil(t, create.Sources())
	require.Regexp(t, "^[0-9a-f]{32}$", p.Hash())
	require.Equal(t, p.Hash(), messages(t).Hash())
}

func TestMethod_topics(t *testing.T) {
	p := messages(t)
	const name = "conversations/7/messages/01928c7e-0000-7000-8000-000000000001"
	for _, c := range []struct {
		method string
		req    proto.Message
		want   []string
	}{
		{"ListMessages", &messagesv1.ListMessagesRequest{Parent: "conversations/7"}, []string{"conversations/7/messages"}},
		{"ListMessages", &messagesv1.ListMessagesRequest{Parent: "conversations/-"}, []string{"conversations/-/messages"}},
		{"ListMessages", &messagesv1.ListMessagesRequest{}, []string{}},
		{"GetMessage", &messagesv1.GetMessageRequest{Name: name}, []string{name}},
		{"UpdateMessage", &messagesv1.UpdateMessageRequest{Message: &messagesv1.Message{Name: name}}, []string{name}},
		{"UpdateMessage", &messagesv1.UpdateMessageRequest{}, []string{}},
		{"ListConversations", &messagesv1.ListConversationsRequest{}, []string{"messages"}},
	} {
		got, err := p.Method("/messages.v1.MessageService/" + c.method).Topics(c.req)
		require.NoError(t, err)
		require.Equal(t, c.want, got, c.method)
	}
}

func TestMethod_topicsRefuses(t *testing.T) {
	get := messages(t).Method("/messages.v1.MessageService/GetMessage")

	_, err := get.Topics(&messagesv1.GetMessageRequest{Name: "conversations/"})
	var requestError *RequestError
	require.ErrorAs(t, err, &requestError)
	var topicError *freshet.TopicError
	require.ErrorAs(t, err, &topicError)
	require.EqualError(t, err, `/messages.v1.MessageService/GetMessage: topics "{name=**}": "conversations/" is not a topic: it has an empty segment; leave out the slash, or put a name beside it`)

	requestError = nil
	_, err = get.Topics(nil)
	require.Error(t, err)
	require.NotErrorAs(t, err, &requestError)
	_, err = get.Topics(&messagesv1.DeleteMessageRequest{})
	require.ErrorContains(t, err, "takes a messages.v1.GetMessageRequest, not a messages.v1.DeleteMessageRequest")
	require.NotErrorAs(t, err, &requestError)
}

// row answers Rows.AppendTopics from a list; "NULL" is NULL.
func row(values ...string) func(int) ([]byte, bool) {
	return func(i int) ([]byte, bool) { return []byte(values[i]), values[i] != "NULL" }
}

func TestRows_appendTopics(t *testing.T) {
	s := messages(t).Source("public", "messages")
	rows, err := s.Bind([]uint32{oidText, oidUUID})
	require.NoError(t, err)

	topics, floors := rows.AppendTopics([]string{"before"}, row("7", "01928c7e-0000-7000-8000-000000000001"))
	require.Empty(t, floors)
	require.Equal(t, []string{
		"before", "messages", "conversations/-/messages", "conversations/7/messages",
		"conversations/7/messages/01928c7e-0000-7000-8000-000000000001",
	}, topics)

	topics, floors = rows.AppendTopics(nil, row("7", "NULL"))
	require.Empty(t, floors)
	require.Equal(t, []string{"messages", "conversations/-/messages", "conversations/7/messages"}, topics)

	topics, _ = rows.AppendTopics(nil, row("-", ""))
	require.Equal(t, []string{"messages", "conversations/-/messages", "conversations/%2D/messages"}, topics)
}

// A source that is told isn't captured, and a read may depend on it.
func TestProgram_told(t *testing.T) {
	fd := compileProto(t, "test.proto", `syntax = "proto3";
package test.v1;
import "freshet/v1/options.proto";
message Stats { option (freshet.v1.source) = {table: "work.stats" topics: "projects/{project}/stats" told: true}; }
message Project { option (freshet.v1.source) = {table: "work.stats" topics: "projects/{id}"}; }
message Request { string project = 1; }
service Test {
  rpc Get(Request) returns (Stats) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "projects/{project}/stats"};
  }
}`)
	p, err := Compile(fd.Services().Get(0))
	require.NoError(t, err)
	require.Len(t, p.Sources(), 1)
	require.Equal(t, []string{"projects/{id}"}, p.Sources()[0].Templates())
	require.Len(t, p.Told(), 1)
	require.Equal(t, "work.stats", p.Told()[0].String())
	require.Equal(t, p.Told(), p.Methods()[0].Sources())
	require.Len(t, p.Emissions(), 1, "what is told is told to every version")
}
