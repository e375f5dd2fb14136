package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"
)

// comeBack is when a call that was refused for want of a node is worth another
// attempt.
const comeBack = time.Second

// admission refuses calls while Run doesn't serve: before, nothing is known of the
// database; afterwards, nothing new.
type admission struct{ ready *readiness }

// closed returns why calls are refused, or nil.
func (a admission) closed() error {
	why := a.ready.refusal.Load()
	if why == nil {
		return nil
	}
	err := connect.NewError(connect.CodeUnavailable, errors.New(*why))
	addRetryInfo(err)
	return err
}

// addRetryInfo says when to come back.
func addRetryInfo(err *connect.Error) {
	// A detail fails only for a message that can't be marshaled; this one can.
	if detail, detailErr := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(comeBack)}); detailErr == nil {
		err.AddDetail(detail)
	}
}

// WrapUnary implements connect.Interceptor.
func (a admission) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if err := a.closed(); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (a admission) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := a.closed(); err != nil {
			return err
		}
		return next(ctx, conn)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (a admission) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// gated is the same for a stream of events.
func (n *Node) gated(next http.Handler) http.Handler {
	errors := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := (admission{&n.ready}).closed(); err != nil {
			w.Header().Set("Retry-After", "1")
			w.Header().Set("Cache-Control", "no-store")
			_ = errors.Write(w, r, err) // the peer has gone if it can't be told
			return
		}
		next.ServeHTTP(w, r)
	})
}

type callerKey struct{}

// named remembers who calls, for those who count.
func (n *Node) named(next http.Handler) http.Handler {
	if n.cfg.Caller == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, n.cfg.Caller(r))))
	})
}

// callerOf is what named has remembered.
func callerOf(ctx context.Context) string {
	caller, _ := ctx.Value(callerKey{}).(string)
	return caller
}
