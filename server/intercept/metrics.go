package intercept

import (
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet"
)

// Metrics count what the interceptors did. A nil *Metrics counts nothing.
type Metrics struct {
	calls      *prometheus.HistogramVec
	waits      *prometheus.HistogramVec
	settles    *prometheus.HistogramVec
	undeclared *prometheus.CounterVec // reads, by procedure
	untold     *prometheus.CounterVec // reads, by procedure
	causes     *prometheus.CounterVec // by kind

	registry prometheus.Registerer
}

// How a mutation was settled.
const (
	settledSeen     = "seen"     // its own commit has passed the frontier
	settledPosition = "position" // the frontier has reached its position
	settledTimeout  = "timeout"  // it was answered before either
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
	byProcedure := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"procedure"})
		registry.MustRegister(c)
		return c
	}
	return &Metrics{
		undeclared: byProcedure("freshet_undeclared_reads_total", "Audited reads that looked into a table which they don't declare."),
		untold:     byProcedure("freshet_untold_reads_total", "Reads that were answered for a request without topics, by an empty field: nothing tells when the answer changes."),
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

// explains registers what counts the causes that were told.
func (m *Metrics) explains() {
	if m == nil || m.causes != nil {
		return
	}
	m.causes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_explained_answers_total",
		Help: "With --explain: answers that say what made their caller ask again, by the kind of change; unknown: they can't.",
	}, []string{"change"})
	m.causes.WithLabelValues(string(freshet.Unknown)) // so that it is there, at zero
	m.registry.MustRegister(m.causes)
}

func (m *Metrics) explained(kind freshet.ChangeKind) {
	if m != nil {
		m.causes.WithLabelValues(string(kind)).Inc()
	}
}

func (m *Metrics) undeclaredReads(procedure string, n float64) {
	if m != nil {
		m.undeclared.WithLabelValues(procedure).Add(n)
	}
}

func (m *Metrics) untoldReads(procedure string, n float64) {
	if m != nil {
		m.untold.WithLabelValues(procedure).Add(n)
	}
}

// registerer is where server/reuse counts; nil: nowhere.
func (m *Metrics) registerer() prometheus.Registerer {
	if m == nil {
		return nil
	}
	return m.registry
}
