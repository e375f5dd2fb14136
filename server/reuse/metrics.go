package reuse

import "github.com/prometheus/client_golang/prometheus"

// metrics count what happened; nil: nothing.
type metrics struct {
	reads *prometheus.CounterVec
	// Queries in whose place an answer was kept already: of them, those that
	// found the same.
	queriedAgain, unchanged *prometheus.CounterVec
}

// cause is why a query ran although an answer was kept.
type cause string

const (
	becauseFloor   cause = "floor"   // a topic, or a whole table, has changed since
	becauseHorizon cause = "horizon" // the hub doesn't know when its topics changed
	becauseStrong  cause = "strong"  // the caller named no revision
	becauseLag     cause = "lag"     // the node is too far behind
)

func newMetrics(registry prometheus.Registerer, kept *cache) *metrics {
	if registry == nil {
		return nil
	}
	counter := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		registry.MustRegister(c)
		return c
	}
	m := &metrics{
		reads: counter("freshet_reads_total",
			"Reads by where their answer came from: hit (kept), joined (a shared query), miss (a query).", "cache"),
		queriedAgain: counter("freshet_reads_replaced_total",
			"Queries whose answer replaced one that was kept, by why that one didn't do: floor (a topic changed), horizon (not known when), strong (no revision asked for), lag.", "cause"),
		unchanged: counter("freshet_reads_unchanged_total", "Of freshet_reads_replaced_total, those whose answer was the same.", "cause"),
	}
	for _, why := range []cause{becauseFloor, becauseHorizon, becauseStrong, becauseLag} {
		m.queriedAgain.WithLabelValues(string(why)) // so that it is there, at zero
		m.unchanged.WithLabelValues(string(why))
	}
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "freshet_cache_entries", Help: "Answers kept."}, func() float64 {
			entries, _ := kept.size()
			return float64(entries)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "freshet_cache_bytes", Help: "Size of the answers that are kept."}, func() float64 {
			_, bytes := kept.size()
			return float64(bytes)
		}))
	return m
}

func (m *metrics) read(from Source) {
	if m != nil {
		m.reads.WithLabelValues(string(from)).Inc()
	}
}

// replaced counts a query whose answer took a kept one's place.
func (m *metrics) replaced(why cause, same bool) {
	if m == nil {
		return
	}
	m.queriedAgain.WithLabelValues(string(why)).Inc()
	if same {
		m.unchanged.WithLabelValues(string(why)).Inc()
	}
}
