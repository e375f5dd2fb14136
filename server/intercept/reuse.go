package intercept

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
)

// HeaderCache says where the answer of a read comes from.
const HeaderCache = "Freshet-Cache"

// Values of HeaderCache.
const (
	cacheHit    = "hit"    // kept
	cacheJoined = "joined" // somebody else's query
	cacheMiss   = "miss"   // a query of its own
)

// reuse lets reads share queries and answers, without anybody seeing less than
// it asked for (G6, G7).
//
// The floor rule: a read at-least takes the frontier F, and then, in this
// order, its floor, the last change of its topics. An answer whose snapshot
// was taken at or after frontier S ≥ floor is what a query would find now as
// far as F goes: nothing it depends on changed in (S, F]. So it may be
// stamped F, or S if that is higher. In the other order a change could slip
// in between.
//
// Without that proof the answer may still be taken by whoever asked for no more
// than S, and is stamped S: under a steady stream of writes the floor is always
// the newest commit, and every reader would need a query of its own.
//
// A strong read takes no answer from before it arrived: it shares only a query
// that has not begun.
//
// All this rests on being told of changes. Of topics in quarantine it isn't so:
// each read is a query of its own then, stamped as such, and nobody keeps it.
type reuse struct {
	program *contract.Program
	node    Hub
	flights *flights
	lagOK   func() bool // the node is current enough for kept answers
	metrics *Metrics
	audit   *audit
}

func newReuse(cfg Config, c *cache, audit *audit) connect.Interceptor {
	r := &reuse{
		program: cfg.Contract,
		node:    cfg.Hub,
		flights: &flights{
			node: cfg.Hub, cache: c, timeout: cfg.MaxRead, interval: cfg.ReadInterval,
			logger: cfg.Logger, metrics: cfg.Metrics, lanes: map[readKey]*lane{},
		},
		lagOK:   func() bool { return cfg.Hub.Lag() <= cfg.MaxLag },
		metrics: cfg.Metrics,
		audit:   audit,
	}
	if cfg.testReuse != nil {
		cfg.testReuse(r)
	}
	return unary(r.around)
}

func (i *reuse) around(ctx context.Context, req connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
	key, topics, ok := i.keyOf(ctx, req)
	if !ok {
		return next(ctx, req)
	}
	r := replyOf(ctx)
	w := i.wantOf(r.atLeast, topics)
	if i.node.Quarantined(topics) { // after the frontier
		i.metrics.reused(cacheMiss)
		r.cache, r.unkept = cacheMiss, true
		return next(ctx, req)
	}
	current := i.lagOK()
	if current {
		if kept, ok := i.flights.cache.get(key); ok && w.metBy(kept.start) {
			i.metrics.reused(cacheHit)
			r.stamp, r.cache = w.stamp(kept.start), cacheHit
			return kept.response, nil
		}
	}
	f, shared := i.flights.join(ctx, key, w, current, &flight{
		run: func(ctx context.Context) (connect.AnyResponse, error) {
			return next(ctx, req)
		},
		topics: topics, why: i.causeOf(w, current),
	})
	r.cache = cacheMiss
	if shared {
		r.cache = cacheJoined
	}
	i.metrics.reused(r.cache)
	if err := i.flights.wait(ctx, key, f); err != nil {
		return nil, err
	}
	switch {
	case f.stamped:
		r.stamp = w.stamp(f.start)
	case f.err == nil && !w.strong():
		// There was a frontier when the caller asked, and none when the query began.
		return nil, errNoFrontier()
	}
	return f.response, f.err
}

// wantOf reads the frontier first, then the topics.
func (i *reuse) wantOf(asked freshet.Revision, topics []string) want {
	if asked.IsZero() {
		return want{}
	}
	w := want{asked: asked, frontier: i.node.Frontier()}
	if floor := i.node.Floor(topics); floor.Epoch == w.frontier.Epoch {
		w.floor = floor // or a new history began between the two
	}
	return w
}

// causeOf says why no kept answer may be taken, should there be one.
func (i *reuse) causeOf(w want, current bool) cause {
	switch {
	case w.strong():
		return becauseStrong
	case !current:
		return becauseLag
	case w.floor.Compare(i.node.Horizon()) <= 0:
		return becauseHorizon
	}
	return becauseFloor
}

// sameMessage compares two answers.
func sameMessage(a, b connect.AnyResponse) bool {
	one, ok := a.Any().(proto.Message)
	other, also := b.Any().(proto.Message)
	return ok && also && proto.Equal(one, other)
}

// keyOf returns the key and the topics of a read whose answer may be shared.
func (i *reuse) keyOf(ctx context.Context, req connect.AnyRequest) (_ readKey, topics []string, ok bool) {
	method := i.program.Method(req.Spec().Procedure)
	message, isProto := req.Any().(proto.Message)
	if method == nil || method.Kind != contract.Read || method.Uncached || i.audit.bars(method.Procedure) || !isProto {
		return readKey{}, nil, false
	}
	topics, err := method.Topics(message)
	if err != nil || len(topics) == 0 {
		return readKey{}, nil, false // nobody could say that it has changed
	}
	request, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return readKey{}, nil, false
	}
	key := readKey{procedure: method.Procedure, request: string(request)}
	if !method.Shared {
		key.scope = PrincipalOf(ctx).Subject
	}
	return key, topics, true
}
