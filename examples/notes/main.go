// Command notes is a service of somebody else's: its own proto, its own table, its
// handlers on database/sql. What makes it fresh is in serve.
package main

import (
	"context"
	"database/sql"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // "pgx", for database/sql
	"golang.org/x/sync/errgroup"

	"example.com/notes/gen/notes/v1/notesv1connect"

	"github.com/freshet-dev/freshet/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:8080")
	if err == nil {
		err = serve(ctx, os.Getenv("DATABASE_URL"), listener)
	}
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// serve serves notes on a listener until ctx ends.
func serve(ctx context.Context, url string, listener net.Listener) error {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(20) // by default as many as there are calls, until Postgres has no more
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return err
	}

	node, err := server.New(server.Config{
		DatabaseURL:  url,
		ServiceNames: []string{notesv1connect.NoteServiceName},
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(notesv1connect.NewNoteServiceHandler(&notes{db}, node.HandlerOptions()...))
	mux.Handle(node.Events())
	mux.Handle(node.Watch())

	web := &http.Server{Handler: mux, Protocols: new(http.Protocols), ReadHeaderTimeout: 10 * time.Second}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)
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
		return errors.Join(node.Drain(ending), web.Shutdown(ending))
	})
	return group.Wait()
}
