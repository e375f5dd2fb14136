package intercept

import (
	"context"
	"slices"

	"connectrpc.com/connect"
	"connectrpc.com/validate"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/server/reuse"
	"github.com/freshet-dev/freshet/store"
)

// call is one unary call: what it asks for, and what the steps have found out and
// decided about its response so far. It is handed from step to step, and belongs to
// the call's own goroutine: a query that is shared never sees it.
type call struct {
	req       connect.AnyRequest
	procedure string
	method    *contract.Method // nil: the contract doesn't know it; from forCaller on, as the caller has it
	write     bool

	topics   []string // of the request, from topicsOf on
	noTopics error    // why there are none

	atLeast freshet.Revision // what was asked for, and the frontier has reached; zero: a strong read
	reply   reply
	depends []string // what the answer depends on, where its request doesn't tell
}

// newCall tells mutations from reads. A method that the contract doesn't know is
// judged by its idempotency level.
func newCall(program *contract.Program, req connect.AnyRequest) *call {
	spec := req.Spec()
	c := &call{req: req, procedure: spec.Procedure, method: program.Method(spec.Procedure)}
	if c.method != nil {
		c.write = c.method.Kind == contract.Write
	} else {
		c.write = spec.IdempotencyLevel != connect.IdempotencyNoSideEffects
	}
	return c
}

// handler is what a step wraps: the steps below it.
type handler func(ctx context.Context, c *call) (connect.AnyResponse, error)

// step is one thing that is done around all calls.
type step func(next handler) handler

// ask has a service's handler answer a request. told is what the store is told of
// the call, and tells of it.
type ask func(ctx context.Context, req connect.AnyRequest, told *store.Call) (connect.AnyResponse, error)

// chain is the interceptor that Options makes of all steps.
type chain struct {
	program     *contract.Program
	respond     *respond
	validate    *validate.Interceptor
	steps       []step // outermost first
	read, write func(ask) handler
	audit       *audit
	allowed     *Authorizer
}

func newChain(cfg *Config, reads *reuse.Reads) *chain {
	validate, audit := validate.NewInterceptor(), newAudit(cfg)
	steps := []step{
		validated(validate),
		forCaller,
		topicsOf,
		authorize(cfg.Authorizer),
		spelled(cfg.Spelling),
		atLeast(cfg.Hub, cfg.Primary, cfg.MaxWait, cfg.Metrics),
	}
	if cfg.Causes != nil {
		steps = append(steps, explain(cfg.Causes, cfg.Metrics))
	}
	return &chain{
		program:  cfg.Contract,
		respond:  &respond{logger: cfg.Logger, metrics: cfg.Metrics, tracing: cfg.Tracing},
		validate: validate,
		steps:    append(steps, newUntold(cfg).look, conditional, authorizeAnswer(cfg.Authorizer)),
		read:     read(reads, cfg.Spelling, audit, &writing{logger: cfg.Logger}),
		write:    settle(cfg, audit),
		audit:    audit, allowed: cfg.Authorizer,
	}
}

// WrapUnary implements connect.Interceptor. It is called once for each method.
func (i *chain) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	asked := i.audit.around(next)
	read, write := i.read(asked), i.write(asked)
	var h handler = func(ctx context.Context, c *call) (connect.AnyResponse, error) {
		if c.write {
			return write(ctx, c)
		}
		return read(ctx, c)
	}
	for _, s := range slices.Backward(i.steps) {
		h = s(h)
	}
	return i.respond.unary(i.program, h)
}

// WrapStreamingHandler implements connect.Interceptor.
func (i *chain) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return i.respond.stream(i.validate.WrapStreamingHandler(authorizeStream(i.allowed, next)))
}

// WrapStreamingClient implements connect.Interceptor.
func (*chain) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// validated refuses requests that break a rule of protovalidate.
func validated(i *validate.Interceptor) step {
	// It wants a response of what it wraps, and doesn't look at it.
	passed := connect.NewResponse(new(emptypb.Empty))
	check := i.WrapUnary(func(context.Context, connect.AnyRequest) (connect.AnyResponse, error) { return passed, nil })
	return func(next handler) handler {
		return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
			if _, err := check(ctx, c.req); err != nil {
				return nil, err
			}
			return next(ctx, c)
		}
	}
}
