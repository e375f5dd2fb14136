// Command tasks is a service of somebody else's, with a schema that is nothing like
// Freshet's own: tenants by row-level security, an enum, domains, a date, composite
// keys, a quoted name, partitions, soft deletes, a materialized view. What makes it
// fresh is in serve.
package main

import (
	"context"
	_ "embed"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/reflect/protoreflect"

	boardv1 "example.com/tasks/gen/board/v1"
	"example.com/tasks/gen/board/v1/boardv1connect"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/store/setup"
)

//go:embed schema.sql
var schema string

// config is what the service is told by its environment.
type config struct {
	databaseURL string // as the role tasks, which policies hold for
	ownerURL    string // as the tables' owner: for the schema, capture, and the job
	address     string
	audit       intercept.AuditMode
	services    []protoreflect.ServiceDescriptor // nil: the proto's
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, config{
		databaseURL: os.Getenv("DATABASE_URL"),
		ownerURL:    os.Getenv("OWNER_URL"),
		address:     os.Getenv("ADDR"),
		audit:       intercept.AuditMode(os.Getenv("AUDIT_READS")),
	}, func(address string) { log.Print("http://", address) })
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// serve serves until ctx ends. listening is told the address.
func serve(ctx context.Context, cfg config, listening func(address string)) error {
	if cfg.services == nil {
		services := boardv1.File_board_v1_board_service_proto.Services()
		cfg.services = []protoreflect.ServiceDescriptor{services.ByName("BoardService"), services.ByName("TaskService")}
	}
	if err := prepare(ctx, cfg); err != nil {
		return err
	}
	node, err := server.New(server.Config{
		DatabaseURL: cfg.databaseURL, CaptureURL: cfg.ownerURL,
		Slot:         "tasks",
		Services:     cfg.services,
		SkipMigrate:  true, // it is done
		Authenticate: authenticate, Authorize: authorize,
		AuditReads: cfg.audit,
	})
	if err != nil {
		return err
	}
	plain, err := pgx.ParseConfig(cfg.databaseURL)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*plain)
	defer func() { _ = db.Close() }()

	mux := http.NewServeMux()
	mux.Handle(node.Protect(boardv1connect.NewBoardServiceHandler(&boards{node.DB()}, node.HandlerOptions()...)))
	mux.Handle(node.Protect(boardv1connect.NewTaskServiceHandler(&tasks{db: db, session: node.Session}, node.HandlerOptions()...)))
	mux.Handle(node.Events())
	mux.Handle(node.Watch())

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.address)
	if err != nil {
		return err
	}
	listening(listener.Addr().String())
	web := &http.Server{Handler: mux, Protocols: new(http.Protocols), ReadHeaderTimeout: 10 * time.Second}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)
	group, ctx := errgroup.WithContext(ctx)
	capture, stop := context.WithCancel(context.WithoutCancel(ctx)) // until the last call has ended
	group.Go(func() error { return node.Run(capture) })
	group.Go(func() error { return refreshEvery(ctx, cfg.ownerURL, time.Minute) })
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

// prepare makes, as the owner, what the service's role may not: Freshet's own tables,
// the schema, the publication.
func prepare(ctx context.Context, cfg config) error {
	if err := setup.Migrate(ctx, cfg.ownerURL); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, cfg.ownerURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, schema); err != nil {
		return err
	}
	program, err := contract.Compile(cfg.services...)
	if err != nil {
		return err
	}
	problems, err := setup.Apply(ctx, conn, program, server.Publication)
	if fatal := setup.Fatal(problems); err == nil && len(fatal) > 0 {
		err = &setup.Error{Problems: fatal}
	}
	return err
}
