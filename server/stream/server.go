package stream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/share"
	"github.com/freshet-dev/freshet/server/hub"
)

// insertPositionTimeout bounds the question to the primary about a revision
// from the future.
const insertPositionTimeout = 2 * time.Second

// catchUpTimeout is how long a stream that another node has told more than this one
// knows waits for that: milliseconds, unless this one's feed is held up.
const catchUpTimeout = time.Second

// Server serves streams: it is the handler of GET and POST /events, and
// WatchHandler is that of the RPC. Use New.
type Server struct {
	config  Config
	metrics *metrics
	stale   atomic.Bool   // the lag is above MaxLag, as of the last look
	shed    atomic.Bool   // by Shed
	closing chan struct{} // closed by Shutdown
	leaving departures    // set before that
	untold  untold
	pumps   pumps
	peers   peers

	// Of each address and principal: streams, and the memory of their topics, in bytes
	// (callerTopics also bounds that of all).
	callers, principals           *share.Share[string]
	callerTopics, principalTopics *share.Share[string]

	mu      sync.Mutex // guards what follows
	open    int        // streams
	running int        // goroutines of streams that were taken over: see spawn
	closed  bool
	ended   bool
	drained chan struct{} // closed when ended is set
	granted granted
}

// New checks the config. It starts nothing; see Run.
func New(c Config) (*Server, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: c, closing: make(chan struct{}), drained: make(chan struct{}),
		callers: share.New[string](0, c.MaxPerCaller), principals: share.New[string](0, c.MaxPerPrincipal),
	}
	half := c.MaxTopicBytes / 2
	s.callerTopics = share.New[string](c.MaxTopicBytes, half*min(c.MaxPerCaller, 1))
	s.principalTopics = share.New[string](0, half*min(c.MaxPerPrincipal, 1))
	s.granted.news.come = make(chan struct{}, 1)
	s.pumps.init(s)
	if s.metrics, err = newMetrics(c.Registerer); err != nil {
		return nil, err
	}
	return s, nil
}

// Run watches the lag until ctx ends, so that every stream tells at once when it
// crosses the bound, and asks again whether streams may go on. It returns ctx's error.
func (s *Server) Run(ctx context.Context) error {
	var loops errgroup.Group
	loops.Go(func() error { return s.watchLag(ctx) })
	loops.Go(func() error { return s.askInTurn(ctx) })
	loops.Go(func() error { return s.askAboutRevoked(ctx) })
	return loops.Wait()
}

func (s *Server) watchLag(ctx context.Context) error {
	// A lag grows with the clock, so that we know when to look next; that it
	// has fallen is nothing anybody tells, so while it is high we look often.
	const whileStale = 50 * time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		if lag := s.look(); lag > s.config.MaxLag {
			timer.Reset(whileStale)
		} else {
			timer.Reset(s.config.MaxLag - lag + time.Millisecond)
		}
	}
}

// look asks the hub for the lag, and wakes every stream if the bound was crossed.
func (s *Server) look() time.Duration {
	lag := s.config.Hub.Lag()
	stale := lag > s.config.MaxLag
	if s.stale.Swap(stale) != stale {
		s.config.Hub.WakeAll()
	}
	return lag
}

// Shutdown refuses new streams, tells the open ones to come back after a
// while, and waits until all have ended, with their goroutines, or ctx does;
// connections that were taken over are closed then. They end evenly over a time, or
// at once if it is zero; a few take less. It may be called more than once: the first
// call decides when they end.
func (s *Server) Shutdown(ctx context.Context, over time.Duration) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.leaving.plan(over, s.open)
		close(s.closing)
		s.settle()
	}
	s.mu.Unlock()
	s.config.Hub.WakeAll() // outlets don't wait on closing
	select {
	case <-s.drained:
		return nil // also if ctx is over
	default:
	}
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
		s.peers.cut() // net/http doesn't know of them any more
		return ctx.Err()
	}
}

// Shed ends the open streams, when it is turned on, as Shutdown does, and refuses
// new ones: for a node whose clients are better served by another. It doesn't
// wait. Turned off, streams are taken again.
func (s *Server) Shed(on bool) {
	if !s.shed.Swap(on) && on {
		s.config.Hub.WakeAll()
	}
}

// perTopic is what the server keeps for a topic beside its text, about: an
// entry of the topic table, and the subscription's place in it.
const perTopic = 400

// weigh returns what a stream's topics cost in memory, about.
func weigh(topics []string) int {
	weight := perTopic * len(topics)
	for _, topic := range topics {
		weight += len(topic)
	}
	return weight
}

// load is what a stream takes of what there is.
type load struct {
	caller         string
	principal      string
	topics, weight int
}

// part is what a load takes of one's share, and what is said when that isn't there.
type part struct {
	of              *share.Share[string]
	who             string
	much            int
	reason, message string
}

func (s *Server) parts(l load) [4]part {
	return [...]part{
		{s.callers, l.caller, 1, "too_many_of_caller", "too many streams are open from your address"},
		{s.principals, l.principal, 1, "too_many_of_principal", "too many of your streams are open"},
		{s.callerTopics, l.caller, l.weight, "too_many_topic_bytes_of_caller", "the topics of all streams from your address are too many: ask for fewer, or later"},
		{s.principalTopics, l.principal, l.weight, "too_many_topic_bytes_of_principal", "the topics of all your streams are too many: ask for fewer, or later"},
	}
}

