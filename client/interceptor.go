package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
)

// Headers of a request and of its response; in gRPC they are metadata.
const (
	headerAtLeast  = "Freshet-At-Least"
	headerRevision = "Freshet-Revision"
	headerTopics   = "Freshet-Topics"
	headerCaller   = "Freshet-Principal"
)

// Stamp is what a response says about its age.
type Stamp struct {
	// Revision: of a read, all commits up to it are in the answer (G6); of a
	// mutation, what a later read must reach to contain it (G5). Zero: not
	// known. No handler ran, or the header is not exactly one revision.
	Revision freshet.Revision
	// Topics that a mutation's commit changed. nil: not known.
	Topics []string
}

type (
	atLeastKey struct{}
	captureKey struct{}
)

// AtLeast makes the calls under the returned context ask for data at least as
// fresh as rev, and as fresh as any AtLeast of ctx: the later one counts. Zero
// adds nothing. Without AtLeast a read is strong: it sees every commit that
// returned before the request arrived.
func AtLeast(ctx context.Context, rev freshet.Revision) context.Context {
	return context.WithValue(ctx, atLeastKey{}, rev.Max(atLeast(ctx)))
}

// Strong takes AtLeast back: the calls under the returned context are strong.
func Strong(ctx context.Context) context.Context {
	return context.WithValue(ctx, atLeastKey{}, freshet.Revision{})
}

func atLeast(ctx context.Context) freshet.Revision {
	rev, _ := ctx.Value(atLeastKey{}).(freshet.Revision)
	return rev
}

// CaptureStamp makes the next unary call under the returned context write its
// stamp to s before it returns, whether it succeeds or fails. Of several calls,
// one after the other, s holds the last; calls at the same time need a context
// and a stamp each.
func CaptureStamp(ctx context.Context, s *Stamp) context.Context {
	return context.WithValue(ctx, captureKey{}, s)
}

// NewInterceptor returns the interceptor that AtLeast and CaptureStamp work
// through, for any Connect client and every protocol:
//
//	messagesv1connect.NewMessageServiceClient(http.DefaultClient, url,
//		connect.WithInterceptors(client.NewInterceptor()))
//
// Put it last, next to the transport, if an interceptor of yours retries. A
// streaming call asks at-least as well; its stamp is not captured.
//
// A unary call whose connection breaks off is `unavailable` with it, also where Connect
// alone says `canceled` or `unknown`, so that `canceled` says that the caller has given up.
func NewInterceptor() connect.Interceptor { return interceptor{} }

type interceptor struct{}

func (interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if !req.Spec().IsClient {
			return next(ctx, req)
		}
		ask(ctx, req.Header())
		if req.Spec().IdempotencyLevel == connect.IdempotencyNoSideEffects {
			ctx = withRead(ctx)
		}
		resp, err := next(ctx, req)
		err = brokenOff(ctx, err)
		if s, ok := ctx.Value(captureKey{}).(*Stamp); ok && s != nil {
			*s = Stamp{} // never the stamp of another call
			if err == nil {
				*s = stampOf(resp.Header())
			} else if cerr, ok := errors.AsType[*connect.Error](err); ok {
				*s = stampOf(cerr.Meta()) // of gRPC: header and trailer in one
			}
		}
		return resp, err
	}
}

// brokenOff says `unavailable` of a call whose connection has ended under it, as gRPC
// does: Connect calls one that was reset `canceled`, as if the caller had given up, and
// one that ended within the answer `unknown`. What a server has sent wraps none of these
// errors, and stays as it is.
func brokenOff(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	switch connect.CodeOf(err) {
	case connect.CodeCanceled, connect.CodeUnknown:
	default:
		return err
	}
	for _, end := range []error{syscall.ECONNRESET, syscall.EPIPE, io.ErrUnexpectedEOF} {
		if errors.Is(err, end) {
			return connect.NewError(connect.CodeUnavailable, fmt.Errorf("the connection broke off, so whether the call was done isn't known: %w", err))
		}
	}
	return err
}

func (interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		ask(ctx, conn.RequestHeader())
		return conn
	}
}

func (interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// ask sets the header, and takes away the one of an earlier call with the same
// request. Without AtLeast or Strong a header set by hand stays.
func ask(ctx context.Context, h http.Header) {
	if rev, ok := ctx.Value(atLeastKey{}).(freshet.Revision); !ok {
		return
	} else if rev.IsZero() {
		h.Del(headerAtLeast)
	} else {
		h.Set(headerAtLeast, rev.String())
	}
}

// stampOf reads a response's headers strictly (F35): a header that is there
// twice, or that is a list, or malformed, is as good as none. A stamp guessed
// too high would hide a change.
func stampOf(h http.Header) Stamp {
	var s Stamp
	if values := h.Values(headerRevision); len(values) == 1 {
		s.Revision, _ = freshet.ParseRevision(values[0])
	}
	if values := h.Values(headerTopics); len(values) == 1 {
		s.Topics = decodeTopics(values[0])
	}
	return s
}

// decodeTopics reads a list of percent-encoded topics with commas between.
// nil: it is not one, and half a list would be worse than none.
func decodeTopics(text string) []string {
	var topics []string
	for part := range strings.SplitSeq(text, ",") {
		topic, err := url.PathUnescape(part)
		if err != nil || freshet.CheckTopic(topic) != nil {
			return nil
		}
		topics = append(topics, topic)
	}
	return topics
}
