package depths

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// storage is how a service talks to Postgres: what differs between the depths.
type storage struct {
	insert func(ctx context.Context, m *Message) error // which may give it another id
	remove func(ctx context.Context, m Message) error  // by id and conversation
	list   func(ctx context.Context, conversation string) ([]Message, error)
}

// Message is a row of the message service's table, as an application's own code
// would have it: for pgx by its fields' names, for GORM and bun by their tags.
type Message struct {
	ID           string `bun:",pk"                 db:"id"           gorm:"primaryKey"`
	Conversation string `db:"conversation"`
	Author       string `db:"author"`
	Body         string `db:"body"`
}

// service answers with a storage. It knows nothing of Freshet.
type service struct {
	messagesv1connect.UnimplementedMessageServiceHandler
	storage
	newID func() string
}

func (s *service) CreateMessage(ctx context.Context, req *connect.Request[messagesv1.CreateMessageRequest]) (*connect.Response[messagesv1.CreateMessageResponse], error) {
	m := Message{
		ID: s.newID(), Conversation: strings.TrimPrefix(req.Msg.GetParent(), "conversations/"),
		Author: req.Msg.GetMessage().GetAuthor(), Body: req.Msg.GetMessage().GetBody(),
	}
	if err := s.insert(ctx, &m); err != nil {
		return nil, err
	}
	return connect.NewResponse(&messagesv1.CreateMessageResponse{Message: m.proto()}), nil
}

func (s *service) DeleteMessage(ctx context.Context, req *connect.Request[messagesv1.DeleteMessageRequest]) (*connect.Response[messagesv1.DeleteMessageResponse], error) {
	m, err := parse(req.Msg.GetName())
	if err != nil {
		return nil, err
	}
	if err := s.remove(ctx, m); err != nil {
		return nil, err
	}
	return connect.NewResponse(new(messagesv1.DeleteMessageResponse)), nil
}

// GetMessage finds a message in its conversation's list, so that a storage need do no more.
func (s *service) GetMessage(ctx context.Context, req *connect.Request[messagesv1.GetMessageRequest]) (*connect.Response[messagesv1.GetMessageResponse], error) {
	m, err := parse(req.Msg.GetName())
	if err != nil {
		return nil, err
	}
	rows, err := s.list(ctx, m.Conversation)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(rows, func(row Message) bool { return row.ID == m.ID })
	if at < 0 {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such message"))
	}
	return connect.NewResponse(&messagesv1.GetMessageResponse{Message: rows[at].proto()}), nil
}

func (s *service) ListMessages(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	rows, err := s.list(ctx, strings.TrimPrefix(req.Msg.GetParent(), "conversations/"))
	if err != nil {
		return nil, err
	}
	// What is committed from here on isn't in the answer, whatever it takes to
	// make it.
	select {
	case <-time.After(rand.N(4 * time.Millisecond)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	list := new(messagesv1.ListMessagesResponse)
	for _, m := range rows {
		list.Messages = append(list.Messages, m.proto())
	}
	return connect.NewResponse(list), nil
}

func (m Message) proto() *messagesv1.Message {
	return &messagesv1.Message{Name: "conversations/" + m.Conversation + "/messages/" + m.ID, Author: m.Author, Body: m.Body}
}

func parse(name string) (Message, error) {
	part := strings.Split(name, "/")
	if len(part) != 4 {
		return Message{}, connect.NewError(connect.CodeInvalidArgument, errors.New("no name of a message"))
	}
	return Message{Conversation: part[1], ID: part[3]}, nil
}
