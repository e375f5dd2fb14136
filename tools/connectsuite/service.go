// Package connectsuite runs Connect's own conformance suite against a service that is
// behind Freshet's interceptors: what they do must not show in calls and streams that have
// nothing to do with it.
//
// The module is named as if it were the suite's own, since the messages that the suite
// speaks in are internal to it. Nobody can import it by that name.
package connectsuite

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"connectrpc.com/conformance/internal"
	conformancev1 "connectrpc.com/conformance/internal/gen/proto/go/connectrpc/conformance/v1"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// descriptor is the suite's service.
func descriptor() protoreflect.ServiceDescriptor {
	return conformancev1.File_connectrpc_conformance_v1_service_proto.Services().ByName("ConformanceService")
}

// handler serves it, as the suite's requests ask for. What they have in them comes back
// in the first response, or in the details of an error.
func handler(opts ...connect.HandlerOption) (string, http.Handler) {
	path := "/" + string(descriptor().FullName()) + "/"
	mux := http.NewServeMux()
	with := func(name string) []connect.HandlerOption {
		method := descriptor().Methods().ByName(protoreflect.Name(name))
		own := append([]connect.HandlerOption{connect.WithSchema(method)}, opts...)
		if name == "IdempotentUnary" {
			own = append(own, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
		}
		return own
	}
	handle := func(name string, h http.Handler) { mux.Handle(path+name, queried(h)) }
	handle("Unary", connect.NewUnaryHandler(path+"Unary", func(ctx context.Context, req *connect.Request[conformancev1.UnaryRequest]) (*connect.Response[conformancev1.UnaryResponse], error) {
		payload, end, err := unary(ctx, req.Header(), req.Msg.GetResponseDefinition(), req.Msg)
		return answer(&conformancev1.UnaryResponse{Payload: payload}, end, err)
	}, with("Unary")...))
	handle("IdempotentUnary", connect.NewUnaryHandler(path+"IdempotentUnary", func(ctx context.Context, req *connect.Request[conformancev1.IdempotentUnaryRequest]) (*connect.Response[conformancev1.IdempotentUnaryResponse], error) {
		payload, end, err := unary(ctx, req.Header(), req.Msg.GetResponseDefinition(), req.Msg)
		return answer(&conformancev1.IdempotentUnaryResponse{Payload: payload}, end, err)
	}, with("IdempotentUnary")...))
	handle("ClientStream", connect.NewClientStreamHandler(path+"ClientStream", func(ctx context.Context, stream *connect.ClientStream[conformancev1.ClientStreamRequest]) (*connect.Response[conformancev1.ClientStreamResponse], error) {
		var definition *conformancev1.UnaryResponseDefinition
		var requests []proto.Message
		for stream.Receive() {
			if len(requests) == 0 {
				definition = stream.Msg().GetResponseDefinition()
			}
			requests = append(requests, proto.CloneOf(stream.Msg()))
		}
		if stream.Err() != nil {
			return nil, stream.Err()
		}
		payload, end, err := unary(ctx, stream.RequestHeader(), definition, requests...)
		return answer(&conformancev1.ClientStreamResponse{Payload: payload}, end, err)
	}, with("ClientStream")...))
	handle("ServerStream", connect.NewServerStreamHandler(path+"ServerStream", func(ctx context.Context, req *connect.Request[conformancev1.ServerStreamRequest], stream *connect.ServerStream[conformancev1.ServerStreamResponse]) error {
		definition := req.Msg.GetResponseDefinition()
		begin(stream.ResponseHeader(), stream.ResponseTrailer(), definition)
		r := responder{ctx: ctx, definition: definition, info: info(ctx, req.Header(), req.Msg), send: func(p *conformancev1.ConformancePayload) error {
			return stream.Send(&conformancev1.ServerStreamResponse{Payload: p})
		}}
		return r.rest()
	}, with("ServerStream")...))
	handle("BidiStream", connect.NewBidiStreamHandler(path+"BidiStream", bidi, with("BidiStream")...))
	mux.Handle(path, connect.NewUnaryHandler(path+"Unimplemented", func(context.Context, *connect.Request[conformancev1.UnimplementedRequest]) (*connect.Response[conformancev1.UnimplementedResponse], error) {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("not implemented"))
	}, with("Unimplemented")...))
	return path, mux
}

type queryKey struct{}

// queried lets a call see the query of a GET.
func queried(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			r = r.WithContext(context.WithValue(r.Context(), queryKey{}, r.URL.Query()))
		}
		next.ServeHTTP(w, r)
	})
}

