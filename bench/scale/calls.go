package main

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"

	"connectrpc.com/connect"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// Kinds of calls.
const (
	keptCalls   = "kept answers"
	strongCalls = "strong reads"
	writeCalls  = "writes"
)

const page = 50

// caller returns what does one call of a kind to the first node.
func (s *stage) caller(ctx context.Context, kind string) (func(context.Context) error, error) {
	client := messagesv1connect.NewMessageServiceClient(http.DefaultClient, s.nodes[0].URL, connect.WithProtoJSON())
	list := func(ctx context.Context, atLeast string) (stamp string, err error) {
		req := connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/page", PageSize: page})
		if atLeast != "" {
			req.Header().Set("Freshet-At-Least", atLeast)
		}
		resp, err := client.ListMessages(ctx, req)
		if err != nil {
			return "", err
		}
		if n := len(resp.Msg.GetMessages()); n != page {
			return "", fmt.Errorf("%d messages", n)
		}
		return resp.Header().Get("Freshet-Revision"), nil
	}
	switch kind {
	case keptCalls:
		stamp, err := list(ctx, "")
		return func(ctx context.Context) error {
			_, err := list(ctx, stamp)
			return err
		}, err
	case strongCalls:
		return func(ctx context.Context) error {
			_, err := list(ctx, "")
			return err
		}, nil
	default:
		var n atomic.Int64
		return func(ctx context.Context) error {
			_, err := client.CreateMessage(ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
				Parent:  fmt.Sprintf("conversations/w%d", n.Add(1)%100),
				Message: &messagesv1.Message{Author: "bench", Body: "A message as people write it."},
			}))
			return err
		}, nil
	}
}

// fill leaves the conversation that is read with a page of messages.
func (s *stage) fill(ctx context.Context) error {
	_, err := s.postgres.Admin.Exec(ctx, `insert into messages (conversation, author, body)
select 'page', 'bench', repeat('word ', 40) from generate_series(1, $1)`, page)
	return err
}
