package reuse

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet"
)

// Node is what is known of changes; *hub.Hub implements it.
type Node interface {
	// Frontier returns the position up to which everything is visible and
	// told; zero while there is none.
	Frontier() freshet.Revision
	// Horizon returns the oldest position the node knows of; zero while it
	// knows of no database yet.
	Horizon() freshet.Revision
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

// Config of Reads; only Node is required.
type Config struct {
	Node Node
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
	// MaxRequestBytes bounds a request's message, decompressed. Zero: 4 MiB.
	MaxRequestBytes int
	// Replicas says that queries may be answered by replicas: Since.AtLeast is given.
	Replicas bool
	// Logger gets the stack of a query that panics. Nil: slog.Default().
	Logger *slog.Logger
	// Heat counts, while somebody measures. Nil: nobody does.
	Heat Heat
	// Registerer gets the metrics; nil: nobody counts.
	Registerer prometheus.Registerer
}

// New returns Reads that keep nothing yet. It starts nothing, and there is nothing
// to be closed.
func New(cfg Config) *Reads {
	kept := newCache(cmp.Or(cfg.CacheBytes, 64<<20))
	counts := newMetrics(cfg.Registerer, kept)
	return &Reads{
		node:   cfg.Node,
		maxLag: cmp.Or(max(cfg.MaxLag, 0), 5*time.Second),
		cache:  kept,

		maxRequest: cmp.Or(cfg.MaxRequestBytes, 4<<20),
		flights: &flights{
			node: cfg.Node, cache: kept, metrics: counts, lanes: map[readKey]*lane{},
			replicas: cfg.Replicas, heat: cfg.Heat,
			timeout:  cmp.Or(max(cfg.MaxRead, 0), 30*time.Second),
			interval: cmp.Or(cfg.ReadInterval, 100*time.Millisecond),
			logger:   cmp.Or(cfg.Logger, slog.Default()),
		},
		metrics: counts,
	}
}
