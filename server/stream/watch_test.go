package stream

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/freshet-dev/freshet"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
)

// protocols are the ways to call an RPC.
var protocols = map[string]struct {
	via  transport
	opts []connect.ClientOption
}{
	"gRPC":                  {h2c, []connect.ClientOption{connect.WithGRPC()}},
	"gRPC with TLS":         {h2tls, []connect.ClientOption{connect.WithGRPC()}},
	"gRPC-Web":              {h1, []connect.ClientOption{connect.WithGRPCWeb()}},
	"Connect over HTTP/1.1": {h1, nil},
	"Connect, JSON":         {h2c, []connect.ClientOption{connect.WithProtoJSON()}},
}

func (s *site) watch(ctx context.Context, t testing.TB, req *freshetv1.WatchRequest, opts ...connect.ClientOption) *connect.ServerStreamForClient[freshetv1.WatchResponse] {
	t.Helper()
	client := freshetv1connect.NewInvalidationServiceClient(s.client, s.url, opts...)
	stream, err := client.Watch(ctx, connect.NewRequest(req))
	require.NoError(t, err)
	return stream
}

func receive(t testing.TB, stream *connect.ServerStreamForClient[freshetv1.WatchResponse]) *freshetv1.WatchResponse {
	t.Helper()
	require.True(t, stream.Receive(), "%v", stream.Err())
	return stream.Msg()
}

func TestWatch_tellsAsTheEventsDo(t *testing.T) {
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, protocol.via, Config{Contract: "c0ffee", Heartbeat: serverTimeout + 500*time.Millisecond})
			s.publish(110, "a")
			stream := s.watch(t.Context(), t, &freshetv1.WatchRequest{
				Topics: []string{"a", "b", "a"}, Since: at(100).String(),
				SinceByTopic: map[string]string{"b": at(110).String()}, Throttle: durationpb.New(0),
			}, protocol.opts...)
			caught := receive(t, stream).GetInvalidate()
			require.Equal(t, []string{"a"}, caught.GetTopics())
			require.Equal(t, "no", stream.ResponseHeader().Get("X-Accel-Buffering"), "nginx would keep it")
			require.Equal(t, at(110).String(), caught.GetRevision())
			ready := receive(t, stream).GetReady()
			require.Equal(t, at(110).String(), ready.GetRevision())
			require.EqualValues(t, 2, ready.GetTopics())
			require.Equal(t, "c0ffee", ready.GetContract())
			require.EqualValues(t, 2500, ready.GetHeartbeatMs())
			s.publish(120, "b")
			require.Equal(t, at(120).String(), receive(t, stream).GetInvalidate().GetRevision())
			if name == "gRPC" { // and it outlives the server's timeouts
				require.Equal(t, at(120).String(), receive(t, stream).GetFrontier().GetRevision())
			}
			next := freshet.Revision{Epoch: 8, Position: 3}
			s.hub.Begin(next)
			s.hub.Serve(next)
			reset := receive(t, stream).GetReset_()
			require.Equal(t, next.String(), reset.GetRevision())
			require.Equal(t, "epoch", reset.GetReason())

			require.NoError(t, s.server.Shutdown(t.Context(), 0))
			require.Equal(t, next.String(), receive(t, stream).GetFrontier().GetRevision())
			require.False(t, stream.Receive())
			require.Equal(t, connect.CodeUnavailable, connect.CodeOf(stream.Err()))
			requireRetryInfo(t, stream.Err())
			require.NoError(t, stream.Close())
		})
	}
}

func requireRetryInfo(t testing.TB, err error) {
	t.Helper()
	var known *connect.Error
	require.ErrorAs(t, err, &known)
	require.Len(t, known.Details(), 1)
	value, err := known.Details()[0].Value()
	require.NoError(t, err)
	require.Positive(t, value.(*errdetails.RetryInfo).GetRetryDelay().AsDuration())
}

