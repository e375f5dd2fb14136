package reuse

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

// thermometer is a Heat.
type thermometer struct {
	on              atomic.Bool
	queries, vain   atomic.Int64
	reads, vainRead atomic.Int64
	topics          atomic.Pointer[[]string]
}

func (h *thermometer) On() bool { return h.on.Load() }

func (h *thermometer) Queried(topics []string, needless bool) {
	h.topics.Store(&topics)
	h.queries.Add(1)
	if needless {
		h.vain.Add(1)
	}
}

func (h *thermometer) Read(_ []string, needless bool) {
	h.reads.Add(1)
	if needless {
		h.vainRead.Add(1)
	}
}

// A query that runs since a topic has changed is judged by what was kept before, and
// every read that asks for the change counts with it, by whatever way it is answered.
// What nobody heard of a change for, and what nobody measures, doesn't count.
func TestReads_judgesRefetches(t *testing.T) {
	h := new(thermometer)
	r := newRig(t, func(c *Config) { c.Heat = h })
	body := "same"
	r.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		return &messagesv1.GetMessageResponse{Message: &messagesv1.Message{Body: body}}, nil
	}
	want := func(queries, vain, reads, vainReads int64) {
		t.Helper()
		require.Equal(t, [4]int64{queries, vain, reads, vainReads}, [4]int64{h.queries.Load(), h.vain.Load(), h.reads.Load(), h.vainRead.Load()})
	}
	r.reads(t, at(100))
	r.hub.Publish(change(105))
	r.reads(t, at(105))
	want(0, 0, 0, 0) // nobody measures

	h.on.Store(true)
	r.reads(t, at(105)) // of before
	want(0, 0, 0, 0)
	r.hub.Publish(change(110))
	require.Equal(t, Miss, r.reads(t, at(110)).from)
	want(1, 1, 1, 1)
	require.Equal(t, []string{name}, *h.topics.Load())
	require.Equal(t, Hit, r.reads(t, at(110)).from)
	want(1, 1, 2, 2)
	require.Equal(t, Hit, r.reads(t, at(105)).from)
	want(1, 1, 2, 2) // it has not heard of the change

	body = "new"
	r.hub.Publish(change(120))
	require.Equal(t, Miss, r.reads(t, at(120)).from)
	require.Equal(t, Hit, r.reads(t, at(120)).from)
	want(2, 1, 4, 2)
	r.reads(t, strong)
	want(3, 2, 4, 2) // nobody was told: a query, no refetch
	require.Empty(t, *h.topics.Load(), "nothing has changed")
}
