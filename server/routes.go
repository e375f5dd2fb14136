package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/reflect/protoreflect"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/server/stream"
)

const (
	eventsPath     = "/events"
	reflectV1      = "/" + grpcreflect.ReflectV1ServiceName + "/ServerReflectionInfo"
	reflectV1Alpha = "/" + grpcreflect.ReflectV1AlphaServiceName + "/ServerReflectionInfo"
)

// serve builds RPC, stream and page, and opens the front door to them.
func (n *node) serve(_ context.Context, f *front) error {
	streams, err := stream.New(stream.Config{
		Hub:            n.hub,
		InsertPosition: n.feed.InsertPosition,
		Contract:       n.program.Hash(),
		Heartbeat:      n.cfg.Heartbeat,
		Throttle:       n.cfg.Throttle,
		WriteTimeout:   n.cfg.WriteTimeout,
		MaxTopics:      n.cfg.MaxStreamTopics,
		MaxLag:         n.cfg.MaxLag,
		MaxConnections: n.cfg.MaxStreams,
		Caller:         callerOf,
		MaxPerCaller:   max(n.cfg.MaxStreamsPerAddress, 0),
		MaxTopicBytes:  n.cfg.MaxTopicBytes,
		MaxBodyBytes:   int64(n.cfg.MaxRequestBytes),
		Logger:         n.cfg.Logger,
		Registerer:     n.registry,
	})
	if err != nil {
		return err
	}
	options := append(intercept.Options(intercept.Config{
		Contract:  n.program,
		Hub:       n.hub,
		Primary:   n.feed,
		Settler:   n.feed,
		MaxWait:   atOnce(n.cfg.MaxWait),
		MaxSettle: atOnce(n.cfg.MaxSettle),
		MaxRead:   n.cfg.MaxRead,

		ReadInterval: n.cfg.ReadInterval,
		MaxLag:       n.cfg.MaxLag,
		CacheBytes:   n.cfg.CacheBytes,
		Audit:        n.cfg.AuditReads,
		OnUndeclared: func(e *intercept.AuditError) { n.ready.remark(e.Error()) },
		Logger:       n.cfg.Logger,
		Metrics:      intercept.NewMetrics(n.registry),
	}), connect.WithReadMaxBytes(n.cfg.MaxRequestBytes))

	mux := http.NewServeMux()
	var served []protoreflect.ServiceDescriptor
	for _, s := range n.services {
		mux.Handle(s.Handler(n.db, options...))
		served = append(served, s.Descriptor)
	}
	who, err := newCallers(n.cfg.TrustedProxies)
	if err != nil {
		return err
	}
	path, watch := streams.WatchHandler(options...)
	mux.Handle(path, who.name(watch))
	served = append(served, freshetv1.File_freshet_v1_invalidation_service_proto.Services().ByName("InvalidationService"))
	procedures := n.standard(mux, served, connect.WithReadMaxBytes(n.cfg.MaxRequestBytes))
	mux.Handle(eventsPath, who.name(streams))
	mux.Handle("/", n.page())
	f.open(n.wrap(procedures, mux))

	n.streams = streams
	n.parts.Go("streams", streams.Run)
	// The last to be registered is the first to be stopped.
	n.parts.Defer("requests", n.drain)
	n.parts.Defer("open streams", func(ctx context.Context) error {
		err := streams.Shutdown(n.draining)
		if errors.Is(err, context.DeadlineExceeded) {
			n.cfg.Logger.WarnContext(ctx, "streams were cut: their readers did not take the goodbye in time (--drain)")
			return nil
		}
		return err
	})
	return nil
}

// atOnce is None as a bound: the least there is.
func atOnce(d time.Duration) time.Duration {
	if d < 0 {
		return 1
	}
	return d
}

// standard mounts health and reflection for the services, and returns every
// procedure that mux serves.
func (n *node) standard(mux *http.ServeMux, services []protoreflect.ServiceDescriptor, options ...connect.HandlerOption) []string {
	health := &health{ready: n.ready, services: map[string]bool{"": true}}
	procedures := []string{
		"/" + grpchealth.HealthV1ServiceName + "/Check",
		"/" + grpchealth.HealthV1ServiceName + "/Watch",
		reflectV1,
		reflectV1Alpha,
	}
	names := []string{grpchealth.HealthV1ServiceName}
	for _, s := range services {
		name := string(s.FullName())
		health.services[name] = true
		names = append(names, name)
		for i := range s.Methods().Len() {
			procedures = append(procedures, "/"+name+"/"+string(s.Methods().Get(i).Name()))
		}
	}
	reflector := grpcreflect.NewStaticReflector(names...)
	mux.Handle(grpchealth.NewHandler(health, options...))
	mux.Handle(grpcreflect.NewHandlerV1(reflector, options...))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, options...))
	return procedures
}
