package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// follower is the measured client: two streams over the same topics, one
// without throttle and one with the server's default, and a refetch for each
// notice of the first.
type follower struct {
	book     *book
	client   *client.Client
	messages messagesv1connect.MessageServiceClient
	topics   []string
}

func topicOf(conversation string) string { return "conversations/" + conversation + "/messages" }

func conversationOf(topic string) string {
	return strings.TrimSuffix(strings.TrimPrefix(topic, "conversations/"), "/messages")
}

func newFollower(url string, h *http.Client, conversations []string, b *book) (*follower, error) {
	c, err := client.New(url, client.WithHTTPClient(h))
	if err != nil {
		return nil, err
	}
	f := &follower{
		book:     b,
		client:   c,
		messages: messagesv1connect.NewMessageServiceClient(h, url, connect.WithInterceptors(client.NewInterceptor())),
	}
	for _, conversation := range conversations {
		f.topics = append(f.topics, topicOf(conversation))
	}
	return f, nil
}

// run follows until ctx ends; ready is called once for each of the two streams.
func (f *follower) run(ctx context.Context, ready func()) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return f.follow(ctx, ready, func(topic string, rev freshet.Revision, at time.Time) {
			if s, ok := f.book.noticed(conversationOf(topic), at); ok {
				g.Go(func() error { return f.refetch(ctx, s, rev) })
			}
		}, client.WithThrottle(0))
	})
	g.Go(func() error {
		return f.follow(ctx, ready, func(topic string, _ freshet.Revision, at time.Time) {
			f.book.mergedNotice(conversationOf(topic), at)
		})
	})
	return g.Wait()
}

// follow is one stream. A disturbance ends the run: latencies across a
// reconnect would measure the back-off.
func (f *follower) follow(ctx context.Context, ready func(), told func(string, freshet.Revision, time.Time), opts ...client.StreamOption) error {
	err := f.client.Stream(ctx, f.topics, func(e client.Event) error {
		at := time.Now()
		switch e := e.(type) {
		case client.Ready:
			ready()
		case client.Invalidate:
			for _, topic := range e.Topics {
				told(topic, e.Revision, at)
			}
		case client.Disconnected:
			return fmt.Errorf("the stream was cut while it was measured: %w", e.Err)
		case client.Reset:
			return errors.New("the epoch changed while it was measured")
		}
		return nil
	}, opts...)
	if ctx.Err() != nil {
		return nil // the end of the run
	}
	return err
}

// refetch does what a client does on a notice: a read at-least its revision.
// The first response must contain the row (G1); to go on after one that
// doesn't keeps the figure honest, and the count makes the run fail.
func (f *follower) refetch(ctx context.Context, s *sample, rev freshet.Revision) error {
	ctx, cancel := context.WithTimeout(client.AtLeast(ctx, rev), patience)
	defer cancel()
	request := &messagesv1.ListMessagesRequest{Parent: "conversations/" + s.conversation, PageSize: 1}
	for {
		resp, err := f.messages.ListMessages(ctx, connect.NewRequest(request))
		at := time.Now()
		if err != nil {
			return fmt.Errorf("refetch at-least %v: %w", rev, err)
		}
		// Newest first, and nothing else writes to this conversation meanwhile.
		if m := resp.Msg.GetMessages(); len(m) == 1 && m[0].GetName() == s.message {
			f.book.refetched(s, at)
			return nil
		}
		f.book.tooEarly(s)
	}
}
