package intercept

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/server/grants"
	"github.com/freshet-dev/freshet/store"
)

// respond is the outermost step and the one place where errors become
// codes and where our headers are set. Stamp and topics are on what is said
// about data only, success or error.
type respond struct {
	logger  *slog.Logger
	metrics *Metrics
	tracing *Tracing
	denials seldom
}

// seldom says when to log what callers can bring about as often as they like.
type seldom struct {
	mu   sync.Mutex // guards next
	next time.Time  // not before
}

// seldomInterval is the time between two lines.
const seldomInterval = 10 * time.Second

func (s *seldom) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.next) {
		return false
	}
	s.next = now.Add(seldomInterval)
	return true
}

func (i *respond) unary(program *contract.Program, next handler) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		c := newCall(program, req)
		done := i.metrics.began(c.procedure)
		resp, err := next(ctx, c)
		if err != nil {
			cerr := i.translate(ctx, c.procedure, err)
			done(cerr)
			if !codeIsAboutData(cerr) {
				c.reply.stamp, c.reply.topics, c.reply.caller = freshet.Revision{}, nil, ""
			}
			if errors.Is(cerr, grants.ErrDenied) {
				c.reply = reply{} // no denial says more than another: not where it comes from, either
			}
			c.reply.write(cerr.Meta())
			i.tracing.replied(ctx, &c.reply)
			return nil, cerr
		}
		done(nil)
		i.tracing.replied(ctx, &c.reply)
		// Not on the response itself: it may be one that many are sent.
		if info, ok := connect.CallInfoForHandlerContext(ctx); ok {
			c.reply.write(info.ResponseHeader())
		}
		return resp, nil
	}
}

func (i *respond) stream(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := next(ctx, conn); err != nil {
			return i.translate(ctx, conn.Spec().Procedure, err)
		}
		return nil
	}
}

func (i *respond) translate(ctx context.Context, procedure string, err error) *connect.Error {
	cerr := translate(ctx, err)
	var coded *connect.Error
	var constraint *store.ConstraintError
	switch {
	case cerr.Code() == connect.CodeInternal:
		i.logger.LogAttrs(ctx, slog.LevelError, "rpc failed",
			slog.String("procedure", procedure),
			slog.String("request_id", RequestIDOf(ctx)),
			slog.Any("error", err))
	case errors.Is(err, store.ErrDenied) && i.denials.due():
		i.logger.LogAttrs(ctx, slog.LevelWarn, "the database denied a call (told once in ten seconds at most)",
			slog.String("procedure", procedure),
			slog.String("request_id", RequestIDOf(ctx)),
			slog.Any("error", err))
	case !errors.As(err, &coded) && errors.As(err, &constraint) && constraint.Kind == store.NotNull:
		// No caller says null: a handler has left a column out, or the table its default.
		i.logger.LogAttrs(ctx, slog.LevelWarn, "a write left a column null that may not be: its caller is told invalid_argument",
			slog.String("procedure", procedure),
			slog.String("request_id", RequestIDOf(ctx)),
			slog.String("table", constraint.Table),
			slog.String("column", constraint.Column))
	case errors.Is(err, store.ErrReadOnly):
		i.logger.LogAttrs(ctx, slog.LevelError, "the database refuses writes: default_transaction_read_only is on, for the server, the database or the role, or the server is a standby; "+
			"`freshet doctor` says which",
			slog.String("procedure", procedure),
			slog.String("request_id", RequestIDOf(ctx)),
			slog.Any("error", err))
	}
	return cerr
}
