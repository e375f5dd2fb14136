// Package messages serves messages.v1.MessageService: handlers that check what
// a schema can't say, call the store, and give its answers their meaning for a
// client.
//
// It knows nothing of stamps, topics, caches or the feed; the interceptors
// around it do (package intercept). They are also the one place that turns the
// store's own errors into codes, and keeps internal text in: a handler returns
// those as they are, and makes coded errors only of what it knows better.
//
// Requests are validated by the rules in the proto before they get here
// (connectrpc.com/validate); names are parsed strictly all the same, since a
// name that isn't canonical would never match a topic.
//
// A Service is safe for concurrent use.
package messages

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/gen/messagesdb"
	"github.com/freshet-dev/freshet/store"
)

// Service implements messagesv1connect.MessageServiceHandler.
type Service struct{ db *store.DB }

var _ messagesv1connect.MessageServiceHandler = (*Service)(nil)

// New returns the service on a pool, which stays the caller's.
func New(db *store.DB) *Service { return &Service{db: db} }

// Handler returns the path to mount the service on, and its handler.
func Handler(db *store.DB, opts ...connect.HandlerOption) (string, http.Handler) {
	return messagesv1connect.NewMessageServiceHandler(New(db), opts...)
}

// defaultPageSize is for requests that leave the page size to us; the largest
// one is in the proto.
const defaultPageSize = 50

// GetMessage returns one message.
func (s *Service) GetMessage(ctx context.Context, req *connect.Request[messagesv1.GetMessageRequest]) (*connect.Response[messagesv1.GetMessageResponse], error) {
	name, err := parseName("name", req.Msg.GetName())
	if err != nil {
		return nil, err
	}
	var found row
	err = s.db.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		r, err := messagesdb.New(tx).GetMessage(ctx, messagesdb.GetMessageParams{Conversation: name.conversation, ID: name.id})
		found = row(r)
		return err
	})
	if err != nil {
		return nil, meaning(name.String(), err)
	}
	return connect.NewResponse(&messagesv1.GetMessageResponse{Message: found.message()}), nil
}

// ListMessages returns a page of one conversation's messages, or of all.
func (s *Service) ListMessages(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	parent := req.Msg.GetParent()
	after, err := parseMessageToken(parent, req.Msg.GetPageToken())
	if err != nil {
		return nil, err
	}
	list := listAll
	if parent != allConversations {
		conversation, err := parseConversation("parent", parent)
		if err != nil {
			return nil, err
		}
		list = listConversation(conversation)
	}
	size := pageSize(req.Msg.GetPageSize())
	var rows []row
	err = s.db.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err = list(ctx, messagesdb.New(tx), after, size+1) // one more, by number or by bytes: is there a next page?
		return err
	})
	if err != nil {
		return nil, err
	}

	resp := &messagesv1.ListMessagesResponse{}
	if n := pageOf(rows, int(size)); n < len(rows) {
		rows = rows[:n]
		resp.NextPageToken = messageToken(parent, rows[n-1])
	}
	resp.Messages = make([]*messagesv1.Message, len(rows))
	for i, r := range rows {
		resp.Messages[i] = r.message()
	}
	return connect.NewResponse(resp), nil
}

// ListConversations returns a page of conversations.
func (s *Service) ListConversations(ctx context.Context, req *connect.Request[messagesv1.ListConversationsRequest]) (*connect.Response[messagesv1.ListConversationsResponse], error) {
	after, err := parseConversationToken(req.Msg.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(req.Msg.GetPageSize())
	var rows []messagesdb.ListConversationsRow
	err = s.db.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err = messagesdb.New(tx).ListConversations(ctx, messagesdb.ListConversationsParams{AfterName: after, PageSize: size})
		return err
	})
	if err != nil {
		return nil, err
	}

	resp := &messagesv1.ListConversationsResponse{}
	if len(rows) > int(size) {
		rows = rows[:size]
		resp.NextPageToken = conversationToken(rows[size-1].Conversation)
	}
	resp.Conversations = make([]*messagesv1.Conversation, len(rows))
	for i, r := range rows {
		resp.Conversations[i] = conversation(r)
	}
	return connect.NewResponse(resp), nil
}

func pageSize(asked int32) int32 {
	if asked <= 0 {
		return defaultPageSize
	}
	return asked
}
