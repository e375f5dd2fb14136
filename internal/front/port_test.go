package front

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/seldom"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
)

const testPatience = time.Minute

// testFront is a front that has nothing but ports.
func testFront(t *testing.T, change func(*Config)) *Front {
	t.Helper()
	cfg := Config{Logger: slog.New(slog.DiscardHandler)}
	change(&cfg)
	f, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testPatience)
		defer cancel()
		require.NoError(t, f.parts.Stop(ctx))
	})
	return f
}

func (f *Front) testPort(t *testing.T, p *port, h http.Handler) (at string) {
	t.Helper()
	p.name, p.addr = "test", "127.0.0.1:0"
	p.limit = max(p.limit, 1)
	p.metrics = newPortMetrics(f.registry)("test")
	at, err := f.start(t.Context(), p, h)
	require.NoError(t, err)
	return at
}

// clientVia speaks HTTP/1.1 or HTTP/2 without TLS.
func clientVia(t *testing.T, h2 bool) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!h2)
	transport.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: testPatience}
}

func receiveFrom[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(testPatience):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

func count(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	require.NoError(t, c.Write(&m))
	return m.GetCounter().GetValue()
}

// F62: a caller that doesn't read is cut when the next part of its answer can't
// be sent, and so is one stream of an HTTP/2 connection.
func TestPort_F62_answersThatAreNotRead(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %t", h2), func(t *testing.T) {
			f := testFront(t, func(c *Config) { c.WriteTimeout = 200 * time.Millisecond })
			ended := make(chan error, 1)
			p := new(port)
			at := f.testPort(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, err := w.Write(make([]byte, 64<<20)) // more than sockets hold
				ended <- errors.Join(err, r.Context().Err())
			}))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at, nil)
			require.NoError(t, err)
			resp, err := clientVia(t, h2).Do(req)
			require.NoError(t, err)
			require.Error(t, receiveFrom(t, ended))
			require.InDelta(t, 1, count(t, p.metrics.cut.WithLabelValues("write")), 0)
			_, err = io.Copy(io.Discard, resp.Body)
			require.Error(t, err, "what came isn't taken for the whole")
			require.NoError(t, resp.Body.Close())
		})
	}
}

// F62: a caller whose body doesn't come is told so, and cut.
func TestPort_F62_bodiesThatDoNotCome(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %t", h2), func(t *testing.T) {
			f := testFront(t, func(c *Config) { c.ReadTimeout = 200 * time.Millisecond })
			ended := make(chan error, 1)
			p := new(port)
			at := f.testPort(t, p, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, err := io.ReadAll(r.Body)
				ended <- err
			}))
			body, never := io.Pipe()
			defer func() { _ = never.Close() }()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at, body)
			require.NoError(t, err)
			answered := make(chan error, 1)
			go func() {
				resp, err := clientVia(t, h2).Do(req)
				if err == nil {
					err = resp.Body.Close()
				}
				answered <- err
			}()
			_, err = io.WriteString(never, "{")
			require.NoError(t, err)
			var said *connect.Error
			require.ErrorAs(t, receiveFrom(t, ended), &said)
			require.Equal(t, connect.CodeDeadlineExceeded, said.Code())
			require.Equal(t, "the request did not arrive within 200ms", said.Message(), "no addresses")
			require.InDelta(t, 1, count(t, p.metrics.cut.WithLabelValues("read")), 0)
			_ = never.CloseWithError(io.ErrUnexpectedEOF)
			<-answered // in whatever way
		})
	}
}

// F62: what still comes of such a body isn't taken for the next request.
func TestPort_F62_lateBodiesAreNoRequests(t *testing.T) {
	f := testFront(t, func(c *Config) { c.ReadTimeout = 200 * time.Millisecond })
	at := f.testPort(t, new(port), connectHandler())
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", at)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "POST "+testProcedure+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(testPatience)))
	said, err := io.ReadAll(conn)
	require.NoError(t, err, "the connection ends")
	require.Contains(t, string(said), "504 Gateway Timeout")
	require.Contains(t, string(said), "Connection: close")
}

