package client

import (
	"context"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/rule"
)

// Snapshot is what a Query holds at one moment.
type Snapshot[Res any] struct {
	// Value is the latest answer; nil before the first, and when the latest
	// answer is Err. It is shared: don't modify it.
	Value *Res
	// Err is an answer too: `not_found` says what the database holds. A
	// failure to get one (`unavailable`, say) is not; then Fresh is false.
	Err error
	// Revision is how far the answer is known to be complete; zero: unknown.
	Revision freshet.Revision
	// Fresh says that the answer is as fresh as anything heard, that the
	// stream is alive, and that its node keeps up with the database (G9).
	Fresh bool
	// StreamErr is why there is no stream now, or why there will soon be none: the
	// error of a [Disconnected], or of a [RenewalFailed] (a token source that fails,
	// say), while it holds.
	StreamErr error
}

// Loaded reports whether there has been an answer at all.
func (s Snapshot[Res]) Loaded() bool { return s.Value != nil || s.Err != nil }

// Query keeps the answer of one unary call fresh while Run runs: it follows
// the call's topics and fetches again when they changed, as the client rule
// decides (docs/protocol.md).
// Its methods are safe for concurrent use; what it holds outlives Run.
type Query[Req, Res any] struct {
	client *Client
	method *contract.Method
	asked  []string // topics of the request; nil: only an answer tells
	call   func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error)
	req    *Req

	running sync.Mutex // held by Run; guards rule and stale
	rule    *rule.Follower
	stale   bool            // no stream yet of all topics, or a node that lags
	trouble error           // Snapshot.StreamErr
	another <-chan struct{} // closed: another token is sent than what is held was read with; nil: it is the same to the answer

	nudge chan struct{} // capacity 1: written is new

	mu      sync.Mutex // guards all below
	topics  []string
	latest  Snapshot[Res]
	changed chan struct{}    // closed at the next change
	written freshet.Revision // by the caller; not yet given to the rule
}

const (
	queryFirstWait = time.Second     // for the stream, before a fetch without it
	queryMaxLag    = 5 * time.Second // the default of --max-lag
)

// QueryOption configures a [Query].
type QueryOption func(*queryConfig)

type queryConfig struct{ procedure string }

// WithProcedure says which method the call is, by the constant that Connect
// generates for it. It is needed only where several methods share their request
// and response messages; NewQuery says so.
func WithProcedure(procedure string) QueryOption {
	return func(c *queryConfig) { c.procedure = procedure }
}

// NewQuery makes a query of a call, a method of a generated client:
//
//	q, err := client.NewQuery(c, messages.ListMessages, &messagesv1.ListMessagesRequest{Parent: "conversations/7"})
//	…
//	go q.Run(ctx)
//	for s := range q.Changes(ctx) { … }
//
// Which topics the answer depends on is in the contract: the method's
// (freshet.v1.reads), in the generated code, and the request say it, and the answer
// itself where that has topics of its own. The error, a *[QueryError], says why they
// don't. Topics that take claims of the caller are known with the first answer, and
// followed from then on; when another token is sent, the query reads again, as the one
// whom that names. NewQuery sends nothing. req must not be
// modified afterwards.
func NewQuery[Req, Res any](c *Client,
	call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req, opts ...QueryOption,
) (*Query[Req, Res], error) {
	var cfg queryConfig
	for _, opt := range opts {
		opt(&cfg)
	}
	topics, method, err := topicsOf(req, new(Res), cfg.procedure)
	if err != nil {
		return nil, err
	}
	q := &Query[Req, Res]{
		client: c, method: method, asked: topics, topics: topics, call: call, req: req,
		rule:  rule.NewFollower(topics),
		nudge: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	if len(method.Claims()) > 0 {
		q.another = c.sent.another()
	}
	return q, nil
}

// Topics returns what the answer held depends on, in the order of the method's
// templates; before the first answer, what the request says of it: nothing, where they
// take claims of the caller. The slice is the
// query's: don't modify it.
func (q *Query[Req, Res]) Topics() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.topics
}

// Latest returns what the query holds now.
func (q *Query[Req, Res]) Latest() Snapshot[Res] {
	s, _ := q.watch()
	return s
}

func (q *Query[Req, Res]) watch() (Snapshot[Res], <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.latest, q.changed
}

