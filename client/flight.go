package client

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet/internal/rule"
)

// The flights of a query, and the streams that it follows.

// outcome is the end of a flight.
type outcome[Res any] struct {
	in     rule.Input
	topics []string // of an answer
	value  *Res
	err    error
	// failed is why there is no answer, if that is worth telling while there is no
	// stream which would have the same trouble; final: it stays so.
	failed error
	final  bool
}

func (q *Query[Req, Res]) fetch(ctx context.Context, f rule.Request) outcome[Res] {
	ctx, cancel := context.WithTimeout(ctx, q.client.flightTimeout)
	defer cancel()
	req := connect.NewRequest(q.req)
	// Set here as well as by the interceptor, which the caller's client may lack.
	ctx = withRead(AtLeast(Strong(ctx), f.AtLeast))
	ask(ctx, req.Header())
	resp, err := q.call(ctx, req)
	if err == nil {
		stamp := stampOf(resp.Header())
		topics, err := q.topicsOf(resp.Header(), any(resp.Msg).(proto.Message))
		if err != nil { // as the server has it, too: such an answer can't be followed
			return outcome[Res]{in: rule.Input{Kind: rule.OnFailure, Flight: f.Flight}, failed: err}
		}
		return outcome[Res]{
			value: resp.Msg, topics: topics,
			in: rule.Input{Kind: rule.OnAnswer, Flight: f.Flight, Revision: stamp.Revision},
		}
	}
	failed := failureOf(err)
	failed.in.Flight = f.Flight
	if !failed.answered {
		return outcome[Res]{in: failed.in, failed: err, final: failed.final}
	}
	topics, why := q.asked, error(nil)
	if topics == nil {
		cerr, _ := errors.AsType[*connect.Error](err)
		topics, why = q.topicsOf(cerr.Meta(), nil)
	}
	if why != nil {
		return outcome[Res]{in: rule.Input{Kind: rule.OnFailure, Flight: f.Flight}, failed: why}
	}
	return outcome[Res]{err: err, in: failed.in, topics: topics}
}

// topicsOf returns the topics of an answer, at least one; res is nil if that is an error.
func (q *Query[Req, Res]) topicsOf(header http.Header, res proto.Message) ([]string, error) {
	method, err := q.method.ForCaller(header.Get(headerCaller))
	if err != nil {
		return nil, err
	}
	topics, err := method.AnswerTopics(any(q.req).(proto.Message), res)
	if err == nil && len(topics) == 0 {
		err = errNoTopics(method)
	}
	return topics, err
}

// following is one stream of a query.
type following struct {
	events   chan Event      // nil: there is no stream, for want of topics
	verdicts chan error      // on each event
	ended    chan error      // capacity 1; nil, too, without a stream
	done     <-chan struct{} // in its place
	stop     func()          // and waits for its end; not while an event waits for its verdict
	resumed  bool            // it has begun at a since, or has had its ready
	tokens   int             // sentTokens.count before it began
}

// firstWait is how long the first fetch waits for the stream.
func (f *following) firstWait() time.Duration {
	if f.events == nil {
		return 0
	}
	return queryFirstWait
}

// follow opens a stream of the topics that there are now. The caller stops it.
func (q *Query[Req, Res]) follow(ctx context.Context) *following {
	topics, since := q.rule.Open()
	if len(topics) == 0 {
		return q.unfollowed(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	q.stale = true // until it is ready
	f := &following{
		tokens: q.client.sent.count(),
		events: make(chan Event), verdicts: make(chan error), ended: make(chan error, 1),
		resumed: !q.rule.Have().IsZero(),
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		f.ended <- q.client.Stream(ctx, topics, func(e Event) error {
			select {
			case f.events <- e:
				return <-f.verdicts
			case <-ctx.Done():
				return ctx.Err()
			}
		}, WithSince(since))
	})
	f.stop = func() {
		cancel()
		wg.Wait()
	}
	return f
}

// unfollowed stands in the place of a stream until an answer says what to follow.
func (q *Query[Req, Res]) unfollowed(ctx context.Context) *following {
	q.stale = true
	q.rule.Unfollow()
	return &following{done: ctx.Done(), stop: func() {}}
}

// deniedAnother reports whether a stream was refused to somebody else than it was for:
// the topics are those of the caller before, and what the one now may follow, an answer
// to them says. That another token was sent since bounds how often.
func (q *Query[Req, Res]) deniedAnother(err error, f *following) bool {
	status, ok := errors.AsType[*StatusError](err)
	return ok && status.Status == http.StatusForbidden && q.another != nil && q.client.sent.count() != f.tokens
}
