package client

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A stream goes to the next node at once, with the last id, and waits only when all
// have been tried, or when nodes end streams right after ready. What isn't the
// node's fault keeps it where it is.
func TestNodes_stream(t *testing.T) {
	const first = time.Second
	lives := func(d time.Duration) func(*pipeEnd) {
		return func(e *pipeEnd) {
			e.open()
			e.send(readyFrame(rev(1), time.Minute))
			e.send(invalidateFrame(rev(2), "t"))
			time.Sleep(d)
		}
	}
	fails := func(status int, after string) func(*pipeEnd) {
		return func(e *pipeEnd) { e.fail(status, http.Header{"Retry-After": {after}}) }
	}
	refuses := func(e *pipeEnd) { // as a token that has expired
		e.open()
		e.send(readyFrame(rev(3), time.Minute))
		time.Sleep(2 * first)
		e.send("event: end\ndata: {\"reason\":\"expired\"}\n\n")
	}
	steps := []struct {
		scene func(*pipeEnd)
		waits bool
		moves bool
	}{
		{lives(time.Minute), false, true},
		{fails(503, "40"), false, true},
		{fails(502, ""), true, true}, // all three have been tried
		{lives(0), false, true},
		{lives(0), false, true},
		{lives(0), true, true},
		{fails(429, "1"), true, false},
		{lives(first), false, true},
		{lives(first), false, true},
		{lives(first), false, true},
		{lives(first), false, true}, // for ever, as long as they last
		{refuses, true, false},
		{fails(500, ""), false, true},
	}
	var scenes []func(*pipeEnd)
	for _, s := range steps {
		scenes = append(scenes, s.scene)
	}
	synctest.Test(t, func(t *testing.T) {
		network := &pipeNet{scenes: scenes}
		c, err := New("http://a.test/base", WithNodes("https://b.test/base", "http://c.test/base/"),
			WithHTTPClient(&http.Client{Transport: network}), WithBackoff(first, time.Minute))
		require.NoError(t, err)
		var ends int
		err = c.Stream(t.Context(), []string{"t"}, func(e Event) error {
			end, ok := e.(Disconnected)
			if !ok {
				return nil
			}
			require.Equal(t, steps[ends].waits, end.Retry > 0, "end %d: %v", ends, end)
			if ends++; ends == len(steps) {
				return errEnough
			}
			return nil
		})
		require.ErrorIs(t, err, errEnough)
		network.playing.Wait()
		for i := 1; i < len(steps); i++ {
			require.Equal(t, steps[i-1].moves, network.hosts[i] != network.hosts[i-1], "attempt %d: %v", i, network.hosts)
			require.NotEmpty(t, network.asked[i], "attempt %d goes on from what was told", i)
		}
		require.NotEqual(t, network.hosts[0], network.hosts[2])
	})
}

// Streams of one client and its calls go along when one of them finds that a node
// has failed; where clients begin is spread.
func TestNodes_together(t *testing.T) {
	starts := map[string]bool{}
	for range 100 {
		c, err := New("http://a.test", WithNodes("http://b.test"))
		require.NoError(t, err)
		at := c.nodes.current()
		starts[c.nodes.url(at).Host] = true
		c.nodes.failed(at)
		c.nodes.failed(at) // somebody else has heard of it, too
		require.Equal(t, at+1, c.nodes.current())
		require.NotEqual(t, c.nodes.url(at), c.nodes.url(at+1))
		require.Equal(t, c.nodes.url(at), c.nodes.url(at+2))
	}
	require.Len(t, starts, 2)
}

func TestNew_WithNodes_refuses(t *testing.T) {
	for _, node := range []string{"b.test", "ftp://b.test", "http://b.test?x=1", "http://b.test/other"} {
		_, err := New("http://a.test/base", WithNodes(node))
		require.ErrorContains(t, err, node)
	}
}

// pings is a node that counts what it gets.
type pings struct {
	*httptest.Server
	mu     sync.Mutex // guards all below
	got    int
	host   string // of the last
	breaks bool   // whatever comes, after it has come
	hangs  bool   // until its caller has gone
}