// Changes yields what the query holds now and after each change, until ctx
// ends. A slow reader misses changes between, never the last one.
func (q *Query[Req, Res]) Changes(ctx context.Context) iter.Seq[Snapshot[Res]] {
	return func(yield func(Snapshot[Res]) bool) {
		for {
			s, changed := q.watch()
			if !yield(s) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Run keeps the query fresh until ctx ends or the server refuses the stream for
// good; its error is that of [Client.Stream], or, where a stream waits for the answer
// that tells its topics, that of a call that was denied. Run may be called again
// afterwards, and goes on where it stopped; a call beside another waits for it.
func (q *Query[Req, Res]) Run(ctx context.Context) error {
	q.running.Lock()
	defer q.running.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	q.rule.Rest()
	stream := q.follow(ctx)
	defer func() { stream.stop() }()
	outcomes := make(chan outcome[Res])
	timer := time.NewTimer(stream.firstWait())
	defer timer.Stop()
	poll := time.NewTimer(time.Hour) // strong reads while the node lags
	poll.Stop()
	defer poll.Stop()

	for {
		var in rule.Input
		var out outcome[Res]
		var step rule.Step
		select {
		case err := <-stream.ended:
			if q.deniedAnother(err, stream) {
				stream.stop()
				poll.Stop()
				stream = q.unfollowed(ctx)
				in = rule.Input{Kind: rule.OnAnother}
				break
			}
			q.stale, q.trouble = true, err
			q.publish(rule.Step{}, out)
			return err
		case <-stream.done:
			return ctx.Err()
		case <-timer.C:
			in = rule.Input{Kind: rule.OnTimer}
		case <-poll.C:
			poll.Reset(pollWait())
			in = rule.Input{Kind: rule.OnRefresh}
		case <-q.another:
			q.another = q.client.sent.another()
			in = rule.Input{Kind: rule.OnAnother}
		case <-q.nudge:
			in = rule.Input{Kind: rule.OnInvalidate, Revision: q.takeWritten(), Own: true}
		case out = <-outcomes:
			in = out.in
			if stream.events == nil && out.failed != nil {
				if q.trouble = out.failed; out.final {
					q.publish(rule.Step{}, out)
					return out.failed
				}
			}
		case e := <-stream.events:
			var ok bool
			in, ok = inputOf(e, stream.resumed)
			if ok && q.rule.Behind(in) {
				stream.verdicts <- resumeError{since: q.rule.Since()}
				continue
			}
			stream.verdicts <- nil
			q.heed(e, poll)
			if !ok {
				q.publish(rule.Step{}, out)
				continue
			}
			stream.resumed = stream.resumed || in.Kind == rule.OnReady
			if told, ok := e.(Invalidate); ok {
				step, in = q.rule.Notice(told.Topics, told.Revision, told.Spread), rule.Input{}
			}
		}
		switch {
		case out.topics != nil:
			var reopen bool
			if step, reopen = q.rule.Answer(in, out.topics); reopen {
				stream.stop()
				poll.Stop()
				stream = q.follow(ctx)
			}
		case in != rule.Input{}:
			step = q.rule.On(in)
		}
		q.publish(step, out)
		if p := step.Pause; p != nil {
			timer.Reset(p.Least + time.Duration(rand.Int64N(int64(p.Spread)+1))) //nolint:gosec // jitter
		}
		if f := step.Fetch; f != nil {
			wg.Go(func() {
				select {
				case outcomes <- q.fetch(ctx, *f):
				case <-ctx.Done():
				}
			})
		}
	}
}

// heed takes what an event says of the stream itself.
func (q *Query[Req, Res]) heed(e Event, poll *time.Timer) {
	switch e := e.(type) {
	case Frontier:
		if lags := e.Lag > queryMaxLag; lags != q.stale {
			q.stale = lags
			if poll.Stop(); lags {
				poll.Reset(pollWait())
			}
		}
	case Ready:
		q.stale, q.trouble = false, nil
	case Renewed:
		q.trouble = nil
	case RenewalFailed:
		q.trouble = e.Err
	case Disconnected:
		q.stale, q.trouble = true, e.Err
		poll.Stop()
	}
}

// pollWait is 10 s or more, with jitter.
func pollWait() time.Duration { return 10*time.Second + rand.N(5*time.Second) } //nolint:gosec // jitter

func inputOf(e Event, resumed bool) (rule.Input, bool) {
	switch e := e.(type) {
	case Invalidate:
		return rule.Input{Kind: rule.OnInvalidate, Revision: e.Revision, Spread: e.Spread}, true
	case Ready:
		return rule.Input{Kind: rule.OnReady, Revision: e.Revision, Resumed: resumed}, true
	case Reset:
		return rule.Input{Kind: rule.OnReset, Revision: e.Revision}, true
	case Frontier:
		return rule.Input{Kind: rule.OnFrontier, Revision: e.Revision}, true
	default:
		return rule.Input{}, false
	}
}

// publish shows the answer that was kept, and what is known of the one held.
func (q *Query[Req, Res]) publish(step rule.Step, out outcome[Res]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before := q.latest
	if step.Keep {
		q.latest.Value, q.latest.Err = out.value, out.err
		q.topics = q.rule.Topics()
	}
	q.latest.Revision, q.latest.Fresh, q.latest.StreamErr = q.rule.Have(), q.rule.Fresh() && !q.stale, q.trouble
	// A revision that only moves on with the heartbeat is no news.
	if step.Keep || before.Fresh != q.latest.Fresh || (before.StreamErr == nil) != (q.trouble == nil) {
		close(q.changed)
		q.changed = make(chan struct{})
	}
}

// Wrote tells the query of a mutation that may have changed its answer: what it
// holds will reach the mutation's stamp (G5) without waiting for the stream. It
// returns at once. An unknown stamp is ignored: the stream brings the change.
func (q *Query[Req, Res]) Wrote(s Stamp) {
	q.mu.Lock()
	q.written = q.written.Max(s.Revision)
	q.mu.Unlock()
	select {
	case q.nudge <- struct{}{}:
	default: // one is waiting already
	}
}

func (q *Query[Req, Res]) takeWritten() freshet.Revision {
	q.mu.Lock()
	defer q.mu.Unlock()
	rev := q.written
	q.written = freshet.Revision{}
	return rev
}
