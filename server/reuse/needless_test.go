package reuse

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

// byCause reads a counter.
func byCause(t *testing.T, registry prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				counts[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return counts
}

// A query that ran although an answer was kept is counted by why, and whether
// it was worth it.
func TestReads_countsWhatIsNeedless(t *testing.T) {
	registry := prometheus.NewRegistry()
	behind := false
	r := newRig(t, func(c *Config) {
		c.Registerer = registry
		c.Node = sometimes{c.Node, &behind}
	})
	body := "one"
	r.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		return &messagesv1.GetMessageResponse{Message: &messagesv1.Message{Body: body}}, nil
	}
	zero := map[string]float64{"floor": 0, "horizon": 0, "strong": 0, "lag": 0}
	replaced, unchanged := maps.Clone(zero), maps.Clone(zero)
	counted := func(why string, same bool) {
		t.Helper()
		replaced[why]++
		if same {
			unchanged[why]++
		}
		// Counted when the answer has left, so that nobody waits for it.
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			require.Equal(c, replaced, byCause(t, registry, "freshet_reads_replaced_total"))
			require.Equal(c, unchanged, byCause(t, registry, "freshet_reads_unchanged_total"))
		}, 10*time.Second, time.Millisecond)
	}
	r.reads(t, at(100)) // nothing was kept
	r.reads(t, at(100)) // a hit
	r.reads(t, strong)
	counted("strong", true)
	body = "two" // of the same length
	r.reads(t, strong)
	counted("strong", false)

	r.hub.Publish(change(110))
	r.reads(t, at(110))
	counted("floor", true)
	r.hub.Publish(change(120))
	body = "three"
	r.reads(t, at(120))
	counted("floor", false)

	// After a gap nothing is known but the horizon.
	r.hub.Begin(at(130))
	r.hub.Serve(at(130))
	r.reads(t, at(130))
	counted("horizon", true)

	behind = true
	r.reads(t, at(130))
	counted("lag", true)
}

// sometimes lags.
type sometimes struct {
	Node
	behind *bool
}

func (s sometimes) Lag() time.Duration {
	if *s.behind {
		return time.Minute
	}
	return 0
}
