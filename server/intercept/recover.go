package intercept

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"connectrpc.com/connect"
)

// recoverPanics turns a panic into an internal error; value and stack go to
// the log. http.ErrAbortHandler passes, as in net/http.
func recoverPanics(logger *slog.Logger) connect.HandlerOption {
	return connect.WithRecover(func(ctx context.Context, spec connect.Spec, _ http.Header, value any) error {
		logger.LogAttrs(ctx, slog.LevelError, "rpc panicked",
			slog.String("procedure", spec.Procedure),
			slog.String("request_id", RequestIDOf(ctx)),
			slog.String("panic", fmt.Sprint(value)),
			slog.String("stack", string(debug.Stack())))
		return connect.NewError(connect.CodeInternal, errInternal)
	})
}
