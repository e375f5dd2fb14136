package intercept

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet/contract"
)

// topicsOf finds out the topics of the request, once for all that follows. An error
// that says there are none is for whoever can't do without.
func topicsOf(next handler) handler {
	return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
		c.noTopics = errNoContract
		if message, ok := c.req.Any().(proto.Message); ok && c.method != nil {
			c.topics, c.noTopics = c.method.Topics(message)
		}
		return next(ctx, c)
	}
}

var errNoContract = errors.New("the contract doesn't know the method")

// spelled refuses a request whose topics no row can have, since it says a value
// otherwise than Postgres writes it: a handler that has Postgres read the value answers
// it like any other, and nothing would ever tell that the answer has changed (G2).
func spelled(spelling func() *contract.Spelling) step {
	return func(next handler) handler {
		return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
			if err := spelling().CheckRequest(c.method, c.topics); err != nil {
				return nil, TopicSpelling(err)
			}
			return next(ctx, c)
		}
	}
}
