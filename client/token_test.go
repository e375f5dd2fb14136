package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/emptypb"
)

// guarded serves a unary and a streaming call to whoever has the token that counts.
func guarded(t *testing.T, counts func() string) (s *httptest.Server, sent *[]string) {
	t.Helper()
	sent = new([]string)
	look := func(h http.Header) error {
		*sent = append(*sent, h.Get("Authorization"))
		if h.Get("Authorization") != "Bearer "+counts() {
			return connect.NewError(connect.CodeUnauthenticated, errors.New("who are you"))
		}
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("/ping", connect.NewUnaryHandler("/ping", func(_ context.Context, req *connect.Request[emptypb.Empty]) (*connect.Response[emptypb.Empty], error) {
		return connect.NewResponse(&emptypb.Empty{}), look(req.Header())
	}))
	mux.Handle("/pings", connect.NewServerStreamHandler("/pings", func(_ context.Context, req *connect.Request[emptypb.Empty], _ *connect.ServerStream[emptypb.Empty]) error {
		return look(req.Header())
	}))
	s = httptest.NewServer(mux)
	t.Cleanup(func() {
		s.Client().CloseIdleConnections()
		s.Close()
	})
	return s, sent
}

// A read whose token has just expired is sent once more with a fresh one; one that no
// token helps is not sent for ever.
func TestInterceptor_token(t *testing.T) {
	failed := errors.New("the issuer is down")
	for name, tt := range map[string]struct {
		source func(n int, stale string) (string, error)
		sent   []string
		code   connect.Code
		err    error
	}{
		"good":    {func(int, string) (string, error) { return "good", nil }, []string{"Bearer good"}, 0, nil},
		"expired": {func(n int, _ string) (string, error) { return []string{"", "old", "good"}[n], nil }, []string{"Bearer old", "Bearer good"}, 0, nil},
		"kept until stale": {func(_ int, stale string) (string, error) {
			return map[string]string{"": "old", "old": "good"}[stale], nil
		}, []string{"Bearer old", "Bearer good"}, 0, nil},
		"the same":     {func(int, string) (string, error) { return "old", nil }, []string{"Bearer old"}, connect.CodeUnauthenticated, nil},
		"never good":   {func(n int, _ string) (string, error) { return fmt.Sprint(n), nil }, []string{"Bearer 1", "Bearer 2"}, connect.CodeUnauthenticated, nil},
		"none":         {func(int, string) (string, error) { return "", nil }, []string{""}, connect.CodeUnauthenticated, nil},
		"no source":    {nil, []string{""}, connect.CodeUnauthenticated, nil},
		"source fails": {func(int, string) (string, error) { return "", failed }, nil, connect.CodeUnauthenticated, failed},
		"source fails then": {func(n int, _ string) (string, error) {
			if n > 1 {
				return "", failed
			}
			return "old", nil
		}, []string{"Bearer old"}, connect.CodeUnauthenticated, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, sent := guarded(t, func() string { return "good" })
			var opts []Option
			if asked := 0; tt.source != nil {
				opts = append(opts, WithTokenSource(func(ctx context.Context) (string, error) {
					asked++
					return tt.source(asked, StaleToken(ctx))
				}))
			}
			c, err := New(s.URL, opts...)
			require.NoError(t, err)
			ping := connect.NewClient[emptypb.Empty, emptypb.Empty](s.Client(), s.URL+"/ping", connect.WithInterceptors(c.Interceptor()))
			_, err = ping.CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{}))
			require.Equal(t, tt.sent, *sent)
			if tt.code == 0 {
				require.NoError(t, err)
			} else {
				require.Equal(t, tt.code, connect.CodeOf(err))
			}
			if tt.err != nil {
				require.ErrorIs(t, err, tt.err)
			}
		})
	}
}

func TestInterceptor_tokenOfAStream(t *testing.T) {
	failed := errors.New("the issuer is down")
	s, sent := guarded(t, func() string { return "good" })
	var fails error
	c, err := New(s.URL, WithTokenSource(func(context.Context) (string, error) { return "good", fails }))
	require.NoError(t, err)
	pings := connect.NewClient[emptypb.Empty, emptypb.Empty](s.Client(), s.URL+"/pings", connect.WithInterceptors(c.Interceptor()))
	ask := func() error {
		stream, err := pings.CallServerStream(t.Context(), connect.NewRequest(&emptypb.Empty{}))
		if err != nil {
			return err
		}
		require.False(t, stream.Receive())
		return errors.Join(stream.Err(), stream.Close())
	}
	require.NoError(t, ask())
	require.Equal(t, []string{"Bearer good"}, *sent)
	fails = failed
	require.ErrorIs(t, ask(), failed)
	require.Len(t, *sent, 1)
}

// A token that is refused is replaced; a source that has no other one is wrong, unless
// the stream was up before.
func TestStream_tokenIsRefused(t *testing.T) {
	refuses := func(e *pipeEnd) { e.fail(http.StatusUnauthorized, nil) }
	opens := func(e *pipeEnd) { e.open(); e.send(readyFrame(rev(1), time.Minute)) }
	_, network := renewing(t, nil, 3, refuses, opens)
	require.Equal(t, []string{"1", "2"}, network.tokens)

	same := func(context.Context, int) (string, error) { return "same", nil }
	_, network = renewing(t, same, 7, opens, refuses, refuses, refuses, opens)
	require.Equal(t, []string{"same", "same", "same", "same", "same"}, network.tokens)

	f := newFakeServer(t, func(c *wire) { c.fail(http.StatusUnauthorized, `{"code":"unauthenticated"}`) })
	var stale []string
	err := quick(t, f, WithTokenSource(func(ctx context.Context) (string, error) {
		stale = append(stale, StaleToken(ctx))
		return "same", nil
	})).Stream(t.Context(), []string{"t"}, func(Event) error { return nil })
	var refused *StatusError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "unauthenticated", refused.Code)
	require.Equal(t, []string{"", "same"}, stale)
}
