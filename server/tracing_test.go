package server_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet-dev/freshet"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// traced starts a server whose spans a test sees.
func traced(t *testing.T, change func(*live.Config)) (*running, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	return start(t, testkit.Migrated(t), func(c *live.Config) {
		c.TracerProvider = provider
		if change != nil {
			change(c)
		}
	}), spans
}

// named returns the spans of a name that have ended, oldest first.
func named(spans *tracetest.InMemoryExporter, name string) (found tracetest.SpanStubs) {
	for _, span := range spans.GetSpans() {
		if span.Name == name {
			found = append(found, span)
		}
	}
	return found
}

func attribute(span tracetest.SpanStub, key string) string {
	for _, a := range span.Attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

const (
	createSpan = "messages.v1.MessageService/CreateMessage"
	listSpan   = "messages.v1.MessageService/ListMessages"
)

func (r *running) write(t *testing.T, header ...string) freshet.Revision {
	t.Helper()
	req := request(&messagesv1.CreateMessageRequest{
		Parent: "conversations/traced", Message: &messagesv1.Message{Author: "zoe.x", Body: "a secret body"},
	}, freshet.Revision{})
	for i := 0; i < len(header); i += 2 {
		req.Header().Set(header[i], header[i+1])
	}
	created, err := r.client().CreateMessage(r.ctx, req)
	require.NoError(t, err)
	return stamp(t, created.Header())
}

func (r *running) refetch(t *testing.T, rev freshet.Revision) {
	t.Helper()
	_, err := r.client(connect.WithProtoJSON()).ListMessages(r.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/traced"}, rev))
	require.NoError(t, err)
}

// One trace leads from a write through its commit and the notice to the refetch
// of somebody who followed; the ninth refetch has a trace of its own, with a link.
func TestTracing_fromAWriteToARefetch(t *testing.T) {
	r, spans := traced(t, nil)
	notices := r.follow(t, "conversations/traced/messages")
	own := r.write(t)
	told := (<-notices).Revision
	require.Equal(t, own, told)
	const joined = 8
	for range joined + 1 {
		r.refetch(t, told)
	}

	writes, commits, notice := named(spans, createSpan), named(spans, "freshet.commit"), named(spans, "freshet.notice")
	require.Len(t, writes, 1)
	require.Len(t, commits, 1)
	require.Len(t, notice, 1)
	write := writes[0].SpanContext
	require.False(t, writes[0].Parent.IsValid())
	require.Equal(t, trace.SpanKindServer, writes[0].SpanKind)
	require.Equal(t, told.String(), attribute(writes[0], "freshet.revision"))
	require.Equal(t, write.SpanID(), commits[0].Parent.SpanID())
	require.Equal(t, "true", attribute(commits[0], "freshet.committed"))
	require.Equal(t, write.SpanID(), notice[0].Parent.SpanID())
	require.Equal(t, told.String(), attribute(notice[0], "freshet.revision"))
	require.NotEqual(t, "0", attribute(notice[0], "freshet.topics"))

	refetches := named(spans, listSpan)
	require.Len(t, refetches, joined+1)
	for _, refetch := range refetches[:joined] {
		require.Equal(t, write.TraceID(), refetch.SpanContext.TraceID(), "one trace")
		require.Equal(t, notice[0].SpanContext.SpanID(), refetch.Parent.SpanID())
		require.Equal(t, told.String(), attribute(refetch, "freshet.at_least"))
		require.Empty(t, refetch.Links)
	}
	require.Equal(t, "hit", attribute(refetches[joined-1], "freshet.cache"))
	last := refetches[joined]
	require.NotEqual(t, write.TraceID(), last.SpanContext.TraceID())
	require.Len(t, last.Links, 1)
	require.Equal(t, notice[0].SpanContext.SpanID(), last.Links[0].SpanContext.SpanID())
}

// What somebody else committed has no trace to join.
func TestTracing_somebodyElsesCommit(t *testing.T) {
	database := testkit.Migrated(t)
	spans := tracetest.NewInMemoryExporter()
	r := start(t, database, func(c *live.Config) { c.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)) })
	notices := r.follow(t, "conversations/traced/messages")
	conn, err := pgx.Connect(r.ctx, database)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(r.ctx)) }()
	_, err = conn.Exec(r.ctx, "insert into messages (conversation, author, body) values ('traced', 'bob', 'by SQL')")
	require.NoError(t, err)
	r.refetch(t, (<-notices).Revision)
	refetches := named(spans, listSpan)
	require.Len(t, refetches, 1)
	require.False(t, refetches[0].Parent.IsValid())
	require.Empty(t, refetches[0].Links)
	require.Empty(t, named(spans, "freshet.notice"))
}

