package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/freshet-dev/freshet"
)

// pingServer answers /ping by fn, over h1 and h2.
func pingServer(t *testing.T, fn func(http.Header) (http.Header, error)) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/ping", connect.NewUnaryHandler("/ping",
		func(_ context.Context, req *connect.Request[emptypb.Empty]) (*connect.Response[emptypb.Empty], error) {
			header, err := fn(req.Header())
			if err != nil {
				cerr := connect.NewError(connect.CodeNotFound, err)
				for k, v := range header {
					cerr.Meta()[k] = v
				}
				return nil, cerr
			}
			resp := connect.NewResponse(&emptypb.Empty{})
			for k, v := range header {
				resp.Header()[k] = v
			}
			return resp, nil
		}, connect.WithIdempotency(connect.IdempotencyNoSideEffects)))
	s := httptest.NewUnstartedServer(mux)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() {
		s.Client().CloseIdleConnections()
		s.Close()
	})
	return s
}

var protocols = map[string][]connect.ClientOption{
	"connect":     nil,
	"connect get": {connect.WithHTTPGet()},
	"grpc":        {connect.WithGRPC()},
	"grpc-web":    {connect.WithGRPCWeb()},
	"json":        {connect.WithProtoJSON()},
}

func eachProtocol(t *testing.T, s *httptest.Server, fn func(*testing.T, *connect.Client[emptypb.Empty, emptypb.Empty])) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			fn(t, connect.NewClient[emptypb.Empty, emptypb.Empty](s.Client(), s.URL+"/ping",
				append(opts, connect.WithInterceptors(NewInterceptor()),
					connect.WithIdempotency(connect.IdempotencyNoSideEffects))...))
		})
	}
}

func TestInterceptor_stampsOfSuccessAndError(t *testing.T) {
	var fail bool
	s := pingServer(t, func(asked http.Header) (http.Header, error) {
		h := http.Header{
			headerRevision: {asked.Get(headerAtLeast)},
			headerTopics:   {"messages,a/%25,b%2Cc"},
		}
		if fail {
			return h, errors.New("no such message")
		}
		return h, nil
	})
	for _, fail = range []bool{false, true} {
		eachProtocol(t, s, func(t *testing.T, c *connect.Client[emptypb.Empty, emptypb.Empty]) {
			var stamp Stamp
			ctx := CaptureStamp(AtLeast(AtLeast(t.Context(), rev(7)), rev(3)), &stamp)
			req := connect.NewRequest(&emptypb.Empty{})
			_, err := c.CallUnary(ctx, req)
			require.Equal(t, fail, connect.CodeOf(err) == connect.CodeNotFound)
			require.Equal(t, Stamp{Revision: rev(7), Topics: []string{"messages", "a/%", "b,c"}}, stamp)

			_, _ = c.CallUnary(Strong(ctx), req)
			require.Zero(t, stamp.Revision, "an empty header, and not the stamp of the call before")

			_, _ = c.CallUnary(CaptureStamp(ctx, nil), connect.NewRequest(&emptypb.Empty{}))
			_, _ = c.CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{}))
		})
	}
}

// F35: a header that isn't exactly one revision is unknown.
func TestInterceptor_doubledAndMalformed(t *testing.T) {
	for _, values := range [][]string{
		nil,
		{""},
		{"7"},
		{rev(7).String(), rev(7).String()},
		{rev(7).String() + ", " + rev(7).String()},
		{rev(7).String() + "0"},
		{"0000000A-0000000000000007"},
		{"00000000-0000000000000007"},
	} {
		s := pingServer(t, func(http.Header) (http.Header, error) {
			return http.Header{headerRevision: values, headerTopics: {"a,%zz"}}, nil
		})
		eachProtocol(t, s, func(t *testing.T, c *connect.Client[emptypb.Empty, emptypb.Empty]) {
			stamp := Stamp{Revision: rev(1)}
			_, err := c.CallUnary(CaptureStamp(t.Context(), &stamp), connect.NewRequest(&emptypb.Empty{}))
			require.NoError(t, err)
			require.Equal(t, Stamp{}, stamp, "%q", values)
		})
	}
}

