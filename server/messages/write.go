package messages

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messagesdb"
	"github.com/freshet-dev/freshet/store"
)

// CreateMessage inserts a message, or returns the one that an earlier call with
// the same request id inserted, as it is now. A request id is remembered for as
// long as its message exists.
func (s *Service) CreateMessage(ctx context.Context, req *connect.Request[messagesv1.CreateMessageRequest]) (*connect.Response[messagesv1.CreateMessageResponse], error) {
	conversation, err := parseConversation("parent", req.Msg.GetParent())
	if err != nil {
		return nil, err
	}
	requestID, err := parseRequestID(req.Msg.GetRequestId())
	if err != nil {
		return nil, err
	}
	content := messagesdb.CreateMessageParams{
		Conversation: conversation,
		Author:       req.Msg.GetMessage().GetAuthor(),
		Body:         req.Msg.GetMessage().GetBody(),
		RequestID:    requestID,
	}
	var created row
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		created, err = create(ctx, messagesdb.New(tx), content)
		return err
	})
	if err != nil {
		return nil, meaning(req.Msg.GetParent(), err)
	}
	return connect.NewResponse(&messagesv1.CreateMessageResponse{Message: created.message()}), nil
}

func create(ctx context.Context, q *messagesdb.Queries, content messagesdb.CreateMessageParams) (row, error) {
	created, err := q.CreateMessage(ctx, content)
	if err == nil || !errors.Is(err, store.ErrNotFound) {
		return row(created), err
	}
	first, err := q.CreatedMessage(ctx, messagesdb.CreatedMessageParams{
		Conversation: content.Conversation,
		RequestID:    content.RequestID.UUID,
		Author:       content.Author,
		Body:         content.Body,
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return row{}, store.ErrConflict // deleted between the two statements: try again
	case err != nil:
		return row{}, err
	case !first.SameContent:
		return row{}, errRequestReused()
	}
	return row{
		ID: first.ID, Conversation: first.Conversation, Author: first.Author, Body: first.Body,
		CreateTime: first.CreateTime, UpdateTime: first.UpdateTime, Etag: first.Etag,
	}, nil
}

// UpdateMessage sets a message's body. The mask can only name that, so it needn't
// be looked at.
func (s *Service) UpdateMessage(ctx context.Context, req *connect.Request[messagesv1.UpdateMessageRequest]) (*connect.Response[messagesv1.UpdateMessageResponse], error) {
	message := req.Msg.GetMessage()
	name, err := parseName("message.name", message.GetName())
	if err != nil {
		return nil, err
	}
	etag := parseEtag(message.GetEtag())
	var updated row
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := messagesdb.New(tx)
		found, err := q.UpdateMessage(ctx, messagesdb.UpdateMessageParams{
			Conversation: name.conversation, ID: name.id, Body: message.GetBody(), Etag: etag,
		})
		if errors.Is(err, store.ErrNotFound) {
			return whyNot(ctx, q, name, etag)
		}
		updated = row(found)
		return err
	})
	if err != nil {
		return nil, meaning(name.String(), err)
	}
	return connect.NewResponse(&messagesv1.UpdateMessageResponse{Message: updated.message()}), nil
}

// DeleteMessage deletes a message.
func (s *Service) DeleteMessage(ctx context.Context, req *connect.Request[messagesv1.DeleteMessageRequest]) (*connect.Response[messagesv1.DeleteMessageResponse], error) {
	name, err := parseName("name", req.Msg.GetName())
	if err != nil {
		return nil, err
	}
	etag := parseEtag(req.Msg.GetEtag())
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := messagesdb.New(tx)
		n, err := q.DeleteMessage(ctx, messagesdb.DeleteMessageParams{Conversation: name.conversation, ID: name.id, Etag: etag})
		if err == nil && n == 0 {
			return whyNot(ctx, q, name, etag)
		}
		return err
	})
	if err != nil {
		return nil, meaning(name.String(), err)
	}
	return connect.NewResponse(&messagesv1.DeleteMessageResponse{}), nil
}

// whyNot says why a change hit no row: the message is gone, or it is another
// version than the etag's.
func whyNot(ctx context.Context, q *messagesdb.Queries, name messageName, etag uuid.NullUUID) error {
	exists, err := q.MessageExists(ctx, messagesdb.MessageExistsParams{Conversation: name.conversation, ID: name.id})
	switch {
	case err != nil:
		return err
	case !exists:
		return store.ErrNotFound
	case !etag.Valid:
		return store.ErrConflict // it came to be between the two statements: try again
	default:
		return errEtag()
	}
}
