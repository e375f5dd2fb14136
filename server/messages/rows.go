package messages

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messagesdb"
)

// row is a message as every query returns it; the generated row types are all
// convertible to it.
type row messagesdb.GetMessageRow

// A page of messages is at most maxPageBytes by the measure of bytes (F66): a
// gRPC client refuses an answer of more than 4 MiB, unless told otherwise. The
// list queries count in the same way.
const (
	maxPageBytes = 1 << 20
	rowOverhead  = 300 // name, times, etag, and what encodings add
)

func (r row) bytes() int { return len(r.Author) + len(r.Body) + rowOverhead }

// pageOf returns how many of the rows, at most size, make a page.
func pageOf(rows []row, size int) (n int) {
	bytes := 0
	for n < len(rows) && n < size {
		if bytes += rows[n].bytes(); bytes > maxPageBytes && n > 0 {
			break
		}
		n++
	}
	return n
}

func (r row) message() *messagesv1.Message {
	return &messagesv1.Message{
		Name:       messageName{conversation: r.Conversation, id: r.ID}.String(),
		Author:     r.Author,
		Body:       r.Body,
		CreateTime: timestamppb.New(r.CreateTime),
		UpdateTime: timestamppb.New(r.UpdateTime),
		Etag:       r.Etag.String(),
	}
}

func conversation(r messagesdb.ListConversationsRow) *messagesv1.Conversation {
	return &messagesv1.Conversation{
		Name:            conversationsPrefix + r.Conversation,
		MessageCount:    r.MessageCount,
		LastMessageTime: timestamppb.New(r.LastMessageTime),
	}
}

// lister is one of the two list queries.
type lister func(ctx context.Context, q *messagesdb.Queries, after *messageKey, limit int32) ([]row, error)

func listAll(ctx context.Context, q *messagesdb.Queries, after *messageKey, limit int32) ([]row, error) {
	params := messagesdb.ListAllMessagesParams{RowLimit: limit}
	params.BeforeTime, params.BeforeID = after.params()
	rows, err := q.ListAllMessages(ctx, params)
	list := make([]row, len(rows))
	for i, r := range rows {
		list[i] = row(r)
	}
	return list, err
}

func listConversation(conversation string) lister {
	return func(ctx context.Context, q *messagesdb.Queries, after *messageKey, limit int32) ([]row, error) {
		params := messagesdb.ListMessagesParams{Conversation: conversation, RowLimit: limit}
		params.BeforeTime, params.BeforeID = after.params()
		rows, err := q.ListMessages(ctx, params)
		list := make([]row, len(rows))
		for i, r := range rows {
			list[i] = row(r)
		}
		return list, err
	}
}