// No answer at all has no stamp either, not the last one's.
func TestInterceptor_unreachable(t *testing.T) {
	s := pingServer(t, nil)
	c := connect.NewClient[emptypb.Empty, emptypb.Empty](s.Client(), s.URL+"/nowhere",
		connect.WithInterceptors(NewInterceptor()))
	stamp := Stamp{Revision: rev(1)}
	_, err := c.CallUnary(CaptureStamp(t.Context(), &stamp), connect.NewRequest(&emptypb.Empty{}))
	require.Equal(t, connect.CodeUnimplemented, connect.CodeOf(err))
	require.Zero(t, stamp)
}

func TestInterceptor_streamAsksAtLeast(t *testing.T) {
	asked := make(chan string, 1)
	mux := http.NewServeMux()
	mux.Handle("/stream", connect.NewServerStreamHandler("/stream",
		func(_ context.Context, req *connect.Request[emptypb.Empty], out *connect.ServerStream[emptypb.Empty]) error {
			asked <- req.Header().Get(headerAtLeast)
			return out.Send(&emptypb.Empty{})
		}))
	s := httptest.NewServer(mux)
	defer s.Close()
	defer s.Client().CloseIdleConnections()
	c := connect.NewClient[emptypb.Empty, emptypb.Empty](s.Client(), s.URL+"/stream",
		connect.WithInterceptors(NewInterceptor()))
	stream, err := c.CallServerStream(AtLeast(t.Context(), rev(7)), connect.NewRequest(&emptypb.Empty{}))
	require.NoError(t, err)
	require.True(t, stream.Receive())
	require.NoError(t, stream.Close())
	require.Equal(t, rev(7).String(), <-asked)
}

func FuzzDecodeTopics(f *testing.F) {
	for _, s := range []string{"", "a", "a,b", "a%2Cb", "%", ",", "a%0A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, topic := range decodeTopics(s) {
			require.NoError(t, freshet.CheckTopic(topic))
		}
	})
}

// A connection that breaks off isn't the caller's giving up, whichever way it breaks,
// nor is what a server says of itself.
func TestInterceptor_connectionBreaksOff(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 9\r\n\r\n"
	const refusal = `{"code":"canceled","message":"unexpected EOF"}`
	for name, tt := range map[string]struct {
		answer string
		reset  bool
		want   connect.Code
	}{
		"reset":                {"", true, connect.CodeUnavailable},
		"closed":               {"", false, connect.CodeUnavailable},
		"closed in the answer": {head + "\x0a", false, connect.CodeUnavailable},
		"the server cancels":   {fmt.Sprintf("HTTP/1.1 499 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(refusal), refusal), false, connect.CodeCanceled},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					panic(err)
				}
				_, _ = io.WriteString(conn, tt.answer)
				if tt.reset {
					_ = conn.(*net.TCPConn).SetLinger(0)
				}
				_ = conn.Close()
			}))
			t.Cleanup(s.Close)
			c := connect.NewClient[emptypb.Empty, emptypb.Empty](s.Client(), s.URL+"/ping", connect.WithInterceptors(NewInterceptor()))
			_, err := c.CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{}))
			require.Equal(t, tt.want, connect.CodeOf(err), "%v", err)
		})
	}
}

func TestInterceptor_callerGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	c := connect.NewClient[emptypb.Empty, emptypb.Empty](s.Client(), s.URL+"/ping", connect.WithInterceptors(NewInterceptor()))
	_, err := c.CallUnary(ctx, connect.NewRequest(&emptypb.Empty{}))
	require.Equal(t, connect.CodeCanceled, connect.CodeOf(err), "%v", err)
	err = brokenOff(ctx, connect.NewError(connect.CodeCanceled, syscall.ECONNRESET))
	require.Equal(t, connect.CodeCanceled, connect.CodeOf(err), "its connection may go with it")
}
