package intercept

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const epoch = 7

func at(position uint64) freshet.Revision {
	return freshet.Revision{Epoch: epoch, Position: position}
}

// primary is a hand-made Primary: a database at a position.
type primary struct {
	mu      sync.Mutex
	insert  freshet.Revision
	err     error
	asked   int
	nudged  chan struct{} // closed by the first Nudge
	once    sync.Once
	onNudge func()
}

func (p *primary) InsertPosition(context.Context) (freshet.Revision, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return p.insert, p.err
}

func (p *primary) Nudge() {
	p.once.Do(func() {
		close(p.nudged)
		if p.onNudge != nil {
			p.onNudge()
		}
	})
}

func (p *primary) statements() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// settler is a hand-made Settler; tests hand commits to the channels.
type settler struct {
	mu        sync.Mutex
	commits   map[uint64]chan freshet.Commit
	forgotten int
}

func (s *settler) Expect(xid uint64) (<-chan freshet.Commit, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan freshet.Commit, 1)
	s.commits[xid] = c
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.forgotten++
	}
}

func (s *settler) tell(xid uint64, c freshet.Commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits[xid] <- c
}

// handlers is a MessageService whose methods the tests set.
type handlers struct {
	messagesv1connect.UnimplementedMessageServiceHandler
	get    func(context.Context) (*messagesv1.GetMessageResponse, error)
	remove func(context.Context) error
}

func (h *handlers) GetMessage(ctx context.Context, _ *connect.Request[messagesv1.GetMessageRequest]) (*connect.Response[messagesv1.GetMessageResponse], error) {
	resp, err := h.get(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

func (*handlers) ListConversations(context.Context, *connect.Request[messagesv1.ListConversationsRequest]) (*connect.Response[messagesv1.ListConversationsResponse], error) {
	return connect.NewResponse(new(messagesv1.ListConversationsResponse)), nil
}

func (h *handlers) DeleteMessage(ctx context.Context, _ *connect.Request[messagesv1.DeleteMessageRequest]) (*connect.Response[messagesv1.DeleteMessageResponse], error) {
	if err := h.remove(ctx); err != nil {
		return nil, err
	}
	return connect.NewResponse(new(messagesv1.DeleteMessageResponse)), nil
}

// rig is a server of the message service behind our interceptors, over a real
// hub at frontier 100 and a database at position 200.
type rig struct {
	hub      *hub.Hub
	primary  *primary
	settler  *settler
	handlers *handlers
	url      string
	http     *http.Client
	client   messagesv1connect.MessageServiceClient
	log      *testkit.Buffer
}

func messageService() *contract.Program {
	p, err := contract.Compile(messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"))
	if err != nil {
		panic(err)
	}
	return p
}

func newRig(t *testing.T, change func(*Config), clientOptions ...connect.ClientOption) *rig {
	t.Helper()
	r := &rig{
		hub:     hub.New(hub.Config{}),
		primary: &primary{insert: at(200), nudged: make(chan struct{})},
		settler: &settler{commits: map[uint64]chan freshet.Commit{}},
		handlers: &handlers{
			get: func(context.Context) (*messagesv1.GetMessageResponse, error) {
				return new(messagesv1.GetMessageResponse), nil
			},
			remove: func(context.Context) error { return nil },
		},
		log: new(testkit.Buffer),
	}
	r.hub.Begin(at(50))
	r.hub.Serve(at(100))
	r.hub.Current(time.Now().Add(time.Hour)) // no lag
	cfg := Config{
		Contract: messageService(),
		Hub:      r.hub,
		Primary:  r.primary,
		Settler:  r.settler,
		MaxWait:  20 * time.Second, // whoever waits for it fails the test's own deadline
		Logger:   slog.New(slog.NewTextHandler(r.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	path, h := messagesv1connect.NewMessageServiceHandler(r.handlers, Options(cfg)...)
	mux := http.NewServeMux()
	mux.Handle(path, h)
	verify := func(r *http.Request) (Principal, error) { return Principal{Subject: r.Header.Get("Test-User")}, nil }
	server := httptest.NewUnstartedServer(RequestID(NewAuthenticator(verify, cfg.Logger, nil).Wrap(Procedures(procedures(cfg.Contract), mux))))
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server.Config.Protocols = &protocols
	server.Start()
	t.Cleanup(server.Close)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	r.url, r.http = server.URL, &http.Client{Transport: transport}
	r.client = messagesv1connect.NewMessageServiceClient(r.http, r.url, clientOptions...)
	return r
}

func procedures(program *contract.Program) []string {
	var all []string
	for _, m := range program.Methods() {
		all = append(all, m.Procedure)
	}
	return all
}

var _ Hub = (*hub.Hub)(nil)

const name = "conversations/c/messages/01890a5d-ac96-774b-bcce-b302099a8057"

func getRequest(atLeast ...string) *connect.Request[messagesv1.GetMessageRequest] {
	req := connect.NewRequest(&messagesv1.GetMessageRequest{Name: name})
	for _, line := range atLeast {
		req.Header().Add(HeaderAtLeast, line)
	}
	return req
}

func deleteRequest() *connect.Request[messagesv1.DeleteMessageRequest] {
	return connect.NewRequest(&messagesv1.DeleteMessageRequest{Name: name})
}

// get calls GetMessage and returns the stamp.
func (r *rig) get(t *testing.T, atLeast ...string) (string, error) {
	t.Helper()
	resp, err := r.client.GetMessage(t.Context(), getRequest(atLeast...))
	if err != nil {
		return errorHeader(t, err, HeaderRevision), err
	}
	return resp.Header().Get(HeaderRevision), nil
}

func errorHeader(t *testing.T, err error, key string) string {
	t.Helper()
	var cerr *connect.Error
	require.ErrorAs(t, err, &cerr)
	return cerr.Meta().Get(key)
}

func requireCode(t *testing.T, code connect.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, connect.CodeOf(err), err.Error())
}

// detail finds an error detail of the type of want.
func detail[T proto.Message](t *testing.T, err error) T {
	t.Helper()
	var cerr *connect.Error
	require.ErrorAs(t, err, &cerr)
	for _, d := range cerr.Details() {
		value, err := d.Value()
		require.NoError(t, err)
		if found, ok := value.(T); ok {
			return found
		}
	}
	require.Fail(t, "no such detail", "in %v", cerr)
	panic("unreachable")
}

// Guards against an option that is forgotten in one protocol.
func eachProtocol(t *testing.T, test func(t *testing.T, options ...connect.ClientOption)) {
	t.Run("connect", func(t *testing.T) { test(t) })
	t.Run("connect json", func(t *testing.T) { test(t, connect.WithProtoJSON()) })
	t.Run("grpc", func(t *testing.T) { test(t, connect.WithGRPC()) })
	t.Run("grpc-web", func(t *testing.T) { test(t, connect.WithGRPCWeb()) })
}

// waitFor fails the test when ch isn't ready in time.
func waitFor[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(30 * time.Second):
		require.FailNow(t, "timed out waiting for "+what)
		panic("unreachable")
	}
}
