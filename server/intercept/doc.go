// Package intercept is everything that happens around a handler: it makes
// answers honest about their age, waits for what a caller has already seen,
// settles writes before they are answered, and keeps internal text inside.
// One interceptor or HTTP middleware per file; Options puts them in order.
//
// It upholds:
//
//   - G1 and G5: a request at-least R runs only once the node's frontier has
//     reached R, or fails; it never answers with less.
//   - G6: a read is stamped with a frontier that was read before its query's
//     snapshot, and with nothing else. A write is stamped with a need: the
//     revision that a later read must reach to contain it.
//   - G7: reads of the same thing share one query, and an answer is kept until
//     one of its topics changes.
//   - G8: no answer crosses principals unless its method says that it may;
//     no Go type name, SQL or driver text leaves the server.
//
// It does not promise that a write's topics are known when it is answered
// (Freshet-Topics is then left out), nor that a stamp is as high as it could
// be: what an answer holds above its stamp may come and go until it is told.
//
// Everything here is safe for concurrent use. A shared query runs on a
// goroutine of its own, with the context values of its first caller and a
// deadline of its own; it is cancelled when the last caller has left. So the
// handler of a read must not touch its caller's response through
// connect.CallInfo; headers go on the response that it returns.
package intercept

import (
	"context"
	"log/slog"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/validate"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
)

// Headers of a request and of its response. In gRPC they are metadata.
const (
	HeaderAtLeast  = "Freshet-At-Least"
	HeaderRevision = "Freshet-Revision"
	HeaderTopics   = "Freshet-Topics"
)

// Hub is what a node knows of its own progress; *hub.Hub implements it.
type Hub interface {
	// Frontier returns the position up to which everything is visible and
	// told; zero while there is none.
	Frontier() freshet.Revision
	// Horizon returns the oldest position the node knows of; zero while it
	// knows of no database yet.
	Horizon() freshet.Revision
	// Wait blocks until the frontier has reached rev. It returns a
	// *hub.EpochError when the node is in a later epoch, and ctx's error.
	Wait(ctx context.Context, rev freshet.Revision) error
	// Floor returns a revision at or above the last change of each topic, as
	// of every frontier that was read before the call.
	Floor(topics []string) freshet.Revision
	// Quarantined reports whether the feed may have missed changes of one of the
	// topics, at or below any frontier that was read before the call.
	Quarantined(topics []string) bool
	// Followers returns how many subscriptions there are to the one of the
	// topics that has most.
	Followers(topics []string) int
	// Lag returns how far the node is behind the database.
	Lag() time.Duration
}

// Primary is the database as the feed sees it.
type Primary interface {
	// InsertPosition returns a position that the primary's WAL had reached
	// after the call began. Concurrent calls share one statement.
	InsertPosition(ctx context.Context) (freshet.Revision, error)
	// Nudge says that somebody waits for the frontier. It does not block.
	Nudge()
}

// Settler tells when a transaction has passed the frontier.
type Settler interface {
	// Expect registers a transaction before its COMMIT is sent. The channel
	// receives the commit once the frontier has passed it; forget releases it.
	Expect(xid uint64) (commit <-chan freshet.Commit, forget func())
}

// Config is what the interceptors work with. All fields without a default are
// required.
type Config struct {
	Contract *contract.Program
	Hub      Hub
	Primary  Primary
	Settler  Settler
	// Authorize says whether the caller may; nil: everybody may everything.
	Authorize Authorize
	// MaxWait bounds the wait of a request at-least. Zero: 2 s.
	MaxWait time.Duration
	// MaxSettle bounds how long the answer of a write is held back. Zero: 250 ms.
	MaxSettle time.Duration
	// MaxRead bounds a query that reads share, whatever its callers' deadlines.
	// Zero: 30 s.
	MaxRead time.Duration
	// ReadInterval is the least mean time between two queries of one read that
	// several clients are after, unless it is strong. Zero: 100 ms; negative: none.
	ReadInterval time.Duration
	// MaxLag is the lag above which no kept answer is served. Zero: 5 s.
	MaxLag time.Duration
	// CacheBytes bounds the answers that are kept. Zero: 64 MiB; negative: none.
	CacheBytes int
	// Audit says which calls prove their declaration. Zero: AuditSample.
	Audit AuditMode
	// OnUndeclared is told, once each, which tables reads look into without
	// declaring them. Nil: nobody is.
	OnUndeclared func(*AuditError)
	// Logger gets what clients are not told. Nil: slog.Default().
	Logger *slog.Logger
	// testReuse gets the interceptor that shares reads. Tests only.
	testReuse func(*reuse)
	// Metrics count what happened. Nil: nobody counts.
	Metrics *Metrics
}

const (
	defaultMaxWait   = 2 * time.Second
	defaultMaxSettle = 250 * time.Millisecond
	defaultMaxRead   = 30 * time.Second
	defaultMaxLag    = 5 * time.Second
	defaultInterval  = 100 * time.Millisecond
	defaultCache     = 64 << 20
	// nudgeDelay is how long a wait for the frontier trusts the database to
	// move by itself.
	nudgeDelay = 5 * time.Millisecond
)

// Options returns the handler options of every service, the same for all:
//
//  1. recover: a panic of an interceptor is an internal error
//  2. respond: the error table; puts stamp and topics on what is about data
//  3. validate: protovalidate; before authorization, since topics are built
//     from canonical names only
//  4. authorize: the contract's topics against the caller's grants
//  5. at-least: waits for the frontier; before any connection is taken
//  6. conditional (GET): entity tags, 304
//  7. reuse (reads): kept answers, shared queries; what follows runs once for
//     all who share it
//  8. stamp (reads): frontier first, then the handler's snapshot
//  9. settle (writes): waits for the frontier after the handler
//  10. audit: what the handler really read against the contract
func Options(cfg Config) []connect.HandlerOption {
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = defaultMaxWait
	}
	if cfg.MaxSettle <= 0 {
		cfg.MaxSettle = defaultMaxSettle
	}
	if cfg.MaxRead <= 0 {
		cfg.MaxRead = defaultMaxRead
	}
	if cfg.ReadInterval == 0 {
		cfg.ReadInterval = defaultInterval
	}
	if cfg.MaxLag <= 0 {
		cfg.MaxLag = defaultMaxLag
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = defaultCache
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Audit == "" {
		cfg.Audit = AuditSample
	}
	audit := newAudit(cfg)
	recovered := recoverPanics(cfg.Logger)
	kept := newCache(cfg.CacheBytes)
	cfg.Metrics.watchCache(kept)
	return append(codecs(kept),
		compression(kept),
		recovered,
		connect.WithInterceptors(
			&respond{logger: cfg.Logger, metrics: cfg.Metrics},
			validate.NewInterceptor(),
			authorize(cfg.Contract, cfg.Authorize),
			atLeast(cfg.Hub, cfg.Primary, cfg.MaxWait, cfg.Metrics),
			conditional(),
			newReuse(cfg, kept, audit),
			stamp(cfg.Contract, cfg.Hub, audit),
			settle(cfg, audit),
			audit.interceptor(),
		),
	)
}

// isWrite tells mutations from reads. A method that the contract doesn't know
// is judged by its idempotency level.
func isWrite(program *contract.Program, spec connect.Spec) bool {
	if m := program.Method(spec.Procedure); m != nil {
		return m.Kind == contract.Write
	}
	return spec.IdempotencyLevel != connect.IdempotencyNoSideEffects
}

// unary makes an interceptor of what it does to a unary call; streams pass.
func unary(around func(ctx context.Context, req connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error)) connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			return around(ctx, req, next)
		}
	})
}
