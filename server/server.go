// Package server is Freshet as a library: it makes a team's own Connect service
// fresh, on the team's own database. New compiles the contract that the services'
// protos carry and builds a Node; handlers are made with the node's
// HandlerOptions; Run captures.
//
//	node, err := server.New(server.Config{DatabaseURL: url, Services: services})
//	mux.Handle(node.Protect(tasksv1connect.NewTaskServiceHandler(tasks, node.HandlerOptions()...)))
//	mux.Handle(node.Events())
//	mux.Handle(node.Watch())
//	err = node.Run(ctx)
//
// A node opens no port, handles no signal, and has nothing that is global: a
// process may have several, of several databases, or of several slots of one.
// The package is the only place where the concrete types of store, store/wal,
// server/hub, server/stream and server/intercept meet, and holds no logic of its
// own beyond their order.
//
// # Start
//
// New opens nothing. Handlers may be served at once: until Run has come to its
// last step they answer `unavailable`. Run
//
//  1. waits for the database, as capture reaches it and as migrations do;
//  2. unless SkipMigrate: migrates Freshet's own tables, calls Migrate for the
//     services', sets up publication and replica identities;
//  3. proves that this program fits the database, and calls Check for the services;
//  4. has DB's pool looked after, if DB was asked for;
//  5. starts capture, which fills the hub, and lets handlers through.
//
// Ready tells whether capture has caught up, and if not, what is waited for.
//
// # Stop
//
// When Run's context ends, handlers answer `unavailable`, streams are told to
// come back, capture closes its connections (Postgres could not stop while a
// walsender is behind), then the pool is closed. Calls that are in a handler by
// then keep their connection until they return, but a write may be answered
// without a stamp. To have every call answered in full, stop in this order:
// Retire, so that a balancer looks elsewhere; Drain, which ends the streams;
// http.Server.Shutdown, which waits for calls; then Run's context.
package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/service"
	"github.com/freshet-dev/freshet/server/causes"
	"github.com/freshet-dev/freshet/server/grants"
	"github.com/freshet-dev/freshet/server/heat"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/server/relay"
	"github.com/freshet-dev/freshet/server/stream"
	"github.com/freshet-dev/freshet/store"
	"github.com/freshet-dev/freshet/store/wal"
)

// Publication is the publication that a feed follows unless Config names another.
const Publication = "freshet"

// Node is one node of one or more services on one database. Use New, then Run
// once. The other methods are safe for concurrent use, before Run and after it
// as well.
type Node struct {
	cfg              Config
	program          *contract.Program
	database, source address // of the services and migrations, and of capture
	ready            readiness
	changed          chan struct{} // capacity 1: readiness may be another one
	hub              *hub.Hub
	feed             *wal.Feed
	relay            *relay.Relay       // nil: the node captures, whatever others do
	tracing          *intercept.Tracing // nil: nothing is traced
	causes           *causes.Log        // nil: nobody asks why
	heat             *heat.Meter
	streams          *stream.Server
	callers          *intercept.Authenticator // nil: nobody asks who calls
	options          []connect.HandlerOption
	watchPath        string
	watch            http.Handler
	ran              atomic.Bool

	mu      sync.Mutex    // guards what follows
	db      *store.DB     // nil: nobody has asked for it
	pooling bool          // Run has come to the pool
	ended   bool          // Run has left it
	parts   service.Group // that run
}

// New validates the configuration, compiles the contract of its services and
// builds a node. It opens nothing, and starts nothing. What is wrong with the
// configuration is a *ConfigError, or several joined; what is wrong with the
// contract, an error of contract.Compile.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, changed: make(chan struct{}, 1)}
	if n.database, n.source, err = addresses(cfg); err != nil {
		return nil, err
	}
	if n.program, err = contract.Compile(cfg.Services...); err != nil {
		return nil, err
	}
	n.ready.enter(ReasonStarting, "Run has not been called")
	n.ready.refuse("the server is starting")
	n.hub = hub.New(hub.Config{MaxTopics: cfg.MaxTopics})
	if n.tracing, err = intercept.NewTracing(cfg.TracerProvider, cfg.TrustTraces); err != nil {
		return nil, err
	}
	sink := n.explaining(&listener{Hub: n.hub, heed: func(c freshet.Commit) { n.streams.Heed(c) }, gap: func() { n.streams.HeedGap() }, began: n.epochBegan})
	beforeTold := n.tracing.BeforeTold()
	var publisher *relay.Publisher
	if cfg.relays() {
		publisher = relay.NewPublisher(sink)
		sink, beforeTold = publisher, publisher.BeforeTold(beforeTold)
	}
	if n.feed, err = wal.New(wal.Config{
		Connect:       n.source,
		Program:       n.program,
		Sink:          sink,
		OnChange:      n.wake,
		BeforeTold:    beforeTold,
		Explain:       cfg.Explain,
		Logger:        cfg.Logger,
		Slot:          cfg.Slot,
		Publication:   cfg.Publication,
		MaxLag:        cfg.MaxLag,
		Secret:        cfg.relays(),
		WindowAge:     cfg.ReplayWindow,
		WindowBytes:   uint64(cfg.ReplayWindowBytes), //nolint:gosec // checked,
		ProbeInterval: cfg.ProbeInterval,
		Linger:        cfg.Linger,
	}); err != nil {
		return nil, err
	}
	if publisher != nil {
		if err := n.joinFleet(publisher); err != nil {
			return nil, err
		}
	}
	n.ready.conditions = []condition{
		{ReasonStopping, n.notRetired},
		{ReasonCapture, n.relayed},
		{ReasonCapture, n.feed.Ready},
		{ReasonCapture, n.caughtUp},
		{ReasonDatabase, n.poolReady},
	}
	// Before the parts below register theirs, which panics where it can't.
	if err := n.observe(); err != nil {
		return nil, err
	}
	n.measurable()
	return n, n.buildHandlers()
}

