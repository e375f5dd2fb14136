package stream

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

// value reads a counter or a gauge.
func value(t testing.TB, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	require.NoError(t, m.Write(&d))
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

// bigTopics are enough that one notice is half a megabyte: a few fill any
// socket buffer.
func bigTopics() []string {
	topics := make([]string, 1000)
	for i := range topics {
		topics[i] = fmt.Sprintf("%s/%d", strings.Repeat("x", 480), i)
	}
	return topics
}

// F11: a reader that stops reading delays nobody, is cut by the write timeout,
// and is current after it comes back with its last id.
func TestEvents_stalledReaderCostsItselfOnly(t *testing.T) {
	for _, via := range []transport{h1, h1own} {
		t.Run(string(via), func(t *testing.T) { testStalledReaderCostsItselfOnly(t, via) })
	}
}

func testStalledReaderCostsItselfOnly(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via, Config{WriteTimeout: 500 * time.Millisecond, Registerer: prometheus.NewRegistry()})
	topics := bigTopics()
	conn := s.stalled(t, topics)
	defer conn.Close()
	require.Eventually(t, func() bool { return s.hub.Stats().Subscriptions == 1 }, 10*time.Second, time.Millisecond)

	var others []*reader
	for range 8 {
		r := s.get(t, topicsQuery("shared")+"&throttle=0", nil)
		r.expect("ready", at(100))
		others = append(others, r)
	}
	p := uint64(100)
	var delays []time.Duration
	for s.hub.Stats().Subscriptions > len(others) {
		p++
		start := time.Now()
		s.publish(p, append(topics, "shared")...)
		for _, r := range others {
			r.expect("invalidate", at(p), "shared")
		}
		delays = append(delays, time.Since(start))
	}
	slices.Sort(delays)
	require.Less(t, delays[len(delays)/2], 100*time.Millisecond, "the others wait for it")
	require.Equal(t, 1.0, value(t, s.server.metrics.writeTimeouts))

	back := s.post(t, "", `{"topics":["`+topics[3]+`","shared"],"since":"`+at(101).String()+`"}`)
	back.expect("invalidate", at(p), topics[3], "shared")
	back.expect("ready", at(p))
}

// The same over HTTP/2, where the deadline is the stream's: the other streams
// of the same connection go on.
func TestEvents_stalledStreamOfASharedConnection(t *testing.T) {
	s := newSite(t, h2c, Config{WriteTimeout: 500 * time.Millisecond})
	topics := bigTopics()
	open := func(query string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/events"+query, strings.NewReader(`{"topics":["`+strings.Join(topics, `","`)+`"]}`))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		res, err := s.client.Do(req)
		require.NoError(t, err)
		return res
	}
	stalled := open("?throttle=0") // its body is never read
	defer stalled.Body.Close()
	other := s.get(t, topicsQuery("shared")+"&throttle=0", nil)
	other.expect("ready", at(100))
	p := uint64(100)
	deadline := time.Now().Add(30 * time.Second)
	for s.hub.Stats().Subscriptions > 1 {
		require.True(t, time.Now().Before(deadline), "the stalled stream is not cut")
		p++
		s.publish(p, append(topics, "shared")...)
		other.expect("invalidate", at(p), "shared")
	}
	require.Equal(t, 1.0, value(t, s.server.metrics.writeTimeouts))
}

// F12: 10,000 writes to one topic within a second.
func TestEvents_manyWritesAreFewEvents(t *testing.T) {
	for _, via := range []transport{h1, h1own} {
		t.Run(string(via), func(t *testing.T) { testManyWritesAreFewEvents(t, via) })
	}
}

func testManyWritesAreFewEvents(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via, Config{})
	readers := make([]*reader, 5)
	for i := range readers {
		readers[i] = s.get(t, topicsQuery("a"), nil)
		readers[i].expect("ready", at(100))
	}
	start := time.Now()
	const last = 10_100
	for p := uint64(101); p <= last; p++ {
		s.publish(p, "a")
		if p%1000 == 0 {
			<-time.After(90 * time.Millisecond)
		}
	}
	took := time.Since(start)
	for _, r := range readers {
		events := 0
		for {
			e := r.next()
			require.Equal(t, "invalidate", e.kind)
			events++
			if e.lastID == at(last).String() {
				break
			}
		}
		require.LessOrEqual(t, events, int(took/(100*time.Millisecond))+3)
	}
}

func TestMetrics_countWhatHappens(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newSite(t, h1, Config{Registerer: registry})
	m := s.server.metrics
	s.publish(110, "a")
	r := s.get(t, topicsQuery("a", "b")+"&since="+at(100).String(), nil)
	r.expect("invalidate", at(110), "a")
	r.expect("ready", at(110))
	require.Equal(t, 1.0, value(t, m.connections))
	require.Equal(t, 2.0, value(t, m.topics))
	require.Equal(t, 1.0, value(t, m.invalidates))
	require.Equal(t, 1.0, value(t, m.readies))
	s.get(t, "", nil)
	require.Equal(t, 1.0, value(t, m.refused.WithLabelValues("bad_request")))
	r.close()
	require.Eventually(t, func() bool {
		return value(t, m.connections) == 0 && value(t, m.topics) == 0
	}, 10*time.Second, time.Millisecond)
	_, err := New(Config{Hub: s.hub, Registerer: registry})
	require.ErrorContains(t, err, "metrics")
}
