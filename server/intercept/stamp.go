package intercept

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/store"
)

// stamp reads the frontier before a read's handler takes its snapshot, and
// stamps the answer with it: everything up to the frontier was proven visible
// before the snapshot was taken, so the snapshot contains it (G6).
//
// The store is told the stamp's epoch. Positions of two histories say nothing
// about each other, so an answer from a connection of another one is an error
// and carries no stamp. While there is no frontier, strong reads are answered and
// carry none either; what was asked for at-least a revision is refused, since
// nothing would say that the answer reaches it. A flight has read its frontier already (pinned).
func stamp(program *contract.Program, node Hub, audit *audit) connect.Interceptor {
	return unary(func(ctx context.Context, req connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
		if isWrite(program, req.Spec()) {
			return next(ctx, req)
		}
		r := replyOf(ctx)
		if !r.pinned {
			r.stamp = node.Frontier()
			if r.stamp.IsZero() && !r.atLeast.IsZero() {
				return nil, errNoFrontier() // it was lost since atLeast has seen it
			}
		}
		resp, err := next(withCall(ctx, &store.Call{Epoch: r.stamp.Epoch, Audit: audit.due(req.Spec().Procedure)}), req)
		if errors.Is(err, store.ErrEpoch) {
			r.stamp = freshet.Revision{}
		}
		return resp, err
	})
}

// callKey is where the inner interceptors find the call that the store was
// given; the store has no getter.
type callKey struct{}

func withCall(ctx context.Context, call *store.Call) context.Context {
	return context.WithValue(store.WithCall(ctx, call), callKey{}, call)
}
