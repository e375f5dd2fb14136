package intercept

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
)

// Authenticate says who sent a request, whose body it must not read: the zero
// Principal for somebody who isn't known but may come in. A *connect.Error refuses
// the caller: its code, text, details and metadata (which are headers, in HTTP)
// are sent. Any other error, and one of the codes internal and unknown, says that it
// can't be told now: that is `unavailable`, and its text is logged only. It is asked
// by many at once, and has to heed the request's context.
type Authenticate func(*http.Request) (Principal, error)

// caller is who calls, and which Authenticator has found that out; nil: somebody
// else's middleware.
type caller struct {
	Principal

	by *Authenticator
}

type callerKey struct{}

// PrincipalOf returns the caller; of a request that no Authenticator has seen, nobody.
func PrincipalOf(ctx context.Context) Principal {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c.Principal
}

// Known returns the caller if somebody has looked at who that is. If not, nobody can
// say whether two calls are of one principal: a handler may well look at credentials
// that only it understands.
func Known(ctx context.Context) (who Principal, known bool) {
	c, known := ctx.Value(callerKey{}).(caller)
	return c.Principal, known
}

// everybody stands in the place of a caller.
type everybody struct{}

// forEverybody is the context of a query whose answer any caller may be given: it
// knows nobody, so that nothing of the one who happened to ask first gets into it.
func forEverybody(ctx context.Context) context.Context {
	return context.WithValue(ctx, callerKey{}, everybody{})
}

// IsEverybodys reports whether ctx is that of a `shared` read's query.
func IsEverybodys(ctx context.Context) bool {
	_, is := ctx.Value(callerKey{}).(everybody)
	return is
}

// Authenticator asks an Authenticate once per request, for RPCs, streams and pages
// alike, before anything of the request is decoded. A nil *Authenticator lets
// everybody in, and nobody is known: of such callers, answers that aren't shared are
// neither kept nor given to others. Use NewAuthenticator.
type Authenticator struct {
	verify  Authenticate
	logger  *slog.Logger
	refusal *connect.ErrorWriter
	refused *prometheus.CounterVec // by reason
	failing atomic.Bool            // the last question had no answer, which was logged
}

// NewAuthenticator returns nil if nobody asks who calls. A nil registry gets no metrics.
func NewAuthenticator(verify Authenticate, logger *slog.Logger, registry prometheus.Registerer) *Authenticator {
	if verify == nil {
		return nil
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_auth_refused_total", Help: "Requests refused since it isn't known who calls, by reason: of server/auth; where somebody else is asked, the code.",
	}, []string{"reason"})
	if registry != nil {
		registry.MustRegister(refused)
	}
	return &Authenticator{verify: verify, logger: logger, refusal: connect.NewErrorWriter(), refused: refused}
}

// Wrap lets through to next who may come in, and answers the others in the form of
// their protocol. Where a handler is wrapped more than once, the outermost decides.
func (a *Authenticator) Wrap(next http.Handler) http.Handler {
	if a == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.hasSeen(r.Context()) {
			next.ServeHTTP(w, r)
			return
		}
		principal, err := a.verify(r)
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		a.failing.Store(false)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller{principal, a})))
	})
}

func (a *Authenticator) hasSeen(ctx context.Context) bool {
	c, ok := ctx.Value(callerKey{}).(caller)
	return ok && c.by == a
}

// refuse answers in the form of r's protocol. Headers that are about HTTP, not the
// call, are headers in gRPC too, where metadata of an error would be trailers, which
// a challenge can't be (RFC 9110 section 6.5.1).
func (a *Authenticator) refuse(w http.ResponseWriter, r *http.Request, err error) {
	out := a.public(r.Context(), err)
	a.refused.WithLabelValues(reasonOf(err, out)).Inc()
	w.Header().Set("Cache-Control", "no-store")
	for _, name := range []string{"Www-Authenticate", "Retry-After"} {
		if values := out.Meta()[name]; len(values) > 0 {
			w.Header()[name] = values
			delete(out.Meta(), name)
		}
	}
	_ = a.refusal.Write(w, r, out) // the peer has gone if it can't be told
}

// reasonOf is what is counted of an error of verify that is told as out: a word of its
// own, or the code. Whoever has words of its own has few.
func reasonOf(err error, out *connect.Error) string {
	var own interface{ RefusalReason() string }
	if errors.As(err, &own) {
		return own.RefusalReason()
	}
	return out.Code().String()
}

// public is what is told of an error of verify.
func (a *Authenticator) public(ctx context.Context, err error) *connect.Error {
	var known *connect.Error
	if errors.As(err, &known) && known.Code() != connect.CodeInternal && known.Code() != connect.CodeUnknown {
		a.failing.Store(false)
		out := public(known)
		if out.Code() == connect.CodeUnauthenticated && out.Meta().Get("WWW-Authenticate") == "" {
			out.Meta().Set("WWW-Authenticate", "Bearer") // RFC 9110 section 15.5.2: a 401 has one
		}
		return out
	}
	if ctx.Err() != nil {
		return translate(ctx, ctx.Err())
	}
	if !a.failing.Swap(true) { // once per outage
		a.logger.LogAttrs(ctx, slog.LevelError, "Authenticate fails: callers are refused meanwhile", slog.Any("error", err))
	}
	out := unavailable("who calls can't be told right now")
	out.Meta().Set("Retry-After", "1")
	return out
}

// Required refuses calls that Wrap hasn't seen: whoever forgets it has a service that
// answers nobody, not one that answers everybody. The code is internal, since the
// mistake is the server's: told `unauthenticated`, clients would throw away good
// tokens.
func (a *Authenticator) Required() connect.Interceptor { return required{a} }

type required struct{ a *Authenticator }

// check refuses a call that nobody has asked about. The log has it once per method.
func (i required) check(ctx context.Context, procedure string, once *sync.Once) error {
	if i.a == nil || i.a.hasSeen(ctx) {
		return nil
	}
	once.Do(func() {
		i.a.logger.LogAttrs(ctx, slog.LevelError, "calls are refused: their handler isn't wrapped in Node.Protect, so nobody asks who calls",
			slog.String("procedure", procedure))
	})
	return connect.NewError(connect.CodeInternal, errInternal)
}

// WrapUnary implements connect.Interceptor. It is called once for each method.
func (i required) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	once := new(sync.Once)
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if err := i.check(ctx, req.Spec().Procedure, once); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

// WrapStreamingHandler implements connect.Interceptor. It is called once for each method.
func (i required) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	once := new(sync.Once)
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := i.check(ctx, conn.Spec().Procedure, once); err != nil {
			return err
		}
		return next(ctx, conn)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (required) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}
