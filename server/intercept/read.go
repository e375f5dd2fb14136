package intercept

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/server/reuse"
	"github.com/freshet-dev/freshet/store"
)

// read answers a read, by its own query or by what others have asked, and stamps
// the answer with a frontier from before the snapshot that it comes from:
// everything up to the frontier was proven visible before the snapshot was taken,
// so the snapshot contains it (G6). What a replica has answered is stamped with what
// that had replayed before its snapshot, if that is less.
//
// The store is told the stamp's epoch. Positions of two histories say nothing
// about each other, so an answer from a connection of another one is an error
// and carries no stamp. While there is no frontier, strong reads are answered and
// carry none either; what was asked for at-least a revision is refused, since
// nothing would say that the answer reaches it.
func read(reads *reuse.Reads, spelling func() *contract.Spelling, audit *audit, writing *writing) func(ask) handler {
	return func(next ask) handler {
		return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
			request, _ := c.req.Any().(proto.Message)
			req := c.req // the query may outlive the call
			own, shared := c.method != nil && !c.method.Shared, c.method != nil && c.method.Shared
			scope := ""
			who, known := Known(ctx)
			if own { // else nobody looks at it, and it is a digest of all claims
				scope = who.Scope()
			}
			answer, err := reads.Do(ctx, reuse.Read{
				Method: c.method, Request: request, Topics: c.topics, Scope: scope,
				AtLeast: c.atLeast, Spelling: spelling,
				Alone: audit.bars(c.procedure) || own && !known,
				Query: func(ctx context.Context, since reuse.Since) (connect.AnyResponse, freshet.Revision, error) {
					if shared {
						ctx = forEverybody(ctx)
					}
					procedure := req.Spec().Procedure
					asked := &store.Call{
						Epoch: since.Frontier.Epoch, AtLeast: since.AtLeast, Audit: audit.due(procedure),
						BeforeCommit: writing.found(ctx, procedure),
					}
					response, err := next(ctx, req, asked)
					start := since.Frontier
					if reached := asked.Reached(); !reached.IsZero() && reached.Less(start) {
						start = reached
					}
					return response, start, err
				},
			})
			c.reply.stamp, c.reply.from, c.reply.unkept = answer.Stamp, answer.From, answer.Unkept
			c.depends = answer.Topics
			if errors.Is(err, store.ErrEpoch) {
				c.reply.stamp = freshet.Revision{}
			}
			switch {
			case !c.atLeast.IsZero() && c.reply.stamp.IsZero() && isAboutData(ctx, err):
				// The frontier was lost since atLeast has seen it. "Not found" is an answer, too.
				return nil, hub.ErrNotServing
			case err != nil:
				return nil, err
			}
			return answer.Response, nil
		}
	}
}
