package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/web"
)

// attack is one request or behaviour of somebody who means harm, or whose program
// is broken.
type attack struct {
	name string
	do   func(*arena) string // what came back, in the words of arena's methods
	want string
}

// hostilePatience bounds what one attack may take: the server's own deadlines,
// which are short here, and room for a busy machine.
const hostilePatience = 20 * time.Second

// arena is a server under attack, and somebody beside who behaves: has a stream
// open, and reads.
type arena struct {
	t    *testing.T
	ctx  context.Context
	addr string
	url  string
	http [2]*http.Client // HTTP/1.1, HTTP/2
	key  *ecdsa.PrivateKey
}

func newArena(t *testing.T) *arena {
	a := &arena{t: t}
	r := start(t, testkit.Migrated(t), func(c *live.Config) {
		c.Authenticate = a.authenticate(t)
		c.MaxWait, c.MaxSettle = 200*time.Millisecond, 0
		c.WriteTimeout = 500 * time.Millisecond
		c.Front.ReadTimeout = 500 * time.Millisecond
		c.MaxStreams = 400
		c.Front.Page = web.Handler("")
	})
	u, err := url.Parse(r.url)
	require.NoError(t, err)
	a.ctx, a.addr, a.url = r.ctx, u.Host, r.url
	for i := range a.http {
		transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
		transport.Protocols.SetHTTP1(i == 0)
		transport.Protocols.SetUnencryptedHTTP2(i == 1)
		a.http[i] = &http.Client{Transport: transport, Timeout: hostilePatience}
		t.Cleanup(transport.CloseIdleConnections)
	}
	return a
}

// TestRun_hostile sends what nobody should, to a server as users start it. Each
// time the answer is the one of the table, memory and goroutines are what they
// were before, a stream that was open stays open, and reads of others are
// answered meanwhile.
func TestRun_hostile(t *testing.T) {
	a := newArena(t)
	attacks := slices.Concat(attacksOnHTTP1, attacksOnHTTP2, attacksOnRPC, attacksOnGRPC, attacksOnStreams, attacksOnTokens)
	require.GreaterOrEqual(t, len(attacks), 60)
	w := wire{t: t, base: a.url, http: &http.Client{Transport: a.http[0].Transport}} // no timeout: for a stream
	w.create("open")
	next := w.open(http.MethodGet, events("conversations/open/messages"), "")
	until(next, "ready")
	b := newBystander(a)
	quiet := b.during(func() { b.calls(50) })
	t.Logf("%-52s %-34s %8s %10s %8s %8s", "what is sent", "what comes back", "heap", "goroutines", "p50", "p99")
	t.Logf("%-52s %-34s %8s %10s %8s %8s", "(nothing)", "", "", "", quiet.p50, quiet.p99)
	for _, attack := range attacks {
		t.Run(attack.name, func(t *testing.T) {
			before := settled(t, usage{})
			var got string
			others := b.during(func() { got = attack.do(a); b.calls(5) })
			after := settled(t, before)
			t.Logf("%-52s %-34s %+7dk %+10d %8s %8s", attack.name, got, (after.heap-before.heap)>>10, after.goroutines-before.goroutines, others.p50, others.p99)
			require.Equal(t, attack.want, got)
			require.Empty(t, others.failed, "a read of somebody else")
			require.Less(t, others.max, 2*time.Second, "a read of somebody else")
		})
	}
	w.create("open")
	until(next, "invalidate")
}

// usage is what a process has in use.
type usage struct {
	heap       int64 // bytes
	goroutines int
}

// settled returns what is in use once that is about what it was before; before is
// zero: now.
func settled(t *testing.T, before usage) (now usage) {
	t.Helper()
	look := func() bool {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		now = usage{heap: int64(m.HeapAlloc), goroutines: runtime.NumGoroutine()} //nolint:gosec // far from 2^63
		return before == (usage{}) || now.heap < before.heap+8<<20 && now.goroutines < before.goroutines+10
	}
	for deadline := time.Now().Add(hostilePatience); !look(); {
		require.True(t, time.Now().Before(deadline), "memory and goroutines don't return: %+v before, %+v now", before, now)
		runtime.Gosched()
	}
	return now
}

