package intercept

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
)

type principalKey struct{}

// PrincipalOf returns the caller; without an Authenticate middleware, nobody.
func PrincipalOf(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// Remember returns a context of its own with ctx's caller, and nothing else of it.
func Remember(ctx context.Context) context.Context {
	p, known := ctx.Value(principalKey{}).(Principal)
	if !known {
		return context.Background()
	}
	return context.WithValue(context.Background(), principalKey{}, p)
}

// isKnown reports whether Authenticate has looked at who calls. If not, nobody
// can say whether two calls are of one principal: a handler may well look at
// credentials that only it understands.
func isKnown(ctx context.Context) bool {
	_, ok := ctx.Value(principalKey{}).(Principal)
	return ok
}

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
