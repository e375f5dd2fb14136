package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
)

// nodes are the addresses of identical nodes, in an order of the client's own: the
// clients of a node that fails are to spread over all others. Streams and calls of
// one client go to the same node until that fails.
type nodes struct {
	urls []*url.URL // they differ in scheme and host only
	at   atomic.Int64
}

// newNodes reads base URLs.
func newNodes(baseURLs []string) (*nodes, error) {
	n := new(nodes)
	for _, baseURL := range baseURLs {
		u, err := url.Parse(baseURL)
		if err != nil {
			return nil, fmt.Errorf("server address: %w", err)
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("server address %q: want http://host:port or https://host", baseURL)
		}
		if u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("server address %q: a query or fragment has no place there", baseURL)
		}
		u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), ""
		if len(n.urls) > 0 && u.Path != n.urls[0].Path {
			return nil, fmt.Errorf("server address %q: the path differs from that of %q; nodes are identical", baseURL, baseURLs[0])
		}
		n.urls = append(n.urls, u)
	}
	rand.Shuffle(len(n.urls), func(i, j int) { n.urls[i], n.urls[j] = n.urls[j], n.urls[i] })
	return n, nil
}

// current is the node that is used, as failed takes it.
func (n *nodes) current() int64 { return n.at.Load() }

func (n *nodes) url(node int64) *url.URL { return n.urls[node%int64(len(n.urls))] }

// failed says that a node can't be used. Whoever has heard of it first moves all on
// to the next.
func (n *nodes) failed(node int64) { n.at.CompareAndSwap(node, node+1) }

// has reports whether a URL is one of a node.
func (n *nodes) has(u *url.URL) bool {
	for _, node := range n.urls {
		if u.Scheme == node.Scheme && u.Host == node.Host {
			return true
		}
	}
	return false
}

// HTTPClient returns the HTTP client for calls, to be given to a generated Connect
// client together with any of the addresses:
//
//	messages := messagesv1connect.NewMessageServiceClient(c.HTTPClient(), url,
//		connect.WithInterceptors(c.Interceptor()))
//
// It is that of [WithHTTPClient], and sends what goes to one of the client's nodes to
// the one that is used now. When a node can't be reached it goes on to the next: at
// once with what that node hasn't got (no connection came about) and with reads, that
// is with GET, HEAD, and calls by [Client.Interceptor] or [NewInterceptor] of methods
// without side effects; else with the next call, since nobody knows whether this one
// was done. What a node answers, `unavailable` too, is the caller's.
//
// It sets no time of its own. A node that hangs with its connections open answers
// nothing and ends nothing, so a call waits there until its context's deadline, and
// without one for ever; the next call goes to the next node. A node that is gone without
// a word is given up by the transport, http.DefaultTransport after 30 s. So give each
// call a deadline.
func (c *Client) HTTPClient() *http.Client {
	own := *c.http
	own.Transport = failover{nodes: c.nodes, next: transportOf(c.http)}
	return &own
}

func transportOf(c *http.Client) http.RoundTripper {
	if c.Transport == nil {
		return http.DefaultTransport
	}
	return c.Transport
}

// failover sends requests to the node that is used now.
type failover struct {
	nodes *nodes
	next  http.RoundTripper
}

func (f failover) RoundTrip(r *http.Request) (*http.Response, error) {
	if !f.nodes.has(r.URL) {
		return f.next.RoundTrip(r)
	}
	for tried := 1; ; tried++ {
		node := f.nodes.current()
		resp, err := f.next.RoundTrip(toNode(r, f.nodes.url(node)))
		if err == nil || errors.Is(r.Context().Err(), context.Canceled) {
			return resp, err
		}
		f.nodes.failed(node) // also one that hasn't answered in time
		if r.Context().Err() != nil {
			return nil, err
		}
		if tried >= len(f.nodes.urls) || !mayRepeat(r, err) {
			return nil, err
		}
		if r.Body == nil || r.Body == http.NoBody {
			continue
		}
		body, again := r.GetBody()
		if again != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = body
	}
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] looks for.
func (f failover) CloseIdleConnections() {
	(&http.Client{Transport: f.next}).CloseIdleConnections()
}

func toNode(r *http.Request, node *url.URL) *http.Request {
	out := r.Clone(r.Context())
	if r.Host == r.URL.Host {
		out.Host = node.Host
	}
	out.URL.Scheme, out.URL.Host = node.Scheme, node.Host
	return out
}

// mayRepeat reports whether a request that failed with err may be sent again: it
// changes nothing, or no node has got it.
func mayRepeat(r *http.Request, err error) bool {
	if r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		return false
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Context().Value(readKey{}) != nil {
		return true
	}
	dial, ok := errors.AsType[*net.OpError](err)
	return ok && dial.Op == "dial"
}

type readKey struct{}

// withRead marks the requests under the returned context as reads.
func withRead(ctx context.Context) context.Context { return context.WithValue(ctx, readKey{}, true) }
