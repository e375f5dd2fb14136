package intercept

import (
	"context"

	"connectrpc.com/connect"
)

// forCaller has a method whose topics take claims of the caller as this one has it:
// all that follows, from grants to kept answers, sees no other caller's topics (G8).
// Who lacks a claim, or has one that no topic can hold, is refused before anything is
// looked up, with the same text whatever is stored: unauthenticated, if nobody is
// known to call.
func forCaller(next handler) handler {
	return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
		if c.method == nil || len(c.method.Claims()) == 0 {
			return next(ctx, c)
		}
		who := PrincipalOf(ctx)
		method, err := c.method.For(who.named())
		if err != nil {
			if !who.IsAnonymous() || len(who.Claims) > 0 {
				return nil, connect.NewError(connect.CodePermissionDenied, err)
			}
			refused := connect.NewError(connect.CodeUnauthenticated, err)
			refused.Meta().Set("WWW-Authenticate", "Bearer") // RFC 9110 section 15.5.2: a 401 has one
			return nil, refused
		}
		if c.method = method; !c.write {
			c.reply.caller = method.Caller()
		}
		return next(ctx, c)
	}
}
