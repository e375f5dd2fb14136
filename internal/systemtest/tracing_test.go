package systemtest_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// collector takes spans as OpenTelemetry's does, by OTLP over HTTP.
type collector struct {
	url  string
	came chan struct{} // capacity 1

	mu        sync.Mutex // guards what follows
	resources map[string]string
	spans     []*tracev1.Span
	bad       error
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{came: make(chan struct{}, 1), resources: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		request := new(collectorv1.ExportTraceServiceRequest)
		if err == nil {
			err = proto.Unmarshal(body, request)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if r.URL.Path != "/v1/traces" || err != nil {
			c.bad = err
			http.Error(w, "no traces", http.StatusBadRequest)
			return
		}
		for _, resource := range request.GetResourceSpans() {
			for _, a := range resource.GetResource().GetAttributes() {
				c.resources[a.GetKey()] = a.GetValue().GetStringValue()
			}
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
		select {
		case c.came <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// span waits for the span of a name, and of a trace.
func (c *collector) span(t *testing.T, ctx context.Context, name string, traceID ...byte) *tracev1.Span {
	t.Helper()
	for {
		c.mu.Lock()
		spans, bad := c.spans, c.bad
		c.mu.Unlock()
		require.NoError(t, bad)
		for _, s := range spans {
			if s.GetName() == name && (traceID == nil || bytes.Equal(s.GetTraceId(), traceID)) {
				return s
			}
		}
		select {
		case <-c.came:
		case <-ctx.Done():
			require.FailNow(t, "the collector was not sent "+name)
		}
	}
}

// The program, told by OpenTelemetry's own variables where a collector is, sends
// it one trace that leads from a write through commit and notice to the refetch of
// another client.
func TestTracing_endToEnd(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.url)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	server := serveChild(t, program(t), testkit.Migrated(t), "tracing")
	ctx := testkit.Context(t)
	http := transport(t, false)
	messages := messagesv1connect.NewMessageServiceClient(http, server.url, connect.WithHTTPGet())

	follower, err := client.New(server.url, client.WithHTTPClient(http))
	require.NoError(t, err)
	lists, err := client.NewQuery(follower, messages.ListMessages, &messagesv1.ListMessagesRequest{Parent: "conversations/traced"})
	require.NoError(t, err)
	following, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- lists.Run(following) }()
	defer func() {
		stop()
		<-done
	}()
	await := func(want int) {
		for s := range lists.Changes(ctx) {
			if s.Value != nil && len(s.Value.GetMessages()) == want {
				return
			}
		}
		require.FailNow(t, "the query did not show it")
	}
	await(0)
	_, err = messages.CreateMessage(ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/traced", Message: &messagesv1.Message{Author: "ada", Body: "hello"},
	}))
	require.NoError(t, err)
	await(1)

	write := c.span(t, ctx, "messages.v1.MessageService/CreateMessage")
	commit, notice := c.span(t, ctx, "freshet.commit"), c.span(t, ctx, "freshet.notice")
	require.Empty(t, write.GetParentSpanId())
	require.Equal(t, write.GetSpanId(), commit.GetParentSpanId())
	require.Equal(t, write.GetSpanId(), notice.GetParentSpanId())
	require.Greater(t, notice.GetEndTimeUnixNano(), notice.GetStartTimeUnixNano())
	refetch := c.span(t, ctx, "messages.v1.MessageService/ListMessages", write.GetTraceId()...)
	require.Equal(t, hex.EncodeToString(notice.GetSpanId()), hex.EncodeToString(refetch.GetParentSpanId()))
	require.Equal(t, "freshet", c.resources["service.name"])
	require.Equal(t, "tracing", c.resources["service.instance.id"])
	require.Equal(t, "test", c.resources["deployment.environment.name"])
}