func (n *Node) buildHandlers() (err error) {
	cfg := n.cfg
	var metrics *intercept.Metrics
	if cfg.Registerer != nil {
		metrics = intercept.NewMetrics(cfg.Registerer)
	}
	n.callers = intercept.NewAuthenticator(cfg.Authenticate, cfg.Logger, cfg.Registerer)
	allowed := intercept.NewAuthorizer(cfg.Authorize, cfg.Logger)
	n.options = append([]connect.HandlerOption{connect.WithInterceptors(n.callers.Required(), admission{&n.ready}, newInFlight(cfg))}, intercept.Options(intercept.Config{
		Contract:   n.program,
		Hub:        n.hub,
		Primary:    n.feed,
		Settler:    n.feed,
		Spelling:   n.feed.Spelling,
		Authorizer: allowed,
		MaxWait:    atOnce(cfg.MaxWait),
		MaxSettle:  atOnce(cfg.MaxSettle),
		MaxRead:    cfg.MaxRead,

		ReadInterval: cfg.ReadInterval,
		MaxLag:       cfg.MaxLag,
		CacheBytes:   cfg.CacheBytes,
		Replicas:     len(cfg.ReplicaURLs) > 0,

		MaxRequestBytes: cfg.MaxRequestBytes,
		Audit:           cfg.AuditReads,
		OnUndeclared:    func(e *intercept.AuditError) { n.ready.warn(e.Error()) },
		Causes:          n.whys(),
		Heat:            n.heat,
		Tracing:         n.tracing,
		Logger:          cfg.Logger,
		Metrics:         metrics,
	})...)
	streams := stream.Config{
		Hub:            n.hub,
		InsertPosition: n.feed.InsertPosition,
		Contract:       n.program.Hash(),
		Heartbeat:      cfg.Heartbeat,
		Throttle:       cfg.Throttle,
		WriteTimeout:   cfg.WriteTimeout,
		MaxTopics:      cfg.MaxStreamTopics,
		MaxLag:         cfg.MaxLag,
		MaxConnections: cfg.MaxStreams,
		Caller:         callerOf,
		MaxPerCaller:   max(cfg.MaxStreamsPerCaller, 0),
		Principal:      principalOf,

		MaxPerPrincipal: max(cfg.MaxStreamsPerPrincipal, 0),
		MaxTopicBytes:   cfg.MaxTopicBytes,
		MaxBodyBytes:    int64(cfg.MaxRequestBytes),
		Logger:          cfg.Logger,
		Registerer:      cfg.Registerer,
		Credential:      intercept.CredentialOf,
		Reauthorize:     cfg.Reauthorize,
	}
	told := new(patternSet)
	for _, source := range slices.Concat(n.program.Sources(), n.program.Told()) {
		for _, floor := range source.Floors() {
			told.add(floor)
		}
	}
	streams.Tells = told.match
	streams.CheckTopic = func(topic string) *connect.Error {
		if err := n.feed.Spelling().Check(topic); err != nil {
			return intercept.TopicSpelling(err)
		}
		return nil
	}
	if allowed != nil {
		streams.Authorize = func(ctx context.Context, topics []string) error {
			return allowed.Ask(ctx, intercept.PrincipalOf(ctx), grants.Subscribe, topics)
		}
		streams.Remember = intercept.Remember
	}
	if n.streams, err = stream.New(streams); err != nil {
		return err
	}
	n.watchPath, n.watch = n.streams.WatchHandler(n.options...)
	return nil
}

// atOnce is None as a bound: the least there is.
func atOnce[T ~int64](d T) T {
	if d < 0 {
		return 1
	}
	return d
}

