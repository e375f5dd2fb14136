package server

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store"
	"github.com/freshet-dev/freshet/store/wal"
)

// gauge and counter register what a part counts that knows nothing of Prometheus.
func (n *Node) gauge(name, help string, value func() float64) {
	n.cfg.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

func (n *Node) counter(name, help string, value func() float64) {
	n.cfg.Registerer.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
}

// observe registers the node's metrics. Whoever has those of one node can't take
// another's.
func (n *Node) observe() error {
	if n.cfg.Registerer == nil {
		return nil
	}
	err := n.cfg.Registerer.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "freshet_ready", Help: "1 when the node is ready."}, func() float64 {
		if n.Ready() != nil {
			return 0
		}
		return 1
	}))
	if err != nil {
		return fmt.Errorf("server.Config.Registerer: each node needs one of its own (prometheus.WrapRegistererWith): %w", err)
	}
	n.observeHub()
	n.observeFeed()
	n.observeRelay()
	return nil
}

func (n *Node) observeHub() {
	gauge, counter := n.gauge, n.counter
	gauge("freshet_lag_seconds", "How far the node is behind the database; -1 before it has caught up at all.", func() float64 {
		if lag := n.hub.Lag(); lag != hub.Never {
			return lag.Seconds()
		}
		return -1
	})
	gauge("freshet_frontier_position", "Position of the frontier; 0 while there is none.", func() float64 {
		return float64(n.hub.Frontier().Position)
	})
	for name, value := range map[string]struct {
		help string
		of   func(hub.Stats) int
	}{
		"freshet_hub_topics":            {"Topics with a known change.", func(s hub.Stats) int { return s.Topics }},
		"freshet_hub_subscribed_topics": {"Topics that somebody subscribes to.", func(s hub.Stats) int { return s.Subscribed }},
		"freshet_hub_subscriptions":     {"Open subscriptions.", func(s hub.Stats) int { return s.Subscriptions }},
		"freshet_hub_waiters":           {"Requests that wait for the frontier.", func(s hub.Stats) int { return s.Waiters }},
	} {
		gauge(name, value.help, func() float64 { return float64(value.of(n.hub.Stats())) })
	}
	counter("freshet_hub_evictions_total", "Topics forgotten because the table was full.",
		func() float64 { return float64(n.hub.Stats().Evictions) })
	byCause := func(name, help string, of map[string]func(hub.Conservative) uint64) {
		for cause, of := range of {
			n.cfg.Registerer.MustRegister(prometheus.NewCounterFunc(
				prometheus.CounterOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"cause": cause}},
				func() float64 { return float64(of(n.hub.Stats().Conservative)) }))
		}
	}
	byCause("freshet_hub_conservative_topics_total",
		"Topics told as changed that only may have: asked since before the horizon, matched by an all-topics floor, after a gap of the feed.",
		map[string]func(hub.Conservative) uint64{
			"horizon": func(c hub.Conservative) uint64 { return c.Horizon },
			"floor":   func(c hub.Conservative) uint64 { return c.Floor },
			"gap":     func(c hub.Conservative) uint64 { return c.Gap },
		})
	byCause("freshet_hub_resets_total",
		"Subscriptions told to reset: their epoch has ended, or their since was malformed, from the future or foreign.",
		map[string]func(hub.Conservative) uint64{
			"epoch": func(c hub.Conservative) uint64 { return c.Epoch },
			"since": func(c hub.Conservative) uint64 { return c.Since },
		})
}

func (n *Node) observeFeed() {
	gauge, counter := n.gauge, n.counter
	for name, value := range map[string]struct {
		help string
		of   func(wal.Stats) uint64
	}{
		"freshet_feed_commits_total":          {"Transactions told to the hub.", func(s wal.Stats) uint64 { return s.Commits }},
		"freshet_feed_gate_queries_total":     {"Snapshots that the gate took.", func(s wal.Stats) uint64 { return s.GateQueries }},
		"freshet_feed_gate_misses_total":      {"Snapshots that released nothing.", func(s wal.Stats) uint64 { return s.GateMisses }},
		"freshet_feed_nudges_total":           {"Messages committed to move the WAL along.", func(s wal.Stats) uint64 { return s.Nudges }},
		"freshet_feed_sessions_total":         {"Capture sessions that were cut off. An attempt that never came to stream is none.", func(s wal.Stats) uint64 { return s.Sessions }},
		"freshet_feed_ignored_messages_total": {"Logical messages that were not for us.", func(s wal.Stats) uint64 { return s.Ignored }},
		"freshet_feed_slots_replaced_total":   {"Times that the replication slot was of no use any more, and another one was made.", func(s wal.Stats) uint64 { return s.Slots }},
		"freshet_feed_quarantines_total":      {"Times that a source was put into quarantine; each one is at the start.", func(s wal.Stats) uint64 { return s.Quarantines }},
		"freshet_feed_oversize_commits_total": {"Transactions told as all topics of their sources.", func(s wal.Stats) uint64 { return s.Oversize }},
	} {
		counter(name, value.help, func() float64 { return float64(value.of(n.feed.Stats())) })
	}
	for _, source := range n.program.Sources() {
		n.cfg.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "freshet_quarantined_sources", ConstLabels: prometheus.Labels{"source": source.String()},
			Help: "1 while capture can't be trusted with the source: nothing of it is kept, and its topics are told again and again.",
		}, func() float64 {
			for _, q := range n.feed.Quarantined() {
				if q.Source == source.String() {
					return 1
				}
			}
			return 0
		}))
	}
	gauge("freshet_feed_foreign_patterns", "Patterns of topics that only nodes of another version of the contract tell exactly: here they are told once per heartbeat.",
		func() float64 { return float64(len(n.feed.Foreign())) })
	counter("freshet_feed_window_moves_total", "Times that this node, as the keeper, has moved the slot on.",
		func() float64 { return float64(n.feed.Stats().Moves) })
	gauge("freshet_feed_keeper", "1 while this node is the keeper, which moves the slot on: one of all nodes of a database.", func() float64 {
		if n.feed.Stats().Keeper {
			return 1
		}
		return 0
	})
	gauge("freshet_feed_window_bytes", "WAL between the slot's position and what was applied: what a start replays.",
		func() float64 { return float64(n.feed.Stats().WindowBytes) })
	gauge("freshet_feed_window_seconds", "How long ago the oldest WAL between the slot's position and what was applied was.",
		func() float64 { return n.feed.Stats().WindowAge.Seconds() })
	gauge("freshet_feed_waiting_commits", "Commits held at the gate.", func() float64 { return float64(n.feed.Stats().Waiting) })
	gauge("freshet_feed_held_seconds", "How long the first commit at the gate has been held.", func() float64 { return n.feed.Stats().Held.Seconds() })
}

