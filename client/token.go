package client

import (
	"context"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
)

type staleKey struct{}

// StaleToken returns the token that a token source is asked to replace, from the
// context that it is asked with: one that the server has refused, or that expires soon.
// A source that keeps its token has to fetch another one then. Empty: any will do.
func StaleToken(ctx context.Context) string {
	token, _ := ctx.Value(staleKey{}).(string)
	return token
}

func withStale(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return context.WithValue(ctx, staleKey{}, token)
}

// Interceptor returns [NewInterceptor], and sends the client's token with each call. A
// call that is refused as `unauthenticated` has not been looked at: it is sent once
// more, if the token source has another token. An error of the source is the call's,
// with that code.
//
//	messages := messagesv1connect.NewMessageServiceClient(http.DefaultClient, url,
//		connect.WithInterceptors(c.Interceptor()))
func (c *Client) Interceptor() connect.Interceptor { return bearer{client: c} }

// bearer lies around interceptor, which is next to the transport.
type bearer struct {
	interceptor

	client *Client
}

func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	next = b.interceptor.WrapUnary(next)
	if b.client.token == nil {
		return next
	}
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if !req.Spec().IsClient {
			return next(ctx, req)
		}
		token, err := b.authorize(ctx, req.Header(), "")
		if err != nil {
			return nil, err
		}
		resp, err := next(ctx, req)
		if connect.CodeOf(err) != connect.CodeUnauthenticated || token == "" {
			return resp, err
		}
		if fresh, sourceErr := b.authorize(ctx, req.Header(), token); sourceErr != nil || fresh == token {
			return resp, err
		}
		return next(ctx, req)
	}
}

func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	next = b.interceptor.WrapStreamingClient(next)
	if b.client.token == nil {
		return next
	}
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		if _, err := b.authorize(ctx, conn.RequestHeader(), ""); err != nil {
			return unsent{conn, err}
		}
		return conn
	}
}

// authorize puts a token into a request's header: of the calls, another than stale.
func (b bearer) authorize(ctx context.Context, h http.Header, stale string) (token string, err error) {
	if token, err = b.client.token(withStale(ctx, stale)); err != nil {
		return "", connect.NewError(connect.CodeUnauthenticated, fmt.Errorf("token: %w", err))
	}
	b.client.sent.note(token)
	if token == "" {
		h.Del("Authorization")
	} else {
		h.Set("Authorization", "Bearer "+token)
	}
	return token, nil
}

// unsent is a call that has no token.
type unsent struct {
	connect.StreamingClientConn

	err error
}

func (u unsent) Send(any) error { return u.err }