// info is what a response says of the requests.
func info(ctx context.Context, header http.Header, requests ...proto.Message) *conformancev1.ConformancePayload_RequestInfo {
	i := &conformancev1.ConformancePayload_RequestInfo{RequestHeaders: internal.ConvertToProtoHeader(header)}
	for _, request := range requests {
		one, _ := anypb.New(request) // it was parsed
		i.Requests = append(i.Requests, one)
	}
	if deadline, ok := ctx.Deadline(); ok {
		i.TimeoutMs = new(time.Until(deadline).Milliseconds())
	}
	if query, ok := ctx.Value(queryKey{}).(url.Values); ok {
		i.ConnectGetInfo = &conformancev1.ConformancePayload_ConnectGetInfo{QueryParams: internal.ConvertToProtoHeader(query)}
	}
	return i
}

// failure is an error that the request asked for.
func failure(e *conformancev1.Error, of *conformancev1.ConformancePayload_RequestInfo) *connect.Error {
	err := connect.NewError(connect.Code(e.GetCode()), errors.New(e.GetMessage()))
	for _, detail := range e.GetDetails() {
		if d, bad := connect.NewErrorDetail(detail); bad == nil {
			err.AddDetail(d)
		}
	}
	if of != nil {
		if d, bad := connect.NewErrorDetail(of); bad == nil {
			err.AddDetail(d)
		}
	}
	return err
}

// metadata goes with a response, or an error.
type metadata struct{ header, trailer []*conformancev1.Header }

func unary(ctx context.Context, header http.Header, definition *conformancev1.UnaryResponseDefinition, requests ...proto.Message) (*conformancev1.ConformancePayload, metadata, error) {
	of := info(ctx, header, requests...)
	end := metadata{definition.GetResponseHeaders(), definition.GetResponseTrailers()}
	if err := pause(ctx, definition.GetResponseDelayMs()); err != nil {
		return nil, end, err
	}
	if definition.GetError() != nil {
		return nil, end, failure(definition.GetError(), of)
	}
	return &conformancev1.ConformancePayload{Data: definition.GetResponseData(), RequestInfo: of}, end, nil
}

// answer puts the metadata where it belongs.
func answer[T any](m *T, with metadata, err error) (*connect.Response[T], error) {
	if err != nil {
		if failed, ok := errors.AsType[*connect.Error](err); ok {
			internal.AddHeaders(with.header, failed.Meta())
			internal.AddHeaders(with.trailer, failed.Meta())
		}
		return nil, err
	}
	resp := connect.NewResponse(m)
	internal.AddHeaders(with.header, resp.Header())
	internal.AddHeaders(with.trailer, resp.Trailer())
	return resp, nil
}

// pause takes the time that a request asks for.
func pause(ctx context.Context, ms uint32) error {
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func begin(header, trailer http.Header, definition *conformancev1.StreamResponseDefinition) {
	internal.AddHeaders(definition.GetResponseHeaders(), header)
	internal.AddHeaders(definition.GetResponseTrailers(), trailer)
}

// responder sends what a stream's first request asks for.
type responder struct {
	ctx        context.Context
	definition *conformancev1.StreamResponseDefinition
	info       *conformancev1.ConformancePayload_RequestInfo // of the next response
	send       func(*conformancev1.ConformancePayload) error
	sent       int
}

func (r *responder) left() bool { return r.sent < len(r.definition.GetResponseData()) }

func (r *responder) next() error {
	if err := pause(r.ctx, r.definition.GetResponseDelayMs()); err != nil {
		return err
	}
	payload := &conformancev1.ConformancePayload{Data: r.definition.GetResponseData()[r.sent], RequestInfo: r.info}
	r.sent, r.info = r.sent+1, nil
	return r.send(payload)
}

// rest sends what is left, and the end.
func (r *responder) rest() error {
	for r.left() {
		if err := r.next(); err != nil {
			return err
		}
	}
	if r.definition.GetError() == nil {
		return nil
	}
	of := r.info
	if r.sent > 0 {
		of = nil
	}
	return failure(r.definition.GetError(), of)
}

func bidi(ctx context.Context, stream *connect.BidiStream[conformancev1.BidiStreamRequest, conformancev1.BidiStreamResponse]) error {
	r := responder{ctx: ctx, send: func(p *conformancev1.ConformancePayload) error {
		return stream.Send(&conformancev1.BidiStreamResponse{Payload: p})
	}}
	var requests []proto.Message
	fullDuplex, first := false, true
	for {
		req, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if first {
			r.definition, fullDuplex = req.GetResponseDefinition(), req.GetFullDuplex()
			begin(stream.ResponseHeader(), stream.ResponseTrailer(), r.definition)
		}
		requests = append(requests, req)
		if !fullDuplex {
			first = false
			continue
		}
		if !r.left() {
			break
		}
		if r.info = info(ctx, stream.RequestHeader(), requests...); !first {
			r.info = &conformancev1.ConformancePayload_RequestInfo{Requests: r.info.GetRequests()}
		}
		first, requests = false, nil
		if err := r.next(); err != nil {
			return err
		}
	}
	if r.sent == 0 {
		r.info = info(ctx, stream.RequestHeader(), requests...)
	}
	return r.rest()
}
