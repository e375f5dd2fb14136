package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// transport is one way to reach the server.
type transport string

const (
	h1    transport = "HTTP/1.1" // taken over from net/http where that can be
	h1own transport = "HTTP/1.1 on its handler"
	h2c   transport = "h2c"
	h1tls transport = "HTTP/1.1 with TLS" // taken over, too
	h2tls transport = "HTTP/2 with TLS"
)

var transports = []transport{h1, h1own, h2c, h1tls, h2tls}

// site is a real net/http server with the stream's two handlers.
type site struct {
	*fixture
	url    string
	client *http.Client
	via    transport
}

// serverTimeout is that of net/http for whole requests and responses.
const serverTimeout = 2 * time.Second

func newSite(t testing.TB, via transport, c Config) *site {
	t.Helper()
	c.KeepHandler = via == h1own
	f := newFixture(t, c)
	mux := http.NewServeMux()
	mux.Handle("/events", f.server)
	mux.Handle(f.server.WatchHandler())
	srv := httptest.NewUnstartedServer(Shallow("/events", mux))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetHTTP2(via == h2tls)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	// Streams must outlive the server's own timeouts.
	srv.Config.ReadTimeout = serverTimeout
	srv.Config.WriteTimeout = serverTimeout
	srv.EnableHTTP2 = via == h2tls
	tr := &http.Transport{Protocols: new(http.Protocols)}
	switch via {
	case h1, h1own:
		tr.Protocols.SetHTTP1(true)
	case h2c:
		tr.Protocols.SetUnencryptedHTTP2(true)
	case h1tls:
		tr.Protocols.SetHTTP1(true)
		tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	case h2tls:
		tr.Protocols.SetHTTP2(true)
		tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	if via == h2tls || via == h1tls {
		srv.Listener = divertibles{srv.Listener}
		srv.Config.ConnContext = ConnContext
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, f.server.Shutdown(ctx, 0))
		tr.CloseIdleConnections()
		srv.Close()
		require.Zero(t, f.hub.Stats().Subscriptions)
	})
	return &site{fixture: f, url: srv.URL, client: &http.Client{Transport: tr}, via: via}
}

// divertibles are a listener's connections as Divertible.
type divertibles struct{ net.Listener }

func (d divertibles) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &divertibleConn{TCPConn: c.(*net.TCPConn)}, nil
}

type divertibleConn struct {
	*net.TCPConn
	to io.Writer
}

func (c *divertibleConn) Write(p []byte) (int, error) {
	if c.to != nil {
		return c.to.Write(p)
	}
	return c.TCPConn.Write(p)
}

func (c *divertibleConn) Divert(to io.Writer) (wire io.Writer) {
	c.to = to
	return c.TCPConn
}

// reader is an open SSE stream.
type reader struct {
	t      testing.TB
	res    *http.Response
	events chan sseEvent // closed at the end of the stream
	cancel context.CancelFunc
}

func topicsQuery(topics ...string) string {
	return "?" + url.Values{"topic": topics}.Encode()
}

func (s *site) get(t testing.TB, query string, header http.Header) *reader {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.url+"/events"+query, nil)
	require.NoError(t, err)
	for name, values := range header {
		req.Header[name] = values
	}
	return s.do(t, req)
}

func (s *site) post(t testing.TB, query, body string) *reader {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.url+"/events"+query, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Last-Event-ID", "garbage, which POST ignores")
	return s.do(t, req)
}

func (s *site) do(t testing.TB, req *http.Request) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	res, err := s.client.Do(req.WithContext(ctx))
	if err != nil {
		cancel()
		require.NoError(t, err)
	}
	r := &reader{t: t, res: res, events: make(chan sseEvent, 100), cancel: cancel}
	t.Cleanup(r.close)
	if res.StatusCode != http.StatusOK {
		close(r.events)
		return r
	}
	go func() {
		defer close(r.events)
		lines := bufio.NewReader(res.Body)
		var p sseParser
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if e, ok := p.feed(strings.TrimSuffix(line, "\n")); ok {
				r.events <- e
			}
		}
	}()
	return r
}

func (r *reader) close() {
	r.cancel()
	_ = r.res.Body.Close()
	for range r.events { // until the reading goroutine has ended
	}
}

func (r *reader) next() sseEvent {
	r.t.Helper()
	select {
	case e, ok := <-r.events:
		require.True(r.t, ok, "the stream ended")
		return e
	case <-time.After(10 * time.Second):
		require.Fail(r.t, "no event within 10 s")
		return sseEvent{}
	}
}

// expect reads one event and compares what matters of it.
func (r *reader) expect(kind string, rev freshet.Revision, topics ...string) payload {
	r.t.Helper()
	e := r.next()
	require.Equal(r.t, kind, e.kind, "%+v", e)
	p := decode(r.t, e)
	require.Equal(r.t, rev.String(), p.Revision)
	require.Equal(r.t, rev.String(), e.lastID)
	if kind == "invalidate" {
		require.ElementsMatch(r.t, topics, p.list)
		require.NotNil(r.t, p.SpreadMS)
	}
	return p
}

// stalled opens a stream on a raw connection that is never read from, with a
// small receive buffer.
func (s *site) stalled(t testing.TB, topics []string) net.Conn {
	t.Helper()
	return s.unread(t, topics, 4096)
}

// unread is the same with a receive buffer of that size; 0: the system's.
func (s *site) unread(t testing.TB, topics []string, buffer int) net.Conn {
	t.Helper()
	body, err := json.Marshal(map[string]any{"topics": topics})
	require.NoError(t, err)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	if buffer > 0 {
		require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(buffer))
	}
	t.Cleanup(func() { _ = conn.Close() })
	var req bytes.Buffer
	fmt.Fprintf(&req, "POST /events?throttle=0 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	_, err = conn.Write(req.Bytes())
	require.NoError(t, err)
	return conn
}

// response is a recorder on which a stream can begin: it keeps the write deadline.
type response struct {
	*httptest.ResponseRecorder

	deadline time.Time
}

func newResponse() *response { return &response{ResponseRecorder: httptest.NewRecorder()} }

func (r *response) SetWriteDeadline(at time.Time) error {
	r.deadline = at
	return nil
}
