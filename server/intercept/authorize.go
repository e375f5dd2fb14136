package intercept

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	"github.com/freshet-dev/freshet/server/grants"
)

// Authorize says whether somebody may do something with all of the topics, at least
// one: nil, or grants.ErrDenied. Any other error says that it can't be told now; its
// text is logged and goes no further. It is asked by RPCs and streams, by many at
// once, and has to heed ctx.
type Authorize func(ctx context.Context, who Principal, action grants.Action, topics []string) error

// maxAuthorize bounds one question to an Authorize.
const maxAuthorize = 5 * time.Second

// maxShown bounds the questions about the topics of one mutation's answer.
const maxShown = 64

// Authorizer asks an Authorize, and has one answer for all denials (G8). A nil
// *Authorizer allows everything. Use NewAuthorizer.
type Authorizer struct {
	allowed Authorize
	logger  *slog.Logger
	failing atomic.Bool // the last question had no answer, which was logged
}

// NewAuthorizer returns nil if everybody may everything.
func NewAuthorizer(allowed Authorize, logger *slog.Logger) *Authorizer {
	if allowed == nil {
		return nil
	}
	return &Authorizer{allowed: allowed, logger: logger}
}

// Ask returns nil or a *connect.Error: permission_denied, with the same text whether
// what was asked for exists or not; unavailable; or what ended ctx. Without topics
// nobody can say what would be granted, so that is denied.
func (a *Authorizer) Ask(ctx context.Context, who Principal, action grants.Action, topics []string) error {
	if a == nil {
		return nil
	}
	if len(topics) == 0 {
		return denied()
	}
	asking, cancel := context.WithTimeout(ctx, maxAuthorize)
	defer cancel()
	err := a.allowed(asking, who, action, topics)
	switch {
	case err == nil:
		a.failing.Store(false)
		return nil
	case isDenial(err):
		a.failing.Store(false)
		return denied()
	case ctx.Err() != nil:
		return translate(ctx, ctx.Err())
	}
	if !a.failing.Swap(true) { // once per outage
		a.logger.LogAttrs(ctx, slog.LevelError, "Authorize fails: nobody may anything meanwhile", slog.Any("error", err))
	}
	return unavailable("whether the caller may do this can't be told right now")
}

// isDenial: Connect's code says the same as ErrDenied, for those who have it from
// another service.
func isDenial(err error) bool {
	var known *connect.Error
	return errors.Is(err, grants.ErrDenied) || errors.As(err, &known) && known.Code() == connect.CodePermissionDenied
}

func denied() *connect.Error { return connect.NewError(connect.CodePermissionDenied, grants.ErrDenied) }

// shown returns those of a commit's topics that the caller may be told of. Nil, as
// for topics that aren't known: that can't be told now, or would take too many
// questions.
func (a *Authorizer) shown(ctx context.Context, topics []string) []string {
	if a == nil || len(topics) == 0 {
		return topics
	}
	who := PrincipalOf(ctx)
	err := a.Ask(ctx, who, grants.Subscribe, topics)
	if err == nil {
		return topics
	}
	if !isDenial(err) || len(topics) > maxShown {
		return nil
	}
	var granted []string
	for _, topic := range topics {
		err := a.Ask(ctx, who, grants.Subscribe, []string{topic})
		if err == nil {
			granted = append(granted, topic)
		} else if !isDenial(err) {
			return nil
		}
	}
	return granted
}

// authorize asks for a grant on the topics that the contract derives from the
// request. A method that the contract doesn't know has none: with an Authorizer it
// is denied, since nobody could say what it gives away.
func authorize(allowed *Authorizer) step {
	return func(next handler) handler {
		if allowed == nil {
			return next
		}
		return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
			switch {
			case errors.Is(c.noTopics, errNoContract):
				return nil, denied()
			case c.noTopics != nil:
				return nil, connect.NewError(connect.CodeInvalidArgument, c.noTopics)
			}
			action := grants.Read
			if c.write {
				action = grants.Write
			}
			if err := allowed.Ask(ctx, PrincipalOf(ctx), action, c.topics); err != nil {
				return nil, err
			}
			return next(ctx, c)
		}
	}
}

// authorizeAnswer asks for a grant on the topics that only the answer tells: whoever
// may not follow what it shows may not read it either, be it kept or somebody else's
// query. There is nothing to ask about an error: it shows no rows.
func authorizeAnswer(allowed *Authorizer) step {
	return func(next handler) handler {
		if allowed == nil {
			return next
		}
		return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
			resp, err := next(ctx, c)
			if err == nil && len(c.depends) > 0 {
				if err = allowed.Ask(ctx, PrincipalOf(ctx), grants.Read, c.depends); err != nil {
					c.reply = reply{} // no denial says more than another
				}
			}
			if err != nil {
				return nil, err
			}
			return resp, nil
		}
	}
}

// authorizeStream denies streams, of which the contract knows none. Watch asks for
// itself, about its topics.
func authorizeStream(allowed *Authorizer, next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	if allowed == nil {
		return next
	}
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if conn.Spec().Procedure != freshetv1connect.InvalidationServiceWatchProcedure {
			return denied()
		}
		return next(ctx, conn)
	}
}
