package messages_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/validate"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/store"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// fixture is the service over HTTP on a database of its own.
type fixture struct {
	t      testing.TB
	url    string
	db     *store.DB
	client messagesv1connect.MessageServiceClient
}

// serve starts the service, validated as the server does it.
func serve(t testing.TB, options ...connect.ClientOption) *fixture {
	t.Helper()
	f := newFixture(t)
	_, handler := messages.Handler(f.db, connect.WithInterceptors(validate.NewInterceptor()))
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	f.client = messagesv1connect.NewMessageServiceClient(&http.Client{Transport: transport}, server.URL, options...)
	return f
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, url: testkit.Template(t, "migrated", prepare)}
	var err error
	f.db, err = store.Open(testkit.Context(t), store.Config{URL: f.url, Logger: testkit.Logger(t)})
	require.NoError(t, err)
	t.Cleanup(f.db.Close)
	return f
}

func prepare(ctx context.Context, url string) error {
	if err := testkit.Migrate(ctx, url); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `insert into freshet.incarnation values (true, 1, 'test', 1, pg_postmaster_start_time())`)
	return err
}

func (f *fixture) ctx() context.Context { return testkit.Context(f.t) }

// create makes a message and returns it.
func (f *fixture) create(conversation, body string) *messagesv1.Message {
	f.t.Helper()
	resp, err := f.client.CreateMessage(f.ctx(), connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent:  "conversations/" + conversation,
		Message: &messagesv1.Message{Author: "ann", Body: body},
	}))
	require.NoError(f.t, err)
	return resp.Msg.GetMessage()
}

func (f *fixture) get(name string) (*messagesv1.Message, error) {
	resp, err := f.client.GetMessage(f.ctx(), connect.NewRequest(&messagesv1.GetMessageRequest{Name: name}))
	if err != nil {
		return nil, err
	}
	return resp.Msg.GetMessage(), nil
}

func (f *fixture) update(message *messagesv1.Message) (*messagesv1.Message, error) {
	resp, err := f.client.UpdateMessage(f.ctx(), connect.NewRequest(&messagesv1.UpdateMessageRequest{Message: message}))
	if err != nil {
		return nil, err
	}
	return resp.Msg.GetMessage(), nil
}

func (f *fixture) delete(name, etag string) error {
	_, err := f.client.DeleteMessage(f.ctx(), connect.NewRequest(&messagesv1.DeleteMessageRequest{Name: name, Etag: etag}))
	return err
}

// detail returns the first detail of this kind on an error, which must have the
// code.
func detail[T proto.Message](t testing.TB, code connect.Code, err error) T {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, connect.CodeOf(err), "%v", err)
	var cerr *connect.Error
	require.ErrorAs(t, err, &cerr)
	for _, d := range cerr.Details() {
		value, err := d.Value()
		require.NoError(t, err)
		if v, ok := value.(T); ok {
			return v
		}
	}
	var none T
	require.Fail(t, "no such detail", "%T in %v", none, err)
	return none
}

// requireField checks that an error is about this field of the request.
func requireField(t testing.TB, field string, err error) {
	t.Helper()
	violations := detail[*errdetails.BadRequest](t, connect.CodeInvalidArgument, err).GetFieldViolations()
	require.Len(t, violations, 1)
	require.Equal(t, field, violations[0].GetField())
	require.NotEmpty(t, violations[0].GetDescription())
}
