package systemtest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// secured is a proxy with the settings of deploy/proxy, and how to reach it.
type secured struct {
	addr string
	tls  *tls.Config
	url  string
}

func newSecured(t *testing.T, name, upstream string) *secured {
	t.Helper()
	addr, roots := testkit.NewTLSProxy(t, name, upstream, t.TempDir())
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return &secured{
		addr: addr, url: "https://" + net.JoinHostPort(testkit.PublicName, port),
		tls: &tls.Config{RootCAs: roots, ServerName: testkit.PublicName, MinVersion: tls.VersionTLS12},
	}
}

// client speaks the protocol that the proxy prefers (h2), or HTTP/1.1, from an
// address of this machine.
func (s *secured) client(t *testing.T, http1 bool, from string) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: s.tls.Clone(), ForceAttemptHTTP2: !http1}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", s.addr)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// F51: the settings of docs/deploy.md carry RPC, streams and gRPC by one port with
// TLS; who reads or sends slowly disturbs nobody and gets what it asked for; and the
// limits per address are of the clients', whatever they say themselves.
func TestProxy_F51_withTLS(t *testing.T) {
	n := serve(t, testkit.Migrated(t), "f51tls", func(c *live.Config) {
		c.Front.Hosts = []string{testkit.PublicName}
		c.Front.Insecure = true
		c.Front.TrustedProxies = []string{"127.0.0.1"}
		c.MaxStreamsPerCaller = 2
	})
	upstream := strings.TrimPrefix(n.url, "http://")
	for _, name := range testkit.WebProxies {
		t.Run(name, func(t *testing.T) {
			s := newSecured(t, name, upstream)
			messages := messagesv1connect.NewMessageServiceClient(s.client(t, false, "127.0.0.1"), s.url, connect.WithHTTPGet())
			write := func(body string) {
				_, err := messages.CreateMessage(testkit.Context(t), connect.NewRequest(&messagesv1.CreateMessageRequest{
					Parent: "conversations/" + name, Message: &messagesv1.Message{Author: "ada", Body: body},
				}))
				require.NoError(t, err)
			}
			t.Run("RPC", func(t *testing.T) {
				write("hello")
				listed, err := messages.ListMessages(testkit.Context(t), connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/" + name}))
				require.NoError(t, err)
				require.Len(t, listed.Msg.GetMessages(), 1)
				require.NotEmpty(t, listed.Header().Get("Freshet-Revision"))
			})
			t.Run("gRPC", func(t *testing.T) { s.grpc(t, name) })
			if name == "nginx" { // it keeps what it has not enough of, unless it is told not to
				t.Run("Watch", func(t *testing.T) {
					for i, protocol := range [][]connect.ClientOption{nil, {connect.WithGRPCWeb()}, {connect.WithProtoJSON()}} {
						from := fmt.Sprintf("127.0.1.%d", 1+i) // a stream that was left counts as its caller's for a moment
						s.watch(t, s.client(t, true, from), func() { write("watched") }, protocol...)
					}
				})
			}
			t.Run("slow", func(t *testing.T) { s.slow(t, name, write) })
			t.Run("addresses", func(t *testing.T) { s.addresses(t) })
		})
	}
}

// watch follows a topic while something is written.
func (s *secured) watch(t *testing.T, over *http.Client, write func(), protocol ...connect.ClientOption) {
	ctx, cancel := context.WithTimeout(testkit.Context(t), 20*time.Second)
	defer cancel()
	c := freshetv1connect.NewInvalidationServiceClient(over, s.url, protocol...)
	stream, err := c.Watch(ctx, connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{"messages"}}))
	require.NoError(t, err)
	testkit.Begun(t, func() *freshetv1.WatchResponse {
		require.True(t, stream.Receive(), "%v", stream.Err())
		return stream.Msg()
	})
	write()
	for stream.Msg().GetInvalidate() == nil {
		require.True(t, stream.Receive(), "%v", stream.Err())
	}
	cancel()
	_ = stream.Close() // of a call that was cancelled
}

