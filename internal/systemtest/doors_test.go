package systemtest_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// door is a way to ask something of the main port, with whatever credentials.
type door struct {
	name string
	rpc  bool // its status is 200, whatever the code
	ask  func(t *testing.T, url string, header http.Header) answer
}

// answer is what came back. Of those that are no RPC, code is what the body says.
type answer struct {
	code      connect.Code // 0: it went well
	status    int          // 0: gRPC's own client doesn't tell
	challenge string
	text      string
}

// doors are all the ways in.
func doors() []door {
	list := func(options ...connect.ClientOption) func(t *testing.T, url string, header http.Header) answer {
		return func(t *testing.T, url string, header http.Header) answer {
			seen := &witness{header: header, next: transport(t, true).Transport}
			_, err := messagesv1connect.NewMessageServiceClient(&http.Client{Transport: seen}, url, options...).
				ListConversations(testkit.Context(t), connect.NewRequest(new(messagesv1.ListConversationsRequest)))
			return seen.answer(t, err)
		}
	}
	watch := func(options ...connect.ClientOption) func(t *testing.T, url string, header http.Header) answer {
		return func(t *testing.T, url string, header http.Header) answer {
			seen := &witness{header: header, next: transport(t, true).Transport}
			ctx, cancel := context.WithCancel(testkit.Context(t))
			defer cancel()
			stream, err := freshetv1connect.NewInvalidationServiceClient(&http.Client{Transport: seen}, url, options...).
				Watch(ctx, connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{"messages"}}))
			require.NoError(t, err)
			for stream.Receive() {
				if stream.Msg().GetReady() != nil {
					return seen.answer(t, nil)
				}
				require.NotNil(t, stream.Msg().GetInvalidate(), "what changes while a stream begins")
			}
			return seen.answer(t, stream.Err())
		}
	}
	fetch := func(path string) func(t *testing.T, url string, header http.Header) answer {
		return func(t *testing.T, url string, header http.Header) answer { return get(t, url+path, header) }
	}
	return []door{
		{"Connect JSON", false, list(connect.WithProtoJSON())},
		{"Connect proto", false, list()},
		{"Connect GET", false, list(connect.WithHTTPGet())},
		{"gRPC", true, list(connect.WithGRPC())},
		{"gRPC-Web", true, list(connect.WithGRPCWeb())},
		{"gRPC by its own client", true, grpcList},
		{"SSE", false, fetch("/events?topic=messages")},
		{"Watch, Connect", true, watch()},
		{"Watch, gRPC", true, watch(connect.WithGRPC())},
		{"Watch, gRPC-Web", true, watch(connect.WithGRPCWeb())},
		{"reflection", true, reflect},
		{"page", false, fetch("/")},
		{"a file that isn't there", false, fetch("/assets/none.js")},
		{"a procedure that isn't there", false, fetch("/messages.v1.MessageService/None")},
	}
}

// witness adds headers to a request and remembers how it was answered.
type witness struct {
	header http.Header
	next   http.RoundTripper
	got    *http.Response
}

func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	for name, values := range w.header {
		r.Header[name] = values
	}
	var err error
	w.got, err = w.next.RoundTrip(r)
	return w.got, err
}

func (w *witness) answer(t *testing.T, err error) answer {
	t.Helper()
	require.NotNil(t, w.got, "%v", err)
	a := answer{status: w.got.StatusCode, challenge: w.got.Header.Get("WWW-Authenticate")}
	var known *connect.Error
	if err != nil {
		require.ErrorAs(t, err, &known)
		a.code, a.text = known.Code(), known.Message()
	}
	return a
}

// get reads something by HTTP; of a stream, its first event.
func get(t *testing.T, url string, header http.Header) answer {
	t.Helper()
	return send(t, http.MethodGet, url, "", header)
}

// send sends a body of JSON.
func send(t *testing.T, method, url, body string, header http.Header) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(testkit.Context(t), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := transport(t, false).Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	a := answer{status: resp.StatusCode, challenge: resp.Header.Get("WWW-Authenticate")}
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "event: ready") {
		}
		require.Contains(t, lines.Text(), "ready", "%v", lines.Err())
		return a
	}
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	a.text = string(text)
	for _, code := range []connect.Code{connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeInvalidArgument, connect.CodeUnavailable, connect.CodeResourceExhausted} {
		if strings.Contains(a.text, `"code":"`+code.String()+`"`) {
			a.code = code
		}
	}
	if a.status >= http.StatusBadRequest && a.code == connect.CodeUnauthenticated {
		require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	}
	return a
}

func grpcList(t *testing.T, url string, header http.Header) answer {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	sent := metadata.MD{}
	for name, values := range header {
		sent.Append(name, values...)
	}
	ctx := metadata.NewOutgoingContext(testkit.Context(t), sent)
	var told metadata.MD
	err = conn.Invoke(ctx, messagesv1connect.MessageServiceListConversationsProcedure,
		new(messagesv1.ListConversationsRequest), new(messagesv1.ListConversationsResponse), grpc.Header(&told))
	return answer{
		code: connect.Code(status.Code(err)), text: status.Convert(err).Message(), //nolint:gosec // one of sixteen
		challenge: strings.Join(told.Get("www-authenticate"), ","),
	}
}

func reflect(t *testing.T, url string, header http.Header) answer {
	t.Helper()
	seen := &witness{header: header, next: transport(t, true).Transport}
	client := grpcreflect.NewClient(&http.Client{Transport: seen}, url, connect.WithGRPC())
	stream := client.NewStream(testkit.Context(t))
	defer func() { _, _ = stream.Close() }() // as it was answered
	names, err := stream.ListServices()
	if err == nil {
		require.Contains(t, names, protoreflect.FullName(messagesv1connect.MessageServiceName))
	}
	var known *connect.Error
	if errors.As(err, &known) {
		err = known
	}
	return seen.answer(t, err)
}