// Who calls doesn't choose what trace the server's spans are part of, nor that
// they are recorded, unless it is trusted.
func TestTracing_traceparent(t *testing.T) {
	const given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for name, trusted := range map[string]bool{"a stranger's": false, "a friend's": true} {
		t.Run(name, func(t *testing.T) {
			r, spans := traced(t, func(c *live.Config) { c.TrustTraces = trusted })
			r.write(t, "traceparent", given)
			write := named(spans, createSpan)[0]
			if trusted {
				require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", write.SpanContext.TraceID().String())
				require.Equal(t, "00f067aa0ba902b7", write.Parent.SpanID().String())
				return
			}
			require.NotEqual(t, "4bf92f3577b34da6a3ce929d0e0e4736", write.SpanContext.TraceID().String())
			require.False(t, write.Parent.IsValid())
			require.Len(t, write.Links, 1)
			require.Equal(t, "00f067aa0ba902b7", write.Links[0].SpanContext.SpanID().String())
		})
	}
}

// A stranger's "sampled" doesn't have anything recorded.
func TestTracing_aStrangerDoesNotSample(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	r := start(t, testkit.Migrated(t), func(c *live.Config) {
		c.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	})
	rev := r.write(t, "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	r.refetch(t, rev)
	require.Empty(t, spans.GetSpans())
}

// Spans hold no tokens, no topics, no addresses, nothing of messages and nothing
// of what an error says inside. Streams have none.
func TestTracing_holdsNothingOfAnybody(t *testing.T) {
	r, spans := traced(t, nil)
	notices := r.follow(t, "conversations/traced/messages") // by SSE
	rev := r.write(t, "Authorization", "Bearer s3cret.t0ken", "Cookie", "session=c00kie", "Tracestate", "v=st4te", "Baggage", "user=b4ggage")
	<-notices
	r.refetch(t, rev)
	_, err := r.client().GetMessage(r.ctx, request(&messagesv1.GetMessageRequest{Name: "conversations/traced/messages/none"}, freshet.Revision{}))
	require.Error(t, err)
	_, err = r.client().ListMessages(r.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/traced", PageToken: "t0ken-of-a-page"}, freshet.Revision{}))
	require.Error(t, err)
	ctx, cancel := context.WithCancel(r.ctx)
	watch, err := freshetv1connect.NewInvalidationServiceClient(r.http, r.url).Watch(ctx, connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{"conversations/traced/messages"}}))
	require.NoError(t, err)
	require.True(t, watch.Receive())
	cancel()
	require.NoError(t, r.stop()) // every call has ended
	_ = watch.Close()            // it was cut
	all, err := json.Marshal(spans.GetSpans())
	require.NoError(t, err)
	require.Len(t, spans.GetSpans(), 6, "an RPC each, and the commit's two")
	for _, secret := range []string{"s3cret", "t0ken", "c00kie", "st4te", "b4ggage", "secret body", "zoe.x", "traced/", "127.0.0.1"} {
		require.NotContains(t, strings.ToLower(string(all)), secret)
	}
	require.Contains(t, string(all), rev.String(), "it is they")
}
