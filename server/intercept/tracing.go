package intercept

import (
	"context"
	"net/http"
	"sync"

	"connectrpc.com/connect"
	"connectrpc.com/otelconnect"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
)

const (
	// keptTraces is how many commits' traces are remembered, and how many that are
	// on their way: the newest.
	keptTraces = 4096
	// maxJoined is how many refetches become spans of the trace of the write that
	// they are for; a thousand clients would make it unreadable. Those that follow
	// have a trace each, with a link.
	maxJoined = 8
)

// Names of what is said in spans, besides what OpenTelemetry's conventions say of
// an RPC.
const (
	spanCommit = "freshet.commit"
	spanNotice = "freshet.notice"

	attrRevision  = attribute.Key("freshet.revision")   // of the answer; of a commit
	attrAtLeast   = attribute.Key("freshet.at_least")   // what was asked for
	attrCache     = attribute.Key("freshet.cache")      // where the answer of a read comes from
	attrTopics    = attribute.Key("freshet.topics")     // how many a commit changed
	attrCommitted = attribute.Key("freshet.committed")  // whether COMMIT succeeded
	attrRequestID = attribute.Key("freshet.request_id") // as in the log
)

// Tracing makes spans of calls: one for each RPC, and of a mutation one for each
// COMMIT and one for its way to the streams, until those who follow it are told.
// A read at-least the revision of such a commit is the refetch that it caused, and
// joins its trace. Spans hold names of procedures, codes, revisions and numbers;
// never topics, tokens or messages. A nil *Tracing traces nothing, at no cost.
//
// What commits this node didn't make (SQL, other nodes, pools that aren't the
// store's) have no trace here. It is safe for concurrent use.
type Tracing struct {
	tracer  trace.Tracer
	trusted bool
	rpc     connect.Interceptor

	mu      sync.Mutex // guards what follows
	pending bounded[uint32, pendingNotice]
	notices bounded[freshet.Revision, *toldNotice]
}

// pendingNotice is a commit that streams have not been told of yet.
type pendingNotice struct {
	epoch freshet.Epoch
	span  trace.Span
}

// toldNotice is one that they have been told of.
type toldNotice struct {
	span   trace.SpanContext
	joined int
}

// NewTracing returns what makes spans by a provider. Nil: nothing does. trusted
// says that callers decide what traces they are part of, and whether these are
// recorded: by their traceparent (W3C Trace Context). Otherwise that is only a
// link.
func NewTracing(provider trace.TracerProvider, trusted bool) (*Tracing, error) {
	if provider == nil {
		return nil, nil //nolint:nilnil // as documented
	}
	t := &Tracing{
		tracer:  provider.Tracer("github.com/freshet-dev/freshet"),
		trusted: trusted,
		pending: newBounded[uint32, pendingNotice](keptTraces),
		notices: newBounded[freshet.Revision, *toldNotice](keptTraces),
	}
	var err error
	t.rpc, err = otelconnect.NewInterceptor(
		otelconnect.WithTracerProvider(provider),
		otelconnect.WithoutMetrics(), // Prometheus has them
		// What it extracts has been judged already.
		otelconnect.WithPropagator(parent{t}), otelconnect.WithTrustRemote(),
		otelconnect.WithFilter(func(_ context.Context, spec connect.Spec) bool {
			return spec.Procedure != freshetv1connect.InvalidationServiceWatchProcedure // it would end with the stream, hours later
		}),
	)
	return t, err
}

// options are what handlers are made with, before everything else: so a panic has
// become an error, and an error what the caller is told.
func (t *Tracing) options() []connect.HandlerOption {
	if t == nil {
		return nil
	}
	return []connect.HandlerOption{connect.WithInterceptors(t.rpc, connect.UnaryInterceptorFunc(t.describe))}
}

// parent finds the span that a request's span belongs below.
type parent struct{ t *Tracing }

// Extract implements propagation.TextMapPropagator. It is asked for requests that
// have no span yet.
func (p parent) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	if p.t.trusted {
		if given := (propagation.TraceContext{}).Extract(ctx, carrier); trace.SpanContextFromContext(given).IsValid() {
			return given
		}
	}
	header, ok := carrier.(propagation.HeaderCarrier)
	if !ok {
		return ctx
	}
	if cause := p.t.causeOf(http.Header(header), true); cause.IsValid() {
		return trace.ContextWithRemoteSpanContext(ctx, cause)
	}
	return ctx
}

// Inject implements propagation.TextMapPropagator: answers don't say what trace
// they are part of.
func (parent) Inject(context.Context, propagation.TextMapCarrier) {}

// Fields implements propagation.TextMapPropagator.
func (parent) Fields() []string { return nil }

// causeOf returns the notice that a request is the refetch of, if it is known. With
// join, only while few have joined its trace.
func (t *Tracing) causeOf(header http.Header, join bool) (cause trace.SpanContext) {
	rev, err := parseAtLeast(header)
	if err != nil || rev.IsZero() {
		return cause
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	notice, ok := t.notices.get(rev)
	if !ok || join && notice.joined == maxJoined {
		return cause
	}
	if join {
		notice.joined++
	}
	return notice.span
}

// describe says in the RPC's span what is Freshet's, and links what isn't its
// parent.
func (t *Tracing) describe(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		span := trace.SpanFromContext(ctx)
		if !span.IsRecording() {
			return next(ctx, req)
		}
		own := span.SpanContext().TraceID()
		link := func(to trace.SpanContext) {
			if to.IsValid() && to.TraceID() != own {
				span.AddLink(trace.Link{SpanContext: to})
			}
		}
		link(t.causeOf(req.Header(), false))
		if !t.trusted {
			given := (propagation.TraceContext{}).Extract(context.Background(), propagation.HeaderCarrier(req.Header()))
			link(trace.SpanContextFromContext(given))
		}
		if rev, err := parseAtLeast(req.Header()); err == nil && !rev.IsZero() {
			span.SetAttributes(attrAtLeast.String(rev.String()))
		}
		if id := RequestIDOf(ctx); id != "" {
			span.SetAttributes(attrRequestID.String(id))
		}
		return next(ctx, req)
	}
}

// replied says in the RPC's span what its answer carries.
func (t *Tracing) replied(ctx context.Context, r *reply) {
	if t == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	if !r.stamp.IsZero() {
		span.SetAttributes(attrRevision.String(r.stamp.String()))
	}
	if r.from != "" {
		span.SetAttributes(attrCache.String(string(r.from)))
	}
}

// BeforeTold is to be called with each commit that streams are told of, just before
// that, and the low 32 bits of its transaction's id: so its trace is known when the
// first of their clients refetches. Nil: nobody wants to know.
func (t *Tracing) BeforeTold() func(xid uint32, commit freshet.Commit) {
	if t == nil {
		return nil
	}
	return t.told
}

func (t *Tracing) told(xid uint32, commit freshet.Commit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	notice, ok := t.pending.take(xid)
	if !ok || notice.epoch != commit.Revision.Epoch { // ids are given again after a crash
		return
	}
	notice.span.SetAttributes(attrRevision.String(commit.Revision.String()), attrTopics.Int(len(commit.Topics)))
	notice.span.End()
	t.notices.put(commit.Revision, &toldNotice{span: notice.span.SpanContext()})
}
