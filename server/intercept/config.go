package intercept

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/server/reuse"
)

// Hub is what a node knows of its own progress; *hub.Hub implements it.
type Hub interface {
	reuse.Node
	// Wait blocks until the frontier has reached rev. It returns a
	// *hub.EpochError when the node is in a later epoch, and ctx's error.
	Wait(ctx context.Context, rev freshet.Revision) error
}

// Primary is the database as the feed sees it.
type Primary interface {
	// InsertPosition returns a position that the primary's WAL had reached
	// after the call began. Concurrent calls share one statement.
	InsertPosition(ctx context.Context) (freshet.Revision, error)
	// Nudge says that somebody waits for the frontier. It does not block.
	Nudge()
}

// Settler hands over the commits of transactions.
type Settler interface {
	// Expect registers a transaction before its COMMIT is sent. The channel
	// receives the commit before the frontier moves to it, or never; forget releases it.
	Expect(xid uint64) (commit <-chan freshet.Commit, forget func())
}

// Config is what the interceptors work with. All fields without a default are
// required.
type Config struct {
	Contract *contract.Program
	Hub      Hub
	Primary  Primary
	Settler  Settler
	// Spelling returns how rows spell topics, as far as that is known now: what asks for
	// one that no row can have is refused. Nil: nobody knows.
	Spelling func() *contract.Spelling
	// Authorizer says whether the caller may; nil: everybody may everything.
	Authorizer *Authorizer
	// MaxWait bounds the wait of a request at-least. Zero: 2 s.
	MaxWait time.Duration
	// MaxSettle bounds how long the answer of a write is held back. Zero: 250 ms.
	MaxSettle time.Duration
	// MaxRead, ReadInterval, MaxLag, CacheBytes, MaxRequestBytes and Replicas are those
	// of reuse.Config.
	MaxRead         time.Duration
	ReadInterval    time.Duration
	MaxLag          time.Duration
	CacheBytes      int
	MaxRequestBytes int
	Replicas        bool
	// Audit says which calls prove their declaration. Zero: AuditSample.
	Audit AuditMode
	// OnUndeclared is told, once each, which tables reads look into without
	// declaring them. Nil: nobody is.
	OnUndeclared func(*AuditError)
	// Causes say what made topics change: answers of reads tell their callers. Nil:
	// they don't.
	Causes Causes
	// Heat counts, while somebody measures. Nil: nobody does.
	Heat reuse.Heat
	// Tracing makes spans of calls. Nil: there are none.
	Tracing *Tracing
	// Logger gets what clients are not told. Nil: slog.Default().
	Logger *slog.Logger
	// Metrics count what happened. Nil: nobody counts.
	Metrics *Metrics
}

const (
	defaultMaxWait   = 2 * time.Second
	defaultMaxSettle = 250 * time.Millisecond
	// nudgeDelay is how long a wait for the frontier trusts the database to
	// move by itself.
	nudgeDelay = 5 * time.Millisecond
)

func (c Config) withDefaults() Config {
	c.MaxWait = cmp.Or(max(c.MaxWait, 0), defaultMaxWait)
	c.MaxSettle = cmp.Or(max(c.MaxSettle, 0), defaultMaxSettle)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	c.Audit = cmp.Or(c.Audit, AuditSample)
	if c.Spelling == nil {
		c.Spelling = func() *contract.Spelling { return nil }
	}
	return c
}

// reads returns what reads go through.
func (c Config) reads() *reuse.Reads {
	return reuse.New(reuse.Config{
		Node: c.Hub, MaxRead: c.MaxRead, ReadInterval: c.ReadInterval, MaxLag: c.MaxLag, CacheBytes: c.CacheBytes, MaxRequestBytes: c.MaxRequestBytes,
		Replicas: c.Replicas,
		Heat:     c.Heat,
		Logger:   c.Logger, Registerer: c.Metrics.registerer(),
	})
}