// enter takes a stream's load, leave gives it back.
func (s *Server) enter(l load) *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return notReady("the server is shutting down")
	case s.shed.Load():
		return notReady("this node has lost its feed: come back for another one")
	case s.open >= s.config.MaxConnections:
		return tooMany("too_many_connections", "too many streams are open")
	}
	parts := s.parts(l)
	for i, p := range parts {
		verdict := p.of.Take(p.who, p.much)
		if verdict == share.Granted {
			continue
		}
		for _, taken := range parts[:i] {
			taken.of.Give(taken.who, taken.much)
		}
		if verdict == share.Full {
			return tooMany("too_many_topic_bytes", "the topics of all open streams are too many: ask for fewer, or later")
		}
		return tooMany(p.reason, p.message)
	}
	s.open++
	s.metrics.connections.Inc()
	s.metrics.topics.Add(float64(l.topics))
	s.metrics.topicBytes.Add(float64(l.weight))
	return nil
}

func (s *Server) leave(l load) {
	s.metrics.connections.Dec()
	s.metrics.topics.Sub(float64(l.topics))
	s.metrics.topicBytes.Sub(float64(l.weight))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	for _, p := range s.parts(l) {
		p.of.Give(p.who, p.much)
	}
	s.settle()
}

// spawn runs f in a goroutine that Shutdown waits for. Once that has waited
// there is no stream, and nothing left to do for one.
func (s *Server) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.running++
	go func() {
		f()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
		s.settle()
	}()
}

// settle lets Shutdown return when there is nothing left to wait for. The
// caller holds mu.
func (s *Server) settle() {
	if s.closed && !s.ended && s.open == 0 && s.running == 0 {
		s.ended = true
		close(s.drained)
	}
}

// start authorizes the request, registers it and reads its catch-up. The
// session must be closed.
func (s *Server) start(ctx context.Context, r *request) (*session, *refusal) {
	round := s.granted.round.Load()
	if refused := s.authorize(ctx, r.topics); refused != nil {
		return nil, refused
	}
	if refused := s.checkTopics(r.topics); refused != nil {
		return nil, refused
	}
	_, expires := s.config.Credential(ctx)
	ends := !expires.IsZero() && time.Until(expires) < eternity
	if ends && !time.Now().Before(expires) {
		return nil, unauthorized(connect.NewError(errExpired.code, errExpired))
	}
	l := load{caller: s.config.Caller(ctx), principal: s.config.Principal(ctx), topics: len(r.topics), weight: weigh(r.topics)}
	if refused := s.enter(l); refused != nil {
		return nil, refused
	}
	session, refused := s.subscribe(ctx, r)
	if refused != nil {
		s.leave(l)
		return nil, refused
	}
	s.untold.look(ctx, &s.config, r.topics)
	session.load = l
	if ends {
		session.expires = expires.UnixNano()
	}
	if refused := s.remember(ctx, session, round); refused != nil {
		session.close()
		return nil, refused
	}
	return session, nil
}

func (s *Server) subscribe(ctx context.Context, r *request) (*session, *refusal) {
	if refused := s.place(ctx, &r.since); refused != nil {
		return nil, refused
	}
	sub, err := s.config.Hub.Subscribe(r.topics, r.since)
	if errors.Is(err, hub.ErrNotServing) {
		return nil, notReady(err.Error())
	} else if err != nil {
		s.config.Logger.ErrorContext(ctx, "subscribe", "error", err)
		return nil, internal()
	}
	first := sub.TakeAll()
	if first.Frontier.IsZero() { // the hub has stopped serving just now
		sub.Close()
		return nil, notReady(hub.ErrNotServing.Error())
	}
	// Run may have looked last while the node was still catching up: the stream
	// would tell a lag that is over, and then that it is over.
	s.look()
	return &session{server: s, sub: sub, first: first, throttle: r.throttle}, nil
}

// place asks the primary about a since that is above the node's frontier. One
// that the primary has not reached either is from the future, of a restored
// copy or forged: it begins with a reset, as a foreign one does. One of an epoch
// that the primary has and the node has not is for a node that is further. Any other
// is of a client whose last node was further, a little as a rule: a moment later it is
// told nothing again, and no id that is below its last. After that moment it is told
// again what it knows already, since a stream that says its lag is better than none.
func (s *Server) place(ctx context.Context, since *hub.Since) *refusal {
	highest := since.All
	for _, rev := range since.ByTopic {
		highest = highest.Max(rev)
	}
	frontier := s.config.Hub.Frontier()
	if s.config.InsertPosition == nil || since.Reset || frontier.IsZero() || highest.Compare(frontier) <= 0 {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, insertPositionTimeout)
	defer cancel()
	primary, err := s.config.InsertPosition(asking)
	switch {
	case err != nil:
		if asking.Err() == nil {
			s.config.Logger.WarnContext(ctx, "ask for the primary's position", "error", err)
		}
		return notReady("the database can't be asked about the revision")
	case primary.Less(highest):
		since.Reset = true
	case highest.Epoch > frontier.Epoch:
		return notReady("the node has not reached the epoch of the revision yet")
	default:
		waiting, cancel := context.WithTimeout(ctx, catchUpTimeout)
		defer cancel()
		_ = s.config.Hub.Wait(waiting, highest) // or it begins below
	}
	return nil
}

// logEnd logs a stream's end; last is where its client will begin again.
func (s *Server) logEnd(ctx context.Context, transport string, err error, last freshet.Revision) {
	s.config.Logger.DebugContext(ctx, "stream ended", "transport", transport, "reason", err, "last_id", last.String())
}