func newPings(t *testing.T) *pings {
	t.Helper()
	p := new(pings)
	handler := connect.NewUnaryHandler("/ping", func(context.Context, *connect.Request[emptypb.Empty]) (*connect.Response[emptypb.Empty], error) {
		return connect.NewResponse(&emptypb.Empty{}), nil
	}, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.got++
		p.host = r.Host
		breaks, hangs := p.breaks, p.hangs
		p.mu.Unlock()
		switch {
		case hangs:
			<-r.Context().Done()
		case breaks:
			panic(http.ErrAbortHandler)
		case r.URL.Path == "/plain":
			_, _ = io.Copy(w, r.Body)
		default:
			handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *pings) counted() (got int, host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got, p.host
}

// callsOf are two nodes and a client of both that begins at the first.
func callsOf(t *testing.T) (one, two *pings, c *Client, h *http.Client) {
	t.Helper()
	a, b := newPings(t), newPings(t)
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	c, err := New(a.URL, WithNodes(b.URL), WithHTTPClient(&http.Client{Transport: transport}))
	require.NoError(t, err)
	if c.nodes.url(0).String() == b.URL {
		a, b = b, a
	}
	return a, b, c, c.HTTPClient()
}

// A node that can't be reached has got nothing: whatever was meant for it goes to
// the next at once, whole.
func TestHTTPClient_nodeIsGone(t *testing.T) {
	one, two, c, h := callsOf(t)
	for range 2 {
		resp, err := h.Post(two.URL+"/plain", "text/plain", strings.NewReader("hi"))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	got, host := one.counted()
	require.Equal(t, 2, got, "whichever address was named")
	require.Equal(t, strings.TrimPrefix(one.URL, "http://"), host)
	one.Close()
	resp, err := h.Post(one.URL+"/plain", "text/plain", strings.NewReader("hi"))
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "hi", string(body))
	got, host = two.counted()
	require.Equal(t, 1, got)
	require.Equal(t, strings.TrimPrefix(two.URL, "http://"), host)
	require.Equal(t, two.URL, c.nodes.url(c.nodes.current()).String(), "streams go along")
	two.Close()
	_, err = h.Get(two.URL + "/plain")
	require.Error(t, err, "each is tried once")
}

// A node that breaks off has perhaps done what it was asked for: reads are asked
// again, whatever they are sent as, and nothing else is.
func TestHTTPClient_nodeBreaksOff(t *testing.T) {
	read := func(with ...connect.ClientOption) func(*Client, *http.Client, string) error {
		return func(c *Client, h *http.Client, url string) error {
			with = append(with, connect.WithIdempotency(connect.IdempotencyNoSideEffects), connect.WithInterceptors(c.Interceptor()))
			_, err := connect.NewClient[emptypb.Empty, emptypb.Empty](h, url+"/ping", with...).
				CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{}))
			return err
		}
	}
	for name, tt := range map[string]struct {
		call     func(*Client, *http.Client, string) error
		repeated bool
	}{
		"a read by POST": {read(), true},
		"a read by GET":  {read(connect.WithHTTPGet()), true},
		"a write": {func(c *Client, h *http.Client, url string) error {
			_, err := connect.NewClient[emptypb.Empty, emptypb.Empty](h, url+"/ping", connect.WithInterceptors(c.Interceptor())).
				CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{}))
			return err
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			one, two, c, h := callsOf(t)
			one.breaks = true
			err := tt.call(c, h, one.URL)
			require.Equal(t, tt.repeated, err == nil, "%v", err)
			got, _ := one.counted()
			require.Equal(t, 1, got)
			if !tt.repeated {
				got, _ = two.counted()
				require.Zero(t, got)
			}
			require.NoError(t, tt.call(c, h, one.URL), "the next goes to the other")
		})
	}
}

// A node that hangs costs a call its deadline, and the next ones nothing. Who gives up
// by himself says nothing of the node.
func TestHTTPClient_nodeHangs(t *testing.T) {
	one, two, c, h := callsOf(t)
	one.hangs = true
	call := func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, one.URL+"/plain", nil)
		require.NoError(t, err)
		resp, err := h.Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- call(ctx) }()
	require.Eventually(t, func() bool { got, _ := one.counted(); return got == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Zero(t, c.nodes.current())

	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, call(ctx), context.DeadlineExceeded)
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, call(ctx))
	got, _ := one.counted()
	require.LessOrEqual(t, got, 2)
	got, _ = two.counted()
	require.Equal(t, 1, got)
}

// What goes elsewhere is left alone, also when it fails.
func TestHTTPClient_otherServers(t *testing.T) {
	one, _, c, h := callsOf(t)
	other := newPings(t)
	other.breaks = true
	_, err := h.Get(other.URL + "/plain")
	require.Error(t, err)
	got, _ := one.counted()
	require.Zero(t, got)
	require.Zero(t, c.nodes.current())
}
