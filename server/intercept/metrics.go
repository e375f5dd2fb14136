package intercept

import (
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what the interceptors did. A nil *Metrics counts nothing.
type Metrics struct {
	calls   *prometheus.HistogramVec
	waits   *prometheus.HistogramVec
	settles *prometheus.HistogramVec
	reads   *prometheus.CounterVec
	// Queries in whose place an answer was kept already: of them, those that
	// found the same.
	queriedAgain, unchanged *prometheus.CounterVec

	undeclared *prometheus.CounterVec // reads, by procedure

	registry prometheus.Registerer
}

// How a mutation was settled.
const (
	settledSeen     = "seen"     // its own commit has passed the frontier
	settledPosition = "position" // the frontier has reached its position
	settledTimeout  = "timeout"  // it was answered before either
)

// cause is why a query ran although an answer was kept.
type cause string

const (
	becauseFloor   cause = "floor"   // a topic, or a whole table, has changed since
	becauseHorizon cause = "horizon" // the hub doesn't know when its topics changed
	becauseStrong  cause = "strong"  // the caller named no revision
	becauseLag     cause = "lag"     // the node is too far behind
)

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	// 0.2 ms to 6.5 s.
	buckets := prometheus.ExponentialBuckets(0.0002, 2, 16)
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		registry.MustRegister(h)
		return h
	}
	reads := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_reads_total",
		Help: "Reads by where their answer came from: hit (kept), joined (a shared query), miss (a query).",
	}, []string{"cache"})
	byCause := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"cause"})
		registry.MustRegister(c)
		for _, why := range []cause{becauseFloor, becauseHorizon, becauseStrong, becauseLag} {
			c.WithLabelValues(string(why)) // so that it is there, at zero
		}
		return c
	}
	undeclared := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_undeclared_reads_total",
		Help: "Audited reads that looked into a table which they don't declare.",
	}, []string{"procedure"})
	registry.MustRegister(reads, undeclared)
	return &Metrics{
		queriedAgain: byCause("freshet_reads_replaced_total",
			"Queries whose answer replaced one that was kept, by why that one didn't do: floor (a topic changed), horizon (not known when), strong (no revision asked for), lag."),
		unchanged:  byCause("freshet_reads_unchanged_total", "Of freshet_reads_replaced_total, those whose answer was the same."),
		undeclared: undeclared,
		reads:      reads,
		registry:   registry,
		calls:      histogram("freshet_rpc_seconds", "Duration of unary RPCs.", "procedure", "code"),
		waits:      histogram("freshet_at_least_wait_seconds", "Time that requests at-least a revision above the frontier waited.", "result"),
		settles:    histogram("freshet_settle_seconds", "Time that answers of mutations were held back.", "result"),
	}
}

// began starts the clock of a call; the caller calls done with its error.
func (m *Metrics) began(procedure string) (done func(*connect.Error)) {
	if m == nil {
		return func(*connect.Error) {}
	}
	start := time.Now()
	return func(err *connect.Error) {
		code := "ok"
		if err != nil {
			code = err.Code().String()
		}
		m.calls.WithLabelValues(procedure, code).Observe(time.Since(start).Seconds())
	}
}

func (m *Metrics) waited(d time.Duration, err error) {
	if m == nil {
		return
	}
	result := "reached"
	if err != nil {
		result = "gave_up"
	}
	m.waits.WithLabelValues(result).Observe(d.Seconds())
}

func (m *Metrics) settled(d time.Duration, how string) {
	if m == nil {
		return
	}
	m.settles.WithLabelValues(how).Observe(d.Seconds())
}

func (m *Metrics) undeclaredReads(procedure string, n float64) {
	if m != nil {
		m.undeclared.WithLabelValues(procedure).Add(n)
	}
}

func (m *Metrics) reused(how string) {
	if m != nil {
		m.reads.WithLabelValues(how).Inc()
	}
}

// replaced counts a query whose answer took a kept one's place.
func (m *Metrics) replaced(why cause, same bool) {
	if m == nil {
		return
	}
	m.queriedAgain.WithLabelValues(string(why)).Inc()
	if same {
		m.unchanged.WithLabelValues(string(why)).Inc()
	}
}

// watchCache shows what the cache holds.
func (m *Metrics) watchCache(c *cache) {
	if m == nil {
		return
	}
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "freshet_cache_entries", Help: "Answers kept."}, func() float64 {
			entries, _ := c.size()
			return float64(entries)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "freshet_cache_bytes", Help: "Their size."}, func() float64 {
			_, bytes := c.size()
			return float64(bytes)
		}))
}
