package server_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/messages"
)

// A node beside a service: handlers with its options, its stream, and Run.
func ExampleNew() {
	t, done := testkit.Example()
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	database := testkit.Database(t)
	ready := make(chan struct{})
	node, err := server.New(server.Config{
		DatabaseURL:  database,
		Slot:         "example",
		ServiceNames: []string{messagesv1connect.MessageServiceName},
		Migrate:      messages.MigrateConfig,
		Logger:       slog.New(slog.DiscardHandler),
		OnReady:      func() { close(ready) },
	})
	if err != nil {
		log.Print(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle(messagesv1connect.NewMessageServiceHandler(messages.New(node.DB()), node.HandlerOptions()...))
	mux.Handle(node.Events())
	mux.Handle(node.Watch())
	web := httptest.NewServer(mux)

	running, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- node.Run(running) }()
	select {
	case <-ready:
	case err := <-ended:
		log.Print(err)
		return
	}

	// Somebody follows the stream, and a row is inserted by SQL.
	errEnough := errors.New("that will do")
	follower, err := client.New(web.URL)
	if err != nil {
		log.Print(err)
		return
	}
	err = follower.Stream(ctx, []string{"conversations/7/messages"}, func(e client.Event) error {
		switch e := e.(type) {
		case client.Ready:
			testkit.Exec(t, database, "insert into messages (conversation, author, body) values ('7', 'ann', 'hello')")
		case client.Invalidate:
			fmt.Println("told of", e.Topics)
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		log.Print(err)
	}

	if err := node.Drain(ctx); err != nil { // before the server: it waits for streams
		log.Print(err)
	}
	web.Close()
	end()
	fmt.Println("ended:", <-ended)
	// Output:
	// told of [conversations/7/messages]
	// ended: <nil>
}
