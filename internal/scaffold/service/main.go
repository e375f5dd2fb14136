// Command service serves tasks: RPCs, the stream that says which of their answers
// have changed, and the page.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store/pgembed"

	"github.com/freshet-dev/freshet/internal/scaffold/service/gen/tasks/v1/tasksv1connect"
	"github.com/freshet-dev/freshet/internal/scaffold/service/tasks"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	database := flag.String("database-url", os.Getenv("DATABASE_URL"), "PostgreSQL; by default a private one, whose data is in .data")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *addr, *database)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, addr, database string) (err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	if database == "" {
		postgres, err := pgembed.Start(ctx, pgembed.Config{DataDir: ".data"})
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		defer func() {
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, postgres.Stop(stopping))
		}()
		database = postgres.URL("")
	}
	fmt.Printf("http://%s\n", listener.Addr())
	return serve(ctx, listener, database)
}

// serve serves on a listener, which it closes, until ctx ends.
func serve(ctx context.Context, listener net.Listener, database string) error {
	node, err := server.New(server.Config{
		DatabaseURL:  database,
		Slot:         "tasks", // of all nodes of this service, and of no other service on the server
		Publication:  "tasks",
		ServiceNames: []string{tasksv1connect.TaskServiceName},
		Migrate:      tasks.Migrate,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	mux := http.NewServeMux()
	mux.Handle(tasksv1connect.NewTaskServiceHandler(&tasks.Service{DB: node.DB()}, node.HandlerOptions()...))
	mux.Handle(node.Events())
	mux.Handle(node.Watch())
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := node.Ready(); err != nil {
			log.Print("not ready: ", err)
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	mux.Handle("/", http.FileServer(http.Dir("web/dist")))
	web := &http.Server{Handler: mux, Protocols: new(http.Protocols), ReadHeaderTimeout: 10 * time.Second}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true) // gRPC without TLS

	group, ctx := errgroup.WithContext(ctx)
	capture, stop := context.WithCancel(context.WithoutCancel(ctx)) // until the last call has ended
	group.Go(func() error { return node.Run(capture) })
	group.Go(func() error {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		defer stop()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		node.Retire()
		return errors.Join(node.Drain(ending), web.Shutdown(ending))
	})
	return group.Wait()
}
