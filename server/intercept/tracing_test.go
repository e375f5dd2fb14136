package intercept

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/store"
)

func atLeastHeader(rev freshet.Revision) http.Header {
	return http.Header{HeaderAtLeast: {rev.String()}}
}

// commitTraced is a call that commits a transaction, and its notice.
func commitTraced(tracing *Tracing, xid uint64, commit freshet.Commit) {
	ctx, span := tracing.tracer.Start(context.Background(), "write")
	defer span.End()
	c := tracing.commits(ctx, epoch)
	c.began(xid)
	tracing.told(uint32(xid), commit) //nolint:gosec // a test's
	c.ended([]store.Outcome{{Xid: xid, Committed: true}})
}

func newTracing(t *testing.T) (*Tracing, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	tracing, err := NewTracing(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)), false)
	require.NoError(t, err)
	return tracing, spans
}

// The traces of the newest commits are known, and no more.
func TestTracing_remembersTheNewest(t *testing.T) {
	tracing, _ := newTracing(t)
	const more = 10
	for i := range uint64(keptTraces + more) {
		commitTraced(tracing, i+1, freshet.Commit{Revision: at(i + 1)})
	}
	require.Len(t, tracing.notices.entries, keptTraces)
	require.Len(t, tracing.notices.order, keptTraces)
	require.Empty(t, tracing.pending.entries)
	require.False(t, tracing.causeOf(atLeastHeader(at(more)), false).IsValid())
	require.True(t, tracing.causeOf(atLeastHeader(at(more+1)), false).IsValid())
	require.True(t, tracing.causeOf(atLeastHeader(at(keptTraces+more)), false).IsValid())

	// Those that are never told of are dropped, too.
	ctx, span := tracing.tracer.Start(t.Context(), "write")
	defer span.End()
	for i := range uint64(keptTraces + more) {
		tracing.commits(ctx, epoch).began(i + 1)
	}
	require.Len(t, tracing.pending.entries, keptTraces)
}

// After a crash ids are given again: what had not been told by then isn't what is
// told now.
func TestTracing_anotherEpoch(t *testing.T) {
	tracing, spans := newTracing(t)
	later := freshet.Revision{Epoch: epoch + 1, Position: 7}
	commitTraced(tracing, 5, freshet.Commit{Revision: later})
	require.False(t, tracing.causeOf(atLeastHeader(later), false).IsValid())
	require.Len(t, spans.GetSpans(), 2, "the write and its commit")
}

// A COMMIT that was answered otherwise, or not at all, is no success.
func TestTracing_lostCommit(t *testing.T) {
	tracing, spans := newTracing(t)
	ctx, span := tracing.tracer.Start(t.Context(), "write")
	defer span.End()
	c := tracing.commits(ctx, epoch)
	c.began(5)
	c.ended([]store.Outcome{{Position: at(3)}, {Xid: 6, Committed: true}})
	require.Equal(t, "Error", spans.GetSpans()[0].Status.Code.String())
}

// What isn't recorded isn't remembered: a refetch decides for itself.
func TestTracing_notSampled(t *testing.T) {
	tracing, err := NewTracing(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())), false)
	require.NoError(t, err)
	ctx, span := tracing.tracer.Start(t.Context(), "write")
	defer span.End()
	require.Nil(t, tracing.commits(ctx, epoch))
}

// Without a provider there is nothing.
func TestTracing_off(t *testing.T) {
	tracing, err := NewTracing(nil, false)
	require.NoError(t, err)
	require.Nil(t, tracing)
	require.Nil(t, tracing.BeforeTold())
	require.Nil(t, tracing.options())
	require.Zero(t, testing.AllocsPerRun(100, func() {
		require.Nil(t, tracing.commits(t.Context(), epoch))
		tracing.replied(t.Context(), new(reply))
	}))
}