func TestWatch_refusals(t *testing.T) {
	s := newSite(t, h2c, Config{
		MaxTopics: 2, MaxConnections: 1,
		Authorize: func(_ context.Context, topics []string) error {
			if topics[0] == "secret" {
				return connect.NewError(connect.CodePermissionDenied, errors.New("no grant on secret"))
			}
			return nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	try := func(want connect.Code, req *freshetv1.WatchRequest) error {
		t.Helper()
		stream := s.watch(ctx, t, req, connect.WithGRPC())
		require.False(t, stream.Receive())
		require.Equal(t, want, connect.CodeOf(stream.Err()), "%v", stream.Err())
		err := stream.Err()
		require.NoError(t, stream.Close())
		return err
	}
	a := []string{"a"}
	try(connect.CodeInvalidArgument, &freshetv1.WatchRequest{})
	try(connect.CodeInvalidArgument, &freshetv1.WatchRequest{Topics: []string{"a\nb"}})
	try(connect.CodeInvalidArgument, &freshetv1.WatchRequest{Topics: a, Since: "1"})
	try(connect.CodeInvalidArgument, &freshetv1.WatchRequest{Topics: a, SinceByTopic: map[string]string{"b": at(1).String()}})
	try(connect.CodeInvalidArgument, &freshetv1.WatchRequest{Topics: a, Throttle: durationpb.New(11 * time.Second)})
	try(connect.CodeInvalidArgument, &freshetv1.WatchRequest{Topics: a, Throttle: durationpb.New(-1)})
	try(connect.CodeInvalidArgument, &freshetv1.WatchRequest{Topics: a, Throttle: &durationpb.Duration{Nanos: -1 << 31}})
	try(connect.CodeResourceExhausted, &freshetv1.WatchRequest{Topics: []string{"a", "b", "c"}})
	try(connect.CodePermissionDenied, &freshetv1.WatchRequest{Topics: []string{"secret"}})

	open := s.watch(ctx, t, &freshetv1.WatchRequest{Topics: a}, connect.WithGRPC())
	require.NotNil(t, receive(t, open).GetReady())
	requireRetryInfo(t, try(connect.CodeResourceExhausted, &freshetv1.WatchRequest{Topics: a}))
	cancel()
	require.False(t, open.Receive())
	require.Eventually(t, func() bool { return s.hub.Stats().Subscriptions == 0 }, 10*time.Second, time.Millisecond)
	ctx = t.Context()
	s.hub.Begin(at(200))
	requireRetryInfo(t, try(connect.CodeUnavailable, &freshetv1.WatchRequest{Topics: a}))
}

func TestWatch_longListsAreSplit(t *testing.T) {
	s := newSite(t, h2c, Config{})
	topics := bigTopics()
	stream := s.watch(t.Context(), t, &freshetv1.WatchRequest{Topics: topics}, connect.WithGRPC())
	require.NotNil(t, receive(t, stream).GetReady())
	s.publish(110, topics...)
	var got []string
	for {
		part := receive(t, stream).GetInvalidate()
		got = append(got, part.GetTopics()...)
		if part.GetRevision() != "" {
			require.Equal(t, at(110).String(), part.GetRevision())
			break
		}
	}
	require.ElementsMatch(t, topics, got)
	require.NoError(t, s.server.Shutdown(t.Context(), 0))
	require.NoError(t, stream.Close())
}

// A reader that doesn't drain is cut here too.
func TestWatch_stalledReaderIsCut(t *testing.T) {
	s := newSite(t, h2c, Config{WriteTimeout: 500 * time.Millisecond})
	topics := bigTopics()
	stream := s.watch(t.Context(), t, &freshetv1.WatchRequest{Topics: topics, Throttle: durationpb.New(0)},
		connect.WithGRPC(), connect.WithAcceptCompression("gzip", nil, nil)) // compressed, they would fill no window
	require.NotNil(t, receive(t, stream).GetReady())
	p := uint64(100)
	require.Eventually(t, func() bool {
		p++
		s.publish(p, topics...)
		return s.hub.Stats().Subscriptions == 0
	}, 30*time.Second, time.Millisecond)
	for stream.Receive() {
	}
	require.Error(t, stream.Err())
	require.NoError(t, stream.Close())
}

// Where no deadlines can be set on the response, there is no stream.
func TestWatch_needsDeadlines(t *testing.T) {
	f := newFixture(t, Config{})
	_, bare := freshetv1connect.NewInvalidationServiceHandler(watch{f.server})
	_, wrapped := f.server.WatchHandler()
	for _, handler := range []http.Handler{bare, wrapped} {
		client := freshetv1connect.NewInvalidationServiceClient(inProcess{handler}, "http://x")
		stream, err := client.Watch(t.Context(), connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{"a"}}))
		require.NoError(t, err)
		require.False(t, stream.Receive())
		require.Equal(t, connect.CodeInternal, connect.CodeOf(stream.Err()))
		require.NoError(t, stream.Close())
	}
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/events?topic=a", nil))
	require.Equal(t, http.StatusInternalServerError, w.Code)
}

var _ connect.HTTPClient = inProcess{}

// inProcess calls a handler without a network.
type inProcess struct{ http.Handler }

func (h inProcess) Do(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w.Result(), nil
}