// bystander reads, one call after the other.
type bystander struct {
	a    *arena
	done chan struct{} // a call more
}

func newBystander(a *arena) *bystander { return &bystander{a: a, done: make(chan struct{})} }

// latency is how long calls took.
type latency struct {
	p50, p99, max time.Duration
	failed        string
}

// during has the bystander read while f runs.
func (b *bystander) during(f func()) (l latency) {
	stop := make(chan struct{})
	var took []time.Duration
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			began := time.Now()
			if got := b.a.call(0, http.MethodPost, "ListMessages", `{"parent":"conversations/open"}`); got != "200" && l.failed == "" {
				l.failed = got
			}
			took = append(took, time.Since(began))
			select {
			case <-stop:
				return
			case b.done <- struct{}{}:
			default:
			}
		}
	})
	f()
	close(stop)
	reader.Wait()
	slices.Sort(took)
	l.p50, l.p99, l.max = took[len(took)/2].Round(10*time.Microsecond), took[len(took)*99/100].Round(10*time.Microsecond), took[len(took)-1]
	return l
}

// calls returns when n calls more have been answered.
func (b *bystander) calls(n int) {
	for range n {
		<-b.done
	}
}

// call sends a call of the message service and returns the answer's form. Content
// is JSON unless a header says otherwise.
func (a *arena) call(protocol int, method, rpc, body string, header ...string) string {
	return a.send(protocol, method, messagesPath+rpc, body, append([]string{"Content-Type", "application/json"}, header...)...)
}

// send sends a request and returns the answer's form: its status, and the code of
// Connect or gRPC.
func (a *arena) send(protocol int, method, target, body string, header ...string) string {
	req, err := http.NewRequestWithContext(a.ctx, method, a.url+target, strings.NewReader(body))
	if err != nil {
		return "not sent: " + err.Error()
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Content-Type" {
			req.Header.Set(header[i], header[i+1])
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := a.http[protocol].Do(req)
	if err != nil {
		return cutOr(err)
	}
	return form(resp)
}

// form is an answer's: `200`, `400 invalid_argument`, `grpc 3`.
func form(resp *http.Response) string {
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusOK && resp.Header.Get("Content-Type") == "text/event-stream" {
		return "stream"
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return cutOr(err)
	}
	for _, h := range []http.Header{resp.Header, resp.Trailer} {
		if status := h.Get("Grpc-Status"); status != "" {
			return "grpc " + status
		}
	}
	var e struct{ Code string }
	if resp.StatusCode >= 400 && json.Unmarshal(body, &e) == nil && e.Code != "" {
		return fmt.Sprintf("%d %s", resp.StatusCode, e.Code)
	}
	return fmt.Sprint(resp.StatusCode)
}

// cutOr is `cut` for a connection that the server closed.
func cutOr(err error) string {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		return "nothing"
	default:
		return "cut"
	}
}

// dial opens a connection, which is closed when done is called.
func (a *arena) dial() (conn net.Conn, done func()) {
	conn, err := new(net.Dialer).DialContext(a.ctx, "tcp", a.addr)
	require.NoError(a.t, err)
	require.NoError(a.t, conn.SetDeadline(time.Now().Add(hostilePatience)))
	return conn, func() { _ = conn.Close() }
}

// h1 sends text on a connection of its own, and returns the form of the first
// answer.
func h1(text string) func(*arena) string {
	return func(a *arena) string {
		conn, done := a.dial()
		defer done()
		// The server may have answered, and hung up, before it had all of it.
		_, _ = io.WriteString(conn, text)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return cutOr(err)
		}
		resp.Body = io.NopCloser(resp.Body) // the connection ends it
		return form(resp)
	}
}

// get is a request's text.
func get(target string, header ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(append(header, "Connection: close"), "\r\n") + "\r\n\r\n"
}

// post is a request's text, with an honest length unless a header says another.
func post(target, body string, header ...string) string {
	if !slices.ContainsFunc(header, func(h string) bool {
		return strings.HasPrefix(h, "Content-Length") || strings.HasPrefix(h, "Transfer-Encoding")
	}) {
		header = append(header, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	return "POST " + target + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + strings.Join(header, "\r\n") + "\r\n\r\n" + body
}