// grpc asks, and follows, as gRPC's own client does.
func (s *secured) grpc(t *testing.T, name string) {
	ctx, cancel := context.WithCancel(testkit.Context(t))
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+s.addr, grpc.WithTransportCredentials(credentials.NewTLS(s.tls.Clone())))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	answer := new(messagesv1.ListMessagesResponse)
	require.NoError(t, conn.Invoke(ctx, messagesv1connect.MessageServiceListMessagesProcedure, &messagesv1.ListMessagesRequest{Parent: "conversations/" + name}, answer))
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

// slow has one client stop in the middle of a large answer, another in the middle
// of its request, a third not read its stream, while a fourth writes and is told.
func (s *secured) slow(t *testing.T, name string, write func(body string)) {
	for range 40 {
		write(strings.Repeat("words ", 2000))
	}
	reader, sender, deaf := s.raw(t), s.raw(t), s.raw(t)
	ask := func(method, path, body string) string {
		return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			method, path, strings.TrimPrefix(s.url, "https://"), len(body), body)
	}
	list := ask(http.MethodPost, messagesv1connect.MessageServiceListMessagesProcedure, fmt.Sprintf(`{"parent":"conversations/%s"}`, name))
	_, err := io.WriteString(reader, list)
	require.NoError(t, err)
	first := make([]byte, 4096)
	_, err = io.ReadFull(reader, first)
	require.NoError(t, err)
	_, err = io.WriteString(sender, list[:len(list)-5])
	require.NoError(t, err)
	_, err = io.WriteString(deaf, ask(http.MethodGet, "/events?topic=messages&throttle_ms=0", ""))
	require.NoError(t, err)

	told := arrivalsBy(t, s.client(t, true, "127.0.0.1"), s.url, "conversations/"+name+"/messages")
	for range 20 {
		began := time.Now()
		write("quick")
		next(t, testkit.Context(t), told)
		require.Less(t, time.Since(began), 2*time.Second, "others wait for who is slow")
	}
	_, err = io.WriteString(sender, list[len(list)-5:])
	require.NoError(t, err)
	for who, from := range map[string]io.Reader{"reader": io.MultiReader(bytes.NewReader(first), reader), "sender": sender} {
		resp, err := http.ReadResponse(bufio.NewReader(from), nil)
		require.NoError(t, err, who)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err, who)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", who, body)
		require.Greater(t, len(body), 200_000, who)
		require.True(t, bytes.HasSuffix(bytes.TrimSpace(body), []byte("}")), who)
	}
}

// raw is a connection on which nothing is read that isn't asked for.
func (s *secured) raw(t *testing.T) net.Conn {
	t.Helper()
	config := s.tls.Clone()
	config.NextProtos = []string{"http/1.1"}
	conn, err := (&tls.Dialer{Config: config}).DialContext(testkit.Context(t), "tcp", s.addr)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// addresses opens as many streams as an address may have, and one more.
func (s *secured) addresses(t *testing.T) {
	open := func(from, claims string) int {
		req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, s.url+"/events?topic=messages", nil)
		require.NoError(t, err)
		if claims != "" {
			req.Header.Set("X-Forwarded-For", claims)
		}
		resp, err := s.client(t, true, from).Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp.StatusCode
	}
	require.Equal(t, http.StatusOK, open("127.0.0.2", ""))
	require.Equal(t, http.StatusOK, open("127.0.0.2", "192.0.2.7"))
	require.Equal(t, http.StatusTooManyRequests, open("127.0.0.2", ""))
	require.Equal(t, http.StatusTooManyRequests, open("127.0.0.2", "192.0.2.8"), "what it says itself is not believed")
	require.Equal(t, http.StatusOK, open("127.0.0.3", ""), "another client")
}