const testProcedure = "/test.v1.Test/Test"

func connectHandler() http.Handler {
	return connect.NewUnaryHandler(testProcedure, func(context.Context, *connect.Request[emptypb.Empty]) (*connect.Response[emptypb.Empty], error) {
		return connect.NewResponse(new(emptypb.Empty)), nil
	})
}

// A reader that takes its time for the whole, but not for a part, is not cut.
func TestAnswer_slowReadersAreNotCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slowWriter{header: http.Header{}, pause: 900 * time.Millisecond}
		a := &answer{ResponseWriter: w, control: http.NewResponseController(w), patience: &patience{write: time.Second}}
		n, err := a.Write(make([]byte, 10*answerPart+1))
		require.NoError(t, err)
		require.Equal(t, 10*answerPart+1, n)
		require.Equal(t, 11, w.parts)
		time.Sleep(time.Hour)
		a.Flush()
		time.Sleep(time.Hour) // a stream that idles after a flush
		require.True(t, w.deadline.IsZero())
	})
}

// slowWriter is a connection whose peer takes a part per pause.
type slowWriter struct {
	header   http.Header
	pause    time.Duration
	deadline time.Time
	parts    int
	got      bytes.Buffer
}

func (w *slowWriter) Header() http.Header                       { return w.header }
func (w *slowWriter) WriteHeader(int)                           {}
func (w *slowWriter) SetWriteDeadline(deadline time.Time) error { w.deadline = deadline; return nil }
func (w *slowWriter) FlushError() error                         { return nil }

func (w *slowWriter) Write(p []byte) (int, error) {
	w.parts++
	time.Sleep(w.pause)
	if time.Now().After(w.deadline) {
		return 0, errors.New("cut")
	}
	return w.got.Write(p)
}

// F62: when a port has all the connections that it may have, health checks are
// answered all the same, others are told, and there is a line in the log.
func TestPort_F62_connectionsAreBounded(t *testing.T) {
	var log testkit.Buffer
	f := testFront(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	p := &port{limit: 4, perAddress: 3}
	at := f.testPort(t, p, f.answering(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") })))
	ask := func(from, path string) (status int, conn net.Conn) {
		t.Helper()
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(t.Context(), "tcp", at)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(testPatience)))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return 0, conn
		}
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, conn
	}
	status, first := ask("127.0.0.1", "/")
	require.Equal(t, http.StatusOK, status)
	for range 2 {
		status, _ = ask("127.0.0.1", "/")
		require.Equal(t, http.StatusOK, status)
	}
	status, _ = ask("127.0.0.1", "/")
	require.Equal(t, http.StatusServiceUnavailable, status, "one address has its share")
	require.InDelta(t, 1, count(t, p.metrics.refused.WithLabelValues("address")), 0)
	status, _ = ask("127.0.0.2", "/")
	require.Equal(t, http.StatusOK, status)
	status, _ = ask("127.0.0.3", "/")
	require.Equal(t, http.StatusServiceUnavailable, status, "all are taken")
	require.InDelta(t, 1, count(t, p.metrics.refused.WithLabelValues("limit")), 0)
	status, _ = ask("127.0.0.3", "/healthz")
	require.Equal(t, http.StatusOK, status)

	// Even those have an end.
	cut := 0
	for range spareConnections + 10 {
		if status, _ := ask("127.0.0.3", "/healthz"); status == 0 {
			cut++
		}
	}
	require.Positive(t, cut)
	said := strings.Count(log.String(), "connections are turned away")
	require.Positive(t, said)
	require.Less(t, said, 2*seldom.Burst, "then once in a while")
	// A spare connection ends by itself, and one that is closed makes room.
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool {
		status, conn := ask("127.0.0.1", "/")
		_ = conn.Close()
		return status == http.StatusOK
	}, testPatience, 50*time.Millisecond)
}

// failingListener fails some times, as under a limit of open files.
type failingListener struct {
	net.Listener
	left int
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.left--; l.left >= 0 {
		return nil, errors.New("accept: too many open files")
	}
	return nil, net.ErrClosed
}

