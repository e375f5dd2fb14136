package main

import (
	"cmp"
	"context"
	"errors"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/contract"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/front"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/store/setup"
)

// databaseFlags are those of every command that works on an existing database.
type databaseFlags struct {
	DatabaseURL string `placeholder:"URL" env:"FRESHET_DATABASE_URL,DATABASE_URL" help:"The primary: postgres://user:password@host:5432/name; of several hosts (a:5432,b:5432) it is found. Required."`
	CaptureURL  string `placeholder:"URL" help:"Where the feed connects, and as whom, if serve's --database-url is a pooler's or another role's. Unset: --database-url."`
}

// Validate is called by kong.
func (f *databaseFlags) Validate() error {
	if f.DatabaseURL == "" {
		return errors.New("which database? give --database-url, or set DATABASE_URL: postgres://user:password@host:5432/name")
	}
	return nil
}

// connect runs use on a connection of its own, as the feed connects.
func (f *databaseFlags) connect(ctx context.Context, use func(conn *setup.Conn) error) error {
	conn, err := setup.Connect(ctx, cmp.Or(f.CaptureURL, f.DatabaseURL))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served
	return use(conn)
}

// services are what this program serves.
func services() []protoreflect.ServiceDescriptor {
	return []protoreflect.ServiceDescriptor{messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService")}
}

// messageService is the service, behind a node.
func messageService(node *server.Node) front.Service {
	path, handler := messages.Handler(node.DB(), node.HandlerOptions()...)
	return front.Service{Descriptor: services()[0], Path: path, Handler: handler}
}

// contractFlags say whose contract a database is to fit.
type contractFlags struct {
	Image string `placeholder:"FILE" help:"A buf image (buf build -o image.binpb) of the protos of a service of your own, - for standard input. Unset: the message service of this program."`
}

// program is the contract; own says that it is the one of this program's services.
func (f contractFlags) program() (p *contract.Program, own bool, err error) {
	if f.Image == "" {
		p, err = program()
		return p, true, err
	}
	described, err := servicesOf(f.Image)
	if err != nil {
		return nil, false, err
	}
	p, err = contract.Compile(described...)
	return p, false, err
}

// servicesOf reads the services of an image that have a contract.
func servicesOf(file string) ([]protoreflect.ServiceDescriptor, error) {
	image, err := readInput(file)
	if err != nil {
		return nil, err
	}
	described, err := contract.ImageServices(image)
	if err == nil && len(described) == 0 {
		err = errors.New("no service of the image has options of freshet.v1: is it the image of your protos?")
	}
	return described, err
}

// program is their contract.
func program() (*contract.Program, error) { return contract.Compile(services()...) }
