package server

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/internal/share"
	"github.com/freshet-dev/freshet/server/intercept"
)

// inFlight bounds the calls that are under way: in all, and of one principal, so that
// none can have all of them. Streams have bounds of their own.
type inFlight struct {
	share   *share.Share[string]
	refused *prometheus.CounterVec
}

func newInFlight(cfg Config) *inFlight {
	f := &inFlight{
		share: share.New[string](cfg.MaxRequests, max(cfg.MaxRequestsPerPrincipal, 0)),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_requests_refused_total", Help: "Calls refused since too many were under way: in all (limit), or of one principal.",
		}, []string{"cause"}),
	}
	for _, cause := range []string{"limit", "principal"} {
		f.refused.WithLabelValues(cause) // shown from the start
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(f.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "freshet_requests_in_flight", Help: "Calls under way, streams aside.",
		}, func() float64 { return float64(f.share.InUse()) }))
	}
	return f
}

// WrapUnary implements connect.Interceptor.
func (f *inFlight) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		who := principalOf(ctx)
		switch f.share.Take(who, 1) {
		case share.Full:
			f.refused.WithLabelValues("limit").Inc()
			return nil, later(connect.CodeUnavailable, "too many calls are under way")
		case share.Over:
			f.refused.WithLabelValues("principal").Inc()
			return nil, later(connect.CodeResourceExhausted, "too many of your calls are under way")
		case share.Granted:
		}
		defer f.share.Give(who, 1)
		return next(ctx, req)
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (f *inFlight) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// WrapStreamingClient implements connect.Interceptor.
func (f *inFlight) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// later is an error that says when to come back, in a detail and to those who go
// by HTTP.
func later(code connect.Code, text string) error {
	err := connect.NewError(code, errors.New(text))
	err.Meta().Set("Retry-After", "1")
	addRetryInfo(err)
	return err
}

// principalOf names who calls; empty: nobody known.
func principalOf(ctx context.Context) string { return intercept.PrincipalOf(ctx).Name() }
