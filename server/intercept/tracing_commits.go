package intercept

import (
	"context"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/store"
)

// commitSpans are those of one call's COMMITs.
type commitSpans struct {
	tracing *Tracing
	call    context.Context //nolint:containedctx // the call's, whose span they are below; it ends with the call
	epoch   freshet.Epoch

	mu   sync.Mutex // guards open: transactions may run side by side
	open map[uint64]trace.Span
}

// commits returns what makes the spans of a call's COMMITs; nil: nobody records
// the call. The epoch is the node's as the call begins.
func (t *Tracing) commits(ctx context.Context, epoch freshet.Epoch) *commitSpans {
	if t == nil || !trace.SpanContextFromContext(ctx).IsSampled() {
		return nil
	}
	return &commitSpans{tracing: t, call: ctx, epoch: epoch, open: make(map[uint64]trace.Span, 1)}
}

// began is called before COMMIT is sent. The notice may be there before the answer
// to COMMIT is, so its span begins now, too.
func (c *commitSpans) began(xid uint64) {
	_, commit := c.tracing.tracer.Start(c.call, spanCommit)
	_, notice := c.tracing.tracer.Start(c.call, spanNotice)
	c.mu.Lock()
	c.open[xid] = commit
	c.mu.Unlock()
	c.tracing.mu.Lock()
	defer c.tracing.mu.Unlock()
	c.tracing.pending.put(uint32(xid), pendingNotice{c.epoch, notice}) //nolint:gosec // as in the WAL; no two live xids share them
}

// ended is called when the handler has returned.
func (c *commitSpans) ended(outcomes []store.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for xid, span := range c.open {
		committed := slices.ContainsFunc(outcomes, func(o store.Outcome) bool { return o.Xid == xid && o.Committed })
		span.SetAttributes(attrCommitted.Bool(committed))
		if !committed {
			// The WAL may still bring it: then its notice is told.
			span.SetStatus(codes.Error, "rolled back, or nobody knows")
		}
		span.End()
	}
}

// bounded is a map of the newest entries.
type bounded[K comparable, V any] struct {
	entries map[K]V
	order   []K // a ring, from next on; entries that were taken are in it until they are overwritten
	next    int
}

func newBounded[K comparable, V any](size int) bounded[K, V] {
	return bounded[K, V]{entries: make(map[K]V), order: make([]K, 0, size)}
}

func (b *bounded[K, V]) get(key K) (V, bool) {
	value, ok := b.entries[key]
	return value, ok
}

func (b *bounded[K, V]) put(key K, value V) {
	if len(b.order) < cap(b.order) {
		b.order = append(b.order, key)
	} else {
		delete(b.entries, b.order[b.next])
		b.order[b.next] = key
		b.next = (b.next + 1) % len(b.order)
	}
	b.entries[key] = value
}

func (b *bounded[K, V]) take(key K) (V, bool) {
	value, ok := b.entries[key]
	delete(b.entries, key)
	return value, ok
}
