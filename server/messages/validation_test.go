package messages_test

import (
	"context"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/store"
)

// What is not canonical, too long or malformed never gets to the handlers, and
// the answer names the field.
func TestService_validation(t *testing.T) {
	t.Parallel()
	f := serve(t)
	id := uuid.NewString()
	name := "conversations/7/messages/" + id
	create := func(parent, requestID, author, body string) error {
		_, err := f.createWith(parent, requestID, author, body)
		return err
	}
	get := func(name string) error { _, err := f.get(name); return err }
	update := func(name, body, etag string) error {
		_, err := f.update(&messagesv1.Message{Name: name, Body: body, Etag: etag})
		return err
	}
	list := func(parent, token string, size int32) error { _, err := f.list(parent, token, size); return err }
	conversations := func(token string, size int32) error { _, err := f.conversations(token, size); return err }
	_, noMessage := f.client.CreateMessage(f.ctx(), connect.NewRequest(&messagesv1.CreateMessageRequest{Parent: "conversations/7"}))

	for field, errs := range map[string][]error{
		"parent": {
			create("", "", "ann", "hi"),
			create("conversations/", "", "ann", "hi"),
			create("conversations/-", "", "ann", "hi"),
			create("conversations/A", "", "ann", "hi"),
			create("conversations/a-", "", "ann", "hi"),
			create("conversations/7\n", "", "ann", "hi"),
			create("conversations/7/messages", "", "ann", "hi"),
			create("conversations/"+strings.Repeat("a", 64), "", "ann", "hi"),
			list("", "", 0), list("conversations/--", "", 0), list("conversations/7/", "", 0),
		},
		"message":    {noMessage},
		"request_id": {create("conversations/7", "junk", "ann", "hi"), create("conversations/7", strings.ToUpper("a"+id[1:]), "ann", "hi")},
		"message.author": {
			create("conversations/7", "", strings.Repeat("é", 129), "hi"),
			create("conversations/7", "", "a\x00b", "hi"),
		},
		"message.body": {
			create("conversations/7", "", "ann", strings.Repeat("é", 16385)),
			create("conversations/7", "", "ann", "a\x00b"),
			update(name, "a\x00b", ""),
		},
		"name": {
			get(""), get("conversations/7"), get("conversations/7/messages/"), get("conversations/-/messages/" + id),
			get(strings.ToUpper(name)), get("conversations/7/messages/" + strings.ToUpper("a"+id[1:])), get(name + "/"),
			get("conversations/7/messages/{" + id + "}"), get("conversations/7/messages/" + strings.ReplaceAll(id, "-", "")),
			f.delete("conversations/7/messages/x", ""),
		},
		"etag":       {f.delete(name, strings.Repeat("e", 65))},
		"page_size":  {list("conversations/7", "", -1), list("conversations/7", "", 1001), conversations("", -1), conversations("", 1001)},
		"page_token": {list("conversations/7", strings.Repeat("A", 513), 0), conversations(strings.Repeat("A", 513), 0)},
	} {
		for i, err := range errs {
			violations := detail[*validate.Violations](t, connect.CodeInvalidArgument, err).GetViolations()
			require.Equal(t, field, protovalidate.FieldPathString(violations[0].GetField()), "%d: %v", i, err)
		}
	}
	for _, err := range []error{
		create("conversations/7", "", "", "hi"), create("conversations/7", "", "ann", ""),
		update(name, "", ""), update("conversations/7", "hi", ""), update(name, "hi", strings.Repeat("e", 65)),
	} {
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "%v", err)
	}
	// The longest that there may be.
	require.NoError(t, create("conversations/"+strings.Repeat("a", 63), "", strings.Repeat("é", 128), strings.Repeat("é", 16384)))
}

// Without validation in front, the handlers and the table refuse what it would
// have; nothing that isn't canonical gets to the database.
func TestService_withoutValidation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, s := testkit.Context(t), messages.New(f.db)
	create := func(m *messagesv1.CreateMessageRequest) error {
		_, err := s.CreateMessage(ctx, connect.NewRequest(m))
		return err
	}
	content := func(author, body string) *messagesv1.CreateMessageRequest {
		return &messagesv1.CreateMessageRequest{Parent: "conversations/7", Message: &messagesv1.Message{Author: author, Body: body}}
	}
	requireField(t, "parent", create(&messagesv1.CreateMessageRequest{Parent: "conversations/A"}))
	requireField(t, "request_id", create(&messagesv1.CreateMessageRequest{Parent: "conversations/7", RequestId: "x"}))
	requireField(t, "message.author", create(content("", "hi")))
	requireField(t, "message.body", create(content("ann", "")))
	var constraint *store.ConstraintError
	require.ErrorAs(t, create(content("ann", "a\x00b")), &constraint)

	for _, name := range []string{"", "conversations/7", "conversations/7/messages/x", "conversations/7/messages/" + strings.ToUpper("a"+uuid.NewString()[1:])} {
		_, err := s.GetMessage(ctx, connect.NewRequest(&messagesv1.GetMessageRequest{Name: name}))
		requireField(t, "name", err)
		_, err = s.DeleteMessage(ctx, connect.NewRequest(&messagesv1.DeleteMessageRequest{Name: name}))
		requireField(t, "name", err)
		_, err = s.UpdateMessage(ctx, connect.NewRequest(&messagesv1.UpdateMessageRequest{Message: &messagesv1.Message{Name: name, Body: "x"}}))
		requireField(t, "message.name", err)
	}
	_, err := s.ListMessages(ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "x"}))
	requireField(t, "parent", err)
}

// What the handlers don't know the meaning of stays the store's error, for the
// interceptors' table.
func TestService_storeErrorsPass(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := messages.New(f.db)
	ctx := store.WithCall(testkit.Context(t), &store.Call{Epoch: 99})
	_, get := s.GetMessage(ctx, connect.NewRequest(&messagesv1.GetMessageRequest{Name: "conversations/7/messages/" + uuid.NewString()}))
	_, list := s.ListMessages(ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/7"}))
	_, conversations := s.ListConversations(ctx, connect.NewRequest(&messagesv1.ListConversationsRequest{}))
	_, create := s.CreateMessage(ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/7", Message: &messagesv1.Message{Author: "ann", Body: "hi"},
	}))
	for _, err := range []error{get, list, conversations, create} {
		require.ErrorIs(t, err, store.ErrEpoch)
	}
	gone, cancel := context.WithCancel(testkit.Context(t))
	cancel()
	_, err := s.ListMessages(gone, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/7"}))
	require.ErrorIs(t, err, context.Canceled)
}
