package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// A query holds the latest answer to one call, and fetches again whenever the
// database has another one.
func ExampleNewQuery() {
	url, stop := serveExample()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	c, err := client.New(url)
	if err != nil {
		fmt.Println(err)
		return
	}
	messages := messagesv1connect.NewMessageServiceClient(http.DefaultClient, url)
	list, err := client.NewQuery(c, messages.ListMessages, &messagesv1.ListMessagesRequest{Parent: "conversations/7"})
	if err != nil {
		fmt.Println(err) // no method of that kind, or it says nothing of what it reads
		return
	}
	var running sync.WaitGroup
	running.Go(func() { _ = list.Run(ctx) })
	defer running.Wait()
	defer cancel() // first

	fmt.Println("follows", list.Topics())
	for s := range list.Changes(ctx) {
		if !s.Fresh {
			continue // show s.Value, and that it may be old
		}
		fmt.Println(len(s.Value.GetMessages()), "messages")
		if len(s.Value.GetMessages()) == 2 {
			break
		}
		// Somebody writes.
		if _, err := messages.CreateMessage(ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
			Parent: "conversations/7", Message: &messagesv1.Message{Body: "hello again"},
		})); err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// follows [conversations/7/messages]
	// 1 messages
	// 2 messages
}

// Without queries: the stream says which topics changed, up to which revision.
func ExampleClient_Stream() {
	url, stop := serveExample()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(url)
	if err != nil {
		fmt.Println(err)
		return
	}
	messages := messagesv1connect.NewMessageServiceClient(http.DefaultClient, url)

	errEnough := errors.New("enough")
	err = c.Stream(ctx, []string{"conversations/7/messages"}, func(e client.Event) error {
		switch e := e.(type) {
		case client.Ready: // from here on nothing is missed
			fmt.Println("ready at", e.Revision)
			_, err := messages.CreateMessage(ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
				Parent: "conversations/7", Message: &messagesv1.Message{Body: "hello again"},
			}))
			return err
		case client.Invalidate: // read again, at-least e.Revision
			fmt.Println(e.Topics, "changed at", e.Revision)
			return errEnough
		}
		return nil
	})
	fmt.Println(errors.Is(err, errEnough))
	// Output:
	// ready at 0000000a-0000000000000001
	// [conversations/7/messages] changed at 0000000a-0000000000000002
	// true
}

// Read your own writes: the write's stamp is what the next read asks for.
func ExampleNewInterceptor() {
	url, stop := serveExample()
	defer stop()
	ctx := context.Background()
	messages := messagesv1connect.NewMessageServiceClient(http.DefaultClient, url,
		connect.WithInterceptors(client.NewInterceptor()))

	var written, read client.Stamp
	if _, err := messages.CreateMessage(client.CaptureStamp(ctx, &written), connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/7", Message: &messagesv1.Message{Body: "hello again"},
	})); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("wrote", written.Topics, "at", written.Revision)

	resp, err := messages.ListMessages(client.CaptureStamp(client.AtLeast(ctx, written.Revision), &read),
		connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/7"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(resp.Msg.GetMessages()), "messages at", read.Revision)
	// Output:
	// wrote [conversations/7/messages] at 0000000a-0000000000000002
	// 2 messages at 0000000a-0000000000000002
}

// Of two wishes for freshness the later one counts; Strong takes both back.
func ExampleAtLeast() {
	url, stop := serveExample()
	defer stop()
	asks := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			fmt.Printf("at-least %q\n", req.Header().Get("Freshet-At-Least"))
			return next(ctx, req)
		}
	})
	messages := messagesv1connect.NewMessageServiceClient(http.DefaultClient, url,
		connect.WithInterceptors(client.NewInterceptor(), asks))

	ctx := client.AtLeast(context.Background(), freshet.Revision{Epoch: 10, Position: 1})
	ctx = client.AtLeast(ctx, freshet.Revision{Epoch: 9, Position: 50}) // of an earlier history
	for _, ctx := range []context.Context{ctx, client.Strong(ctx)} {
		if _, err := messages.ListMessages(ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/7"})); err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// at-least "0000000a-0000000000000001"
	// at-least ""
}

// A client for a server behind a login, over a bad network.
func ExampleNew() {
	c, err := client.New("https://api.example.com/v2",
		client.WithTokenSource(func(context.Context) (string, error) { return "token of the moment", nil }),
		client.WithBackoff(time.Second, time.Minute))
	fmt.Println(c != nil, err)

	_, err = client.New("api.example.com")
	fmt.Println(err)
	// Output:
	// true <nil>
	// server address "api.example.com": want http://host:port or https://host
}
