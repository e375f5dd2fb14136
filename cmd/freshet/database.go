package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

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

// judged is the contract that a command goes by.
type judged struct {
	*contract.Program
	own  bool   // it is the one of this program's services
	name string // for people
}

func (f contractFlags) program() (judged, error) {
	described, from := services(), " (built in)"
	if f.Image != "" {
		var err error
		if described, err = servicesOf(f.Image); err != nil {
			return judged{}, err
		}
		from = " from " + f.Image
		if f.Image == "-" {
			from = " from standard input"
		}
	}
	p, err := contract.Compile(described...)
	if err != nil {
		return judged{}, err
	}
	var names []string
	for _, sd := range described {
		names = append(names, cmp.Or(string(sd.ParentFile().Package()), string(sd.FullName())))
	}
	return judged{p, f.Image == "", strings.Join(slices.Compact(names), ", ") + from}, nil
}

// begin prints which contract a command goes by, and warns if the database looks like
// that of another. One that changes something doesn't, by the contract that is built
// in: whoever gives an image has said whose the database is.
func (j judged) begin(ctx context.Context, conn *setup.Conn, w io.Writer, publication string, changes bool) error {
	fmt.Fprintln(w, "-- contract:", oneLine.Replace(j.name))
	others, err := j.others(ctx, conn, publication)
	if err != nil || others == "" {
		return err
	}
	switch {
	case j.own && changes:
		return errors.New(others + "if they are a service's of your own, name its protos with --image (buf build -o image.binpb); if not, give a --publication of its own")
	case j.own:
		others += "if they are a service's of your own, what follows is not about it: name its protos with --image (buf build -o image.binpb)"
	default:
		others += "is the image that of the service which uses this database, and is that its --publication?"
	}
	fmt.Fprintln(w, "-- warning:", oneLine.Replace(others))
	return nil
}

// others says what the publication has, where none of it is this contract's.
func (j judged) others(ctx context.Context, conn *setup.Conn, publication string) (string, error) {
	tables, err := setup.OtherContract(ctx, conn, j.Program, publication)
	if err != nil || len(tables) == 0 {
		return "", err
	}
	return fmt.Sprintf("the publication %q has tables, and none of this contract: %s; ", publication, strings.Join(tables, ", ")), nil
}

// servicesOf reads the services of an image that have a contract.
func servicesOf(file string) ([]protoreflect.ServiceDescriptor, error) {
	image, err := readImage(file)
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