// HandlerOptions returns what makes a handler fresh: pass it to the generated
// constructor of each service that Config names, and the handler to Protect. (A
// service that it doesn't name has no topics; its calls pass.)
func (n *Node) HandlerOptions() []connect.HandlerOption { return slices.Clone(n.options) }

// Protect has Config.Authenticate asked who calls, before a handler is: of a service,
// or of whatever else is served. Refusals are 401 with WWW-Authenticate, in gRPC
// `unauthenticated`. Where wrapped handlers are within another that is, the outermost
// asks. Without Config.Authenticate it returns its arguments.
func (n *Node) Protect(path string, handler http.Handler) (string, http.Handler) {
	return path, n.callers.Wrap(handler)
}

// Authenticates reports whether somebody asks who calls: Config.Authenticate is set.
func (n *Node) Authenticates() bool { return n.callers != nil }

// Events returns the stream of invalidations for browsers and other clients of
// SSE, and the path where they look for it.
func (n *Node) Events() (path string, handler http.Handler) {
	return n.Protect("/events", n.named(n.gated(n.streams)))
}

// Watch returns the same stream as an RPC, freshet.v1.InvalidationService, as a
// generated constructor returns it.
func (n *Node) Watch() (path string, handler http.Handler) {
	return n.Protect(n.watchPath, n.named(n.watch))
}

// DB returns the pool for handlers that do without one of their own: its reads
// and transactions are proven to be of this node's database, and are settled
// exactly. It is made when it is first asked for, best before Run, which closes
// it; from then on readiness asks whether it can be used. It connects when it is
// first used.
func (n *Node) DB() *store.DB {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.db != nil {
		return n.db
	}
	var sources []string
	for _, source := range n.program.Sources() {
		sources = append(sources, source.String())
	}
	cfg := store.Config{
		URL:      n.cfg.DatabaseURL,
		MaxConns: n.cfg.MaxConns,
		MaxWrite: n.cfg.MaxWrite,
		Session:  n.Session,
		Sources:  sources,
		OnChange: n.wake,
		Logger:   n.cfg.Logger,

		Replicas:     n.cfg.ReplicaURLs,
		ReplicaConns: n.cfg.ReplicaConns,
		ReplicaWait:  n.cfg.ReplicaWait,
	}
	if cfg.URL == "" {
		cfg.Connect = n.cfg.Connect // the pool looks itself for the primary
	}
	db, err := store.Open(context.Background(), cfg) // the context is for what it opens: nothing
	if err != nil {
		// New has parsed the same URL: a file that it names has just vanished.
		panic(fmt.Sprintf("server: the database URL that could be read can't be any more: %v", err))
	}
	n.db = db
	n.observePool(db)
	switch {
	case n.ended:
		db.Close()
	case n.pooling:
		n.keepPool()
	}
	return db
}

// epochBegan tells the pool, whose calls may wait for a server that was left behind: those
// of a read that nobody but its callers ask for are the only ones that would tell it.
func (n *Node) epochBegan(epoch freshet.Epoch) {
	if db := n.pool(); db != nil {
		db.Meet(epoch)
	}
}

// pool returns the pool, if there is one.
func (n *Node) pool() *store.DB {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.db
}

// keepPool watches the pool until the parts stop. The caller holds mu.
func (n *Node) keepPool() {
	db := n.db
	n.parts.Defer("pool", func(context.Context) error { db.Close(); return nil })
	n.parts.Go("pool watch", db.Watch)
}

// Retire says in Ready that traffic should go elsewhere, while everything is
// served on: so a balancer notices before connections are refused. It can't be
// taken back.
func (n *Node) Retire() {
	n.ready.retired.Store(true)
}

// Drain ends the streams: each is told to come back after a moment, and new ones
// are refused, while calls are served on. It returns when all have ended. When ctx
// has a deadline and reaches it, those that are left are cut, which is logged; the
// error is of a ctx that was cancelled. After Retire and with a deadline they end
// evenly over nine tenths of the time that is left, one in ten milliseconds at least,
// so that their clients don't come to other nodes all at once. Otherwise all end at
// once. Run's end does the same; before it, Drain lets http.Server.Shutdown return.
func (n *Node) Drain(ctx context.Context) error {
	n.ready.enter(ReasonStopping, "the server is shutting down")
	over := time.Duration(0)
	if deadline, ok := ctx.Deadline(); ok && n.ready.retired.Load() {
		over = time.Until(deadline) / 10 * 9 // the rest is for readers that are slow
	}
	err := n.streams.Shutdown(ctx, over)
	if errors.Is(err, context.DeadlineExceeded) {
		n.cfg.Logger.WarnContext(ctx, "streams were cut: their readers did not take the goodbye in time")
		return nil
	}
	return err
}
