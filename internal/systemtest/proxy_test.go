package systemtest_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// proxyDefaults are proxies as somebody sets them up who knows nothing of
// streams, and how late a notice then comes.
var proxyDefaults = map[string]struct {
	config   string
	from, to time.Duration
}{
	"nginx": {config: "server { listen 127.0.0.1:8000; location / { proxy_pass http://127.0.0.1:8080; } }", to: proxyDelay},
	"caddy": {config: "{\n admin off\n}\nhttp://127.0.0.1:8000 {\n reverse_proxy 127.0.0.1:8080\n}\n", to: proxyDelay},
	"haproxy": {config: `
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend public
    bind 127.0.0.1:8000
    default_backend freshet
backend freshet
    server one 127.0.0.1:8080
`, from: 100 * time.Millisecond, to: time.Minute},
}

// proxyDelay is what a proxy may add to the time of a notice.
const proxyDelay = 20 * time.Millisecond

// F51: through each usual proxy, with the settings of docs/operations.md, calls
// and streams work, and a notice comes within 20 ms of when it comes directly.
// With their own defaults that holds too, but for HAProxy's, which holds each
// frame back for some 205 ms.
func TestProxy_F51(t *testing.T) {
	database := testkit.Migrated(t)
	n := serve(t, database, "f51", nil)
	upstream := strings.TrimPrefix(n.url, "http://")
	for _, name := range testkit.WebProxies {
		t.Run(name, func(t *testing.T) {
			front, grpcFront := testkit.NewWebProxy(t, name, upstream, testkit.ConfigIn(t, "docs/operations.md", name))
			if name == "caddy" { // one port for all
				grpcFront = front
			}
			callThrough(t, "http://"+front)
			callGRPC(t, grpcFront)
			delay := medianDelay(t, n.url, "http://"+front, 30)
			t.Logf("%s: a notice comes %v later than directly, at the median", name, delay)
			require.Less(t, delay, proxyDelay)
		})
		t.Run(name+"'s defaults", func(t *testing.T) {
			known := proxyDefaults[name]
			front, _ := testkit.NewWebProxy(t, name, upstream, known.config)
			delay := medianDelay(t, n.url, "http://"+front, 10)
			t.Logf("%s by its defaults: %v", name, delay)
			require.GreaterOrEqual(t, delay+time.Millisecond, known.from, "docs/operations.md says what it does")
			require.Less(t, delay, known.to)
		})
	}
}

// callThrough writes and reads by Connect, by POST and by GET.
func callThrough(t *testing.T, url string) {
	t.Helper()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	ctx := testkit.Context(t)
	for _, get := range []bool{false, true} {
		var options []connect.ClientOption
		if get {
			options = append(options, connect.WithHTTPGet())
		}
		c := messagesv1connect.NewMessageServiceClient(&http.Client{Transport: transport}, url, options...)
		created, err := c.CreateMessage(ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
			Parent: "conversations/proxied", Message: &messagesv1.Message{Author: "ada", Body: strings.Repeat("x", 10_000)},
		}))
		require.NoError(t, err)
		list := connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/proxied"})
		list.Header().Set("Freshet-At-Least", created.Header().Get("Freshet-Revision"))
		listed, err := c.ListMessages(ctx, list)
		require.NoError(t, err)
		require.Equal(t, created.Msg.GetMessage().GetName(), listed.Msg.GetMessages()[0].GetName())
		_, err = freshet.ParseRevision(listed.Header().Get("Freshet-Revision"))
		require.NoError(t, err, "headers pass")
	}
}

// callGRPC reads, and follows a topic, with gRPC's own client.
func callGRPC(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(testkit.Context(t))
	defer cancel()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	answer := new(messagesv1.ListMessagesResponse)
	err = conn.Invoke(ctx, messagesv1connect.MessageServiceListMessagesProcedure, &messagesv1.ListMessagesRequest{Parent: "conversations/proxied"}, answer)
	require.NoError(t, err)
	require.NotEmpty(t, answer.GetMessages())
	watch, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, freshetv1connect.InvalidationServiceWatchProcedure)
	require.NoError(t, err)
	require.NoError(t, watch.SendMsg(&freshetv1.WatchRequest{Topics: []string{"messages"}}))
	require.NoError(t, watch.CloseSend())
	testkit.Begun(t, func() *freshetv1.WatchResponse {
		event := new(freshetv1.WatchResponse)
		require.NoError(t, watch.RecvMsg(event))
		return event
	})
}

// medianDelay writes, and returns how much later a notice comes by one way than
// by the other.
func medianDelay(t *testing.T, direct, proxied string, times int) time.Duration {
	t.Helper()
	near, far := arrivals(t, direct), arrivals(t, proxied)
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	ctx := testkit.Context(t)
	write := func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, direct+messagesv1connect.MessageServiceCreateMessageProcedure,
			strings.NewReader(`{"parent":"conversations/delay","message":{"author":"ada","body":"hi"}}`))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := (&http.Client{Transport: transport}).Do(req)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	var delays []time.Duration
	for range times {
		write()
		at := next(t, ctx, near)
		delays = append(delays, next(t, ctx, far).Sub(at))
	}
	slices.Sort(delays)
	return delays[len(delays)/2]
}

func next(t *testing.T, ctx context.Context, from <-chan time.Time) time.Time {
	t.Helper()
	select {
	case at := <-from:
		return at
	case <-ctx.Done():
		require.FailNow(t, "no notice came")
		return time.Time{}
	}
}

// arrivals follows a topic, and tells when each notice comes, once it is ready.
func arrivals(t *testing.T, url string) <-chan time.Time {
	t.Helper()
	return arrivalsBy(t, transport(t, false), url, "conversations/delay/messages")
}

func arrivalsBy(t *testing.T, by *http.Client, url, topic string) <-chan time.Time {
	t.Helper()
	c, err := client.New(url, client.WithHTTPClient(by))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(testkit.Context(t))
	at := make(chan time.Time, 100)
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Stream(ctx, []string{topic}, func(e client.Event) error { // ends with ctx
			switch e.(type) {
			case client.Ready:
				close(ready)
			case client.Invalidate:
				at <- time.Now()
			}
			return nil
		}, client.WithThrottle(0))
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case <-ready:
	case <-ctx.Done():
		require.FailNow(t, "the stream did not get ready", url)
	}
	return at
}