// F62: that nobody can connect is said, now and then.
func TestDoor_F62_acceptErrorsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := testFront(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		metrics := newPortMetrics(f.registry)("test")
		d := newDoor(&failingListener{left: 1000}, 1, 0, f.callers, f.cfg.Logger, metrics)
		for range 1000 {
			_, err := d.Accept()
			require.Error(t, err)
			time.Sleep(100 * time.Millisecond)
		}
		require.InDelta(t, 1000, count(t, metrics.acceptErrors), 0)
		const once = int(100 * time.Second / seldom.Every)
		require.InDelta(t, seldom.Burst+once, strings.Count(log.String(), "level=ERROR"), 1, log.String())
		require.Contains(t, log.String(), "too many open files")
		require.Contains(t, log.String(), "left_out=")
		said := log.Len()
		_, err := d.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		require.Equal(t, said, log.Len(), "the end is no error")
	})
}

func TestCallers(t *testing.T) {
	who, err := newCallers([]string{"10.0.0.0/8", "::1", "127.0.0.1"})
	require.NoError(t, err)
	for _, tt := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"192.0.2.1:5", "198.51.100.7", "192.0.2.1"}, // not a proxy of ours: made up
		{"10.1.2.3:5", "198.51.100.7", "198.51.100.7"},
		{"10.1.2.3:5", "203.0.113.9, 198.51.100.7", "198.51.100.7"},
		{"10.1.2.3:5", "203.0.113.9, 198.51.100.7, 10.9.9.9", "198.51.100.7"},
		{"10.1.2.3:5", "junk", "10.1.2.3"},
		{"10.1.2.3:5", "", "10.1.2.3"},
		{"[::ffff:10.1.2.3]:5", "198.51.100.7", "198.51.100.7"},
		{"[::1]:5", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"}, // a /64 is one
		{"[2001:db8:1:2::9]:5", "", "2001:db8:1:2::"},
	} {
		r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{}}
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		require.Equal(t, netip.MustParseAddr(tt.want), who.request(r), "%+v", tt)
	}
	require.False(t, who.connection(&net.TCPAddr{IP: net.ParseIP("10.1.2.3")}).IsValid(), "a proxy's connection is many people's")
	require.True(t, who.connection(&net.TCPAddr{IP: net.ParseIP("11.1.2.3")}).IsValid())
}

// A server that starts says so in the form of every other error, and when to
// come back; and why it isn't ready, in a word.
func TestFront_starting(t *testing.T) {
	node, err := server.New(server.Config{DatabaseURL: "postgres://x", Services: []protoreflect.ServiceDescriptor{
		messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"),
	}})
	require.NoError(t, err)
	f := testFront(t, func(*Config) {})
	f.ready = &readiness{node: node}
	path, service := messagesv1connect.NewMessageServiceHandler(messagesv1connect.UnimplementedMessageServiceHandler{}, node.HandlerOptions()...)
	h := f.handler(node, []Service{{Descriptor: messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"), Path: path, Handler: service}})
	ask := func(path string) (*http.Response, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Result(), w.Body.String() //nolint:bodyclose // a recorder's
	}
	for _, path := range []string{
		"/events?topic=messages",
		messagesv1connect.MessageServiceListMessagesProcedure + "?connect=v1&encoding=json&message=%7B%7D",
	} {
		resp, body := ask(path)
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode, path)
		require.Equal(t, "application/json", resp.Header.Get("Content-Type"), path)
		require.Contains(t, body, `"code":"unavailable","message":"the server is starting"`, path)
		require.Contains(t, body, "google.rpc.RetryInfo", path)
	}
	resp, _ := ask("/events?topic=messages")
	require.Equal(t, "1", resp.Header.Get("Retry-After"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	resp, body := ask("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(t, "not ready: starting\n", body)
	resp, _ = ask("/healthz")
	require.Equal(t, http.StatusOK, resp.StatusCode)
}
