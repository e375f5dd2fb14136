package stream

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a server.
type metrics struct {
	connections   prometheus.Gauge
	topics        prometheus.Gauge
	topicBytes    prometheus.Gauge
	frames        *prometheus.CounterVec // by event
	writeTimeouts prometheus.Counter
	refused       *prometheus.CounterVec // by reason
	revoked       prometheus.Counter
	expired       prometheus.Counter
	asked         *prometheus.CounterVec // by answer
	// One counter per event, looked up once.
	invalidates, readies, resets, frontiers, ends prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const namespace, subsystem = "freshet", "stream"
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "connections", Help: "Open streams.",
		}),
		topics: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "subscribed_topics", Help: "Topics of all open streams, counted per stream.",
		}),
		topicBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "topic_bytes", Help: "What the topics of all open streams cost in memory, about.",
		}),
		frames: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "frames_total", Help: "Frames sent.",
		}, []string{"event"}),
		writeTimeouts: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "write_timeouts_total", Help: "Streams cut because their reader didn't drain.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "refused_total", Help: "Requests for a stream that were refused.",
		}, []string{"reason"}),
		revoked: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "revoked_total", Help: "Streams ended because their grant was withdrawn.",
		}),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "reauthorized_total", Help: "Questions whether an open stream may go on, by answer.",
		}, []string{"answer"}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "expired_total", Help: "Streams ended because their caller's credential expired.",
		}),
	}
	m.invalidates, m.readies = m.frames.WithLabelValues("invalidate"), m.frames.WithLabelValues("ready")
	m.ends = m.frames.WithLabelValues("end")
	m.refused.WithLabelValues("not_ready") // so that the metric is there, at zero
	m.resets, m.frontiers = m.frames.WithLabelValues("reset"), m.frames.WithLabelValues("frontier")
	for _, reason := range []string{"bad_request", "not_ready", "too_many_connections", "too_many_of_caller", "too_many_of_principal", "too_many_topic_bytes", "too_many_topic_bytes_of_caller", "too_many_topic_bytes_of_principal"} {
		m.refused.WithLabelValues(reason) // shown from the start
	}
	for _, answer := range []string{"granted", "denied", "unknown"} {
		m.asked.WithLabelValues(answer)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.connections, m.topics, m.topicBytes, m.frames, m.writeTimeouts, m.refused, m.revoked, m.expired, m.asked} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the stream's metrics: %w", err)
		}
	}
	return m, nil
}
