package intercept

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
)

type principalKey struct{}

// PrincipalOf returns the caller; without an Authenticate middleware, nobody.
func PrincipalOf(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// isKnown reports whether Authenticate has looked at who calls. If not, nobody
// can say whether two calls are of one principal: a handler may well look at
// credentials that only it understands.
func isKnown(ctx context.Context) bool {
	_, ok := ctx.Value(principalKey{}).(Principal)
	return ok
}

// Authorize says whether the caller in ctx may read topics (or, with write,
// change them): nil, or a *connect.Error. It is asked by RPCs and by streams.
type Authorize func(ctx context.Context, topics []string, write bool) error

// Authenticate finds out who calls, for RPCs and streams alike, before
// anything of the request is decoded. verify returns a *connect.Error for a
// caller it refuses; nil admits everybody, and nobody is known. Of callers who
// aren't known, answers that aren't shared are neither kept nor given to others.
func Authenticate(verify func(*http.Request) (Principal, error), next http.Handler) http.Handler {
	if verify == nil {
		return next
	}
	errors := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		principal, err := verify(r)
		if err != nil {
			// The peer has gone if it can't be told.
			_ = errors.Write(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, principal)))
	})
}

// authorize asks for a grant on the topics that the contract derives from the
// request. A method that is not in the contract has none to ask for.
func authorize(allowed Authorize) step {
	return func(next handler) handler {
		return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
			message, ok := c.req.Any().(proto.Message)
			if allowed == nil || c.method == nil || !ok {
				return next(ctx, c)
			}
			topics, err := c.method.Topics(message)
			if err != nil {
				return nil, connect.NewError(connect.CodeInvalidArgument, err)
			}
			if err := allowed(ctx, topics, c.write); err != nil {
				return nil, err
			}
			return next(ctx, c)
		}
	}
}
