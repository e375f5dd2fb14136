package stream

import (
	"context"
	"errors"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
)

// WatchHandler returns the path and the handler of
// freshet.v1.InvalidationService: the same streams as an RPC. Small messages
// are not compressed, unless opts say otherwise.
func (s *Server) WatchHandler(opts ...connect.HandlerOption) (string, http.Handler) {
	opts = append([]connect.HandlerOption{connect.WithCompressMinBytes(1 << 10)}, opts...)
	path, handler := freshetv1connect.NewInvalidationServiceHandler(watch{s}, opts...)
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Connect hides the response from its handlers; the frames' deadlines
		// need it.
		ctx := context.WithValue(r.Context(), controllerKey{}, http.NewResponseController(w))
		unbuffered(w.Header()) // of Connect and gRPC-Web by HTTP/1.1; gRPC isn't buffered
		handler.ServeHTTP(w, r.WithContext(ctx))
	})
}

type controllerKey struct{}

type watch struct{ server *Server }

// Watch implements freshetv1connect.InvalidationServiceHandler.
func (h watch) Watch(ctx context.Context, req *connect.Request[freshetv1.WatchRequest], stream *connect.ServerStream[freshetv1.WatchResponse]) error {
	s := h.server
	session, out, refused := h.accept(ctx, req.Msg)
	if refused != nil {
		s.metrics.refused.WithLabelValues(refused.reason).Inc()
		return refused.connect()
	}
	defer session.close()
	out.stream = stream
	err := session.run(ctx, out)
	s.logEnd(ctx, "watch", err, session.last)
	if err == nil { // it was sent away
		bye := notReady("the server ends its streams: come back")
		bye.retryAfter = jitter(retryMinBye, retryMaxBye)
		return bye.connect()
	}
	if why, ok := errors.AsType[*ending](err); ok {
		return connect.NewError(why.code, why)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return connect.NewError(connect.CodeUnavailable, errors.New("the stream was cut"))
}

func (h watch) accept(ctx context.Context, msg *freshetv1.WatchRequest) (*session, *watchEncoder, *refusal) {
	s := h.server
	req, refused := s.newRequest(msg.GetTopics(), msg.GetSince(), msg.GetSinceByTopic())
	if refused != nil {
		return nil, nil, refused
	}
	if t := msg.GetThrottle(); t != nil {
		req.throttle = t.AsDuration()
		if t.CheckValid() != nil || req.throttle < 0 || req.throttle > MaxThrottle {
			return nil, nil, badRequest("throttle is not within 0 and %v", MaxThrottle)
		}
	}
	rc, ok := ctx.Value(controllerKey{}).(*http.ResponseController)
	if !ok {
		s.config.Logger.ErrorContext(ctx, "Watch runs outside of WatchHandler: there is no response to set deadlines on")
		return nil, nil, internal()
	}
	if refused = s.probe(ctx, rc); refused != nil {
		return nil, nil, refused
	}
	session, refused := s.start(ctx, req)
	if refused != nil {
		return nil, nil, refused
	}
	session.whole = true
	return session, &watchEncoder{server: s, wire: session.bound(rc)}, nil
}

// watchEncoder sends messages of an RPC.
type watchEncoder struct {
	server *Server
	wire   *deadlineWriter
	stream *connect.ServerStream[freshetv1.WatchResponse]
}

func (e *watchEncoder) send(m *freshetv1.WatchResponse) error {
	return e.wire.within(func() error { return e.stream.Send(m) })
}

// invalidate splits as the frames of `GET /events` do. The message has no id
// of its own: of a split list only the last part has the revision. So no notice
// can be partial: these sessions are whole.
func (e *watchEncoder) invalidate(rev freshet.Revision, topics []string, _ bool) error {
	for len(topics) > 0 {
		fit := 0
		for size := invalidateOverhead; fit < len(topics); fit++ {
			const tagAndLength = 4
			size += len(topics[fit]) + tagAndLength
			if size > maxFrame && fit > 0 {
				break
			}
		}
		m := &freshetv1.WatchResponse_Invalidate{Topics: topics[:fit]}
		if topics = topics[fit:]; len(topics) == 0 {
			m.Revision = rev.String()
		}
		e.server.metrics.invalidates.Inc()
		if err := e.send(&freshetv1.WatchResponse{Event: &freshetv1.WatchResponse_Invalidate_{Invalidate: m}}); err != nil {
			return err
		}
	}
	return nil
}

func (e *watchEncoder) ready(rev freshet.Revision, topics int, expires time.Duration) error {
	e.server.metrics.readies.Inc()
	return e.send(&freshetv1.WatchResponse{Event: &freshetv1.WatchResponse_Ready_{Ready: &freshetv1.WatchResponse_Ready{
		Revision: rev.String(), Topics: uint32(topics), //nolint:gosec // bounded by MaxTopics
		HeartbeatMs: uint32(e.server.config.Heartbeat.Milliseconds()), //nolint:gosec // set by the operator, positive
		Contract:    e.server.config.Contract,
		ExpiresMs:   uint64(expires.Milliseconds()), //nolint:gosec // not negative
	}}})
}

func (e *watchEncoder) reset(rev freshet.Revision) error {
	e.server.metrics.resets.Inc()
	return e.send(&freshetv1.WatchResponse{Event: &freshetv1.WatchResponse_Reset_{Reset_: &freshetv1.WatchResponse_Reset{
		Revision: rev.String(), Reason: "epoch",
	}}})
}

func (e *watchEncoder) frontier(rev freshet.Revision, lag time.Duration) error {
	e.server.metrics.frontiers.Inc()
	return e.send(&freshetv1.WatchResponse{Event: &freshetv1.WatchResponse_Frontier_{Frontier: &freshetv1.WatchResponse_Frontier{
		Revision: rev.String(), LagMs: uint64(lag.Milliseconds()), //nolint:gosec // a lag is not negative
	}}})
}

func (e *watchEncoder) goodbye(rev freshet.Revision, lag time.Duration) error {
	return e.frontier(rev, lag)
}

// end has no message: the RPC's error says why.
func (e *watchEncoder) end(*ending) error { return nil }
