package heat_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/server/heat"
)

func measure(t *testing.T, m *heat.Meter, while func()) heat.Result {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result, ended := make(chan heat.Result, 1), make(chan error, 1)
	go func() {
		r, err := m.Measure(ctx, time.Hour)
		ended <- err
		result <- r
	}()
	require.Eventually(t, m.On, 10*time.Second, time.Millisecond)
	while()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	return <-result
}

func TestMeter_counts(t *testing.T) {
	m := heat.New(100)
	m.Changed("before", 5) // nobody measures
	r := measure(t, m, func() {
		m.Changed("wide", 3)
		m.Changed("wide", 2)
		m.Queried([]string{"wide", "narrow"}, true)
		m.Read([]string{"wide", "narrow"}, true)
		m.Read([]string{"wide"}, false)
		m.Changed("hot", 100)
		m.Changed("unread", 0)
		require.Equal(t, 4, m.Len())
		_, err := m.Measure(t.Context(), time.Second)
		require.ErrorIs(t, err, heat.ErrBusy)
	})
	m.Changed("after", 5)
	require.Equal(t, []heat.Topic{
		{Topic: "wide", Changes: 2, Notices: 5, Reads: 2, NeedlessReads: 1, Queries: 1, NeedlessQueries: 1},
		{Topic: "narrow", Reads: 1, NeedlessReads: 1, Queries: 1, NeedlessQueries: 1},
		{Topic: "hot", Changes: 1, Notices: 100},
		{Topic: "unread", Changes: 1},
	}, r.Worst(10))
	require.Len(t, r.Worst(1), 1)
	require.Zero(t, r.Replaced)
	require.Zero(t, m.Len(), "nothing is kept")
}

func TestMeter_takesAsLongAsItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := heat.New(1).Measure(t.Context(), 10*time.Second)
		require.NoError(t, err)
		require.Equal(t, 10*time.Second, r.Window)
	})
}

// G7: it keeps so many topics, among them all that are counted often; and what it says
// of one it has seen.
func TestMeter_isBounded(t *testing.T) {
	const limit = 20
	m := heat.New(limit)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's
	seen := map[string]int{}
	r := measure(t, m, func() {
		for i := range 20_000 {
			topic := fmt.Sprint("once/", i)
			if random.IntN(2) == 0 {
				topic = fmt.Sprint("often/", random.IntN(5))
			}
			seen[topic]++
			m.Changed(topic, 0)
			require.LessOrEqual(t, m.Len(), limit)
		}
	})
	require.Len(t, r.Topics, limit)
	require.Positive(t, r.Replaced)
	worst := r.Worst(5)
	for _, topic := range worst {
		require.Contains(t, topic.Topic, "often/")
	}
	for _, topic := range r.Topics {
		require.LessOrEqual(t, topic.Changes, seen[topic.Topic])
	}
}

func TestMeter_concurrently(t *testing.T) {
	m := heat.New(3)
	var counting sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		counting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					m.Changed(fmt.Sprint(i), 1)
					m.Read([]string{fmt.Sprint(i)}, true)
				}
			}
		})
	}
	for range 20 {
		r, err := m.Measure(t.Context(), time.Millisecond)
		require.NoError(t, err)
		require.LessOrEqual(t, len(r.Topics), 3)
	}
	close(stop)
	counting.Wait()
}