// observePool registers the metrics of the pool, when there is one.
func (n *Node) observePool(db *store.DB) {
	if n.cfg.Registerer == nil {
		return
	}
	for name, value := range map[string]struct {
		help string
		of   func(store.Stats) int
	}{
		"freshet_pool_max_connections":    {"Size of the pool.", func(s store.Stats) int { return s.Max }},
		"freshet_pool_in_use_connections": {"Connections in the hands of calls.", func(s store.Stats) int { return s.InUse }},
		"freshet_pool_idle_connections":   {"Open connections that wait for a call.", func(s store.Stats) int { return s.Idle }},
		"freshet_pool_writes":             {"Writes that have a connection, or are about to.", func(s store.Stats) int { return s.Writing }},
		"freshet_pool_max_writes":         {"How many writes may have a connection: the rest of the pool is for reads.", func(s store.Stats) int { return s.MaxWriting }},
		"freshet_pool_waiting_calls":      {"Calls that wait for a connection.", func(s store.Stats) int { return s.Waiting }},
	} {
		n.gauge(name, value.help, func() float64 { return float64(value.of(db.Stats())) })
	}
	n.observeReplicas(db)
	n.counter("freshet_pool_acquires_total", "Connections handed out.", func() float64 { return float64(db.Stats().Acquires) })
	n.counter("freshet_pool_acquire_seconds_total", "Time that calls waited for a connection.", func() float64 { return db.Stats().AcquireTime.Seconds() })
}

// observeReplicas registers the metrics of the replicas, if there are any.
func (n *Node) observeReplicas(db *store.DB) {
	for i, r := range db.Replicas() {
		labels := prometheus.Labels{"replica": r.Name}
		gauge := func(name, help string, of func(store.ReplicaStats) float64) {
			n.cfg.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels},
				func() float64 { return of(db.Replicas()[i]) }))
		}
		gauge("freshet_replica_serving", "1 while the replica is proven to be a standby of the primary's history; 0: no read runs on it.", func(s store.ReplicaStats) float64 {
			if s.Err != nil {
				return 0
			}
			return 1
		})
		gauge("freshet_replica_lag_seconds", "How old is what the replica has replayed last, if it has received more; 0: it has replayed everything, or isn't reached.",
			func(s store.ReplicaStats) float64 { return s.Lag.Seconds() })
		gauge("freshet_replica_behind_bytes", "WAL between what the replica was last seen to have replayed and the frontier; 0: none, or not known.", func(s store.ReplicaStats) float64 {
			frontier := n.hub.Frontier()
			if s.Position.Epoch != frontier.Epoch || frontier.Position < s.Position.Position {
				return 0
			}
			return float64(frontier.Position - s.Position.Position)
		})
		gauge("freshet_replica_in_use_connections", "Connections to the replica in the hands of calls.",
			func(s store.ReplicaStats) float64 { return float64(s.InUse) })
		gauge("freshet_replica_max_connections", "Size of the replica's pool.",
			func(s store.ReplicaStats) float64 { return float64(s.Max) })
		n.cfg.Registerer.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "freshet_replica_reads_total", Help: "Reads that the replica has served.", ConstLabels: labels,
		}, func() float64 { return float64(db.Replicas()[i].Reads) }))
	}
	if len(n.cfg.ReplicaURLs) == 0 {
		return
	}
	for _, why := range store.ReplicaReasons {
		n.cfg.Registerer.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "freshet_replica_fallbacks_total", Help: "Reads that a replica might have served and the primary did, by reason.",
			ConstLabels: prometheus.Labels{"reason": string(why)},
		}, func() float64 { return float64(db.Fallbacks(why)) }))
	}
}
