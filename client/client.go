package client

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Client knows how to reach one Freshet server, several behind one address, or
// several nodes by their own (see [WithNodes]).
// It is immutable and safe for concurrent use; there is nothing to close.
type Client struct {
	baseURLs       []string
	nodes          *nodes
	http           *http.Client
	header         map[string]string
	token          func(context.Context) (string, error)
	logger         *slog.Logger
	connectTimeout time.Duration
	backoffMin     time.Duration
	backoffMax     time.Duration
	flightTimeout  time.Duration
	sent           sentTokens
}

// Option configures a Client.
type Option func(*Client)

// New makes a client for the server at baseURL, `https://api.example.com` or
// `http://127.0.0.1:8080`, with a path if the server lives below one. It does
// not connect.
func New(baseURL string, opts ...Option) (*Client, error) {
	c := &Client{
		baseURLs:       []string{baseURL},
		http:           http.DefaultClient,
		header:         map[string]string{},
		logger:         slog.New(slog.DiscardHandler),
		connectTimeout: 10 * time.Second,
		backoffMin:     500 * time.Millisecond,
		backoffMax:     30 * time.Second,
		flightTimeout:  32 * time.Second,
	}
	for _, opt := range opts {
		opt(c)
	}
	var err error
	if c.nodes, err = newNodes(c.baseURLs); err != nil {
		return nil, err
	}
	return c, nil
}

// WithNodes names further nodes on the same database, by base URLs that differ from
// New's in scheme and host only. A client begins with any of them and stays there
// until that node fails. Then it goes to the next at once, and waits only when all
// have been tried, or when a node fails that has just been come to. A stream goes on
// from the last revision that it was told, which every node understands; calls go
// along that are made with [Client.HTTPClient]. Behind a balancer its address is
// enough.
func WithNodes(baseURLs ...string) Option {
	return func(c *Client) { c.baseURLs = append(c.baseURLs, baseURLs...) }
}

// WithHTTPClient sets the HTTP client; the default is [http.DefaultClient].
// Its Timeout is ignored: it would cut every stream after that time.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithHeader sets a header on every request for a stream. A later value
// replaces an earlier one.
func WithHeader(name, value string) Option {
	return func(c *Client) { c.header[http.CanonicalHeaderKey(name)] = value }
}

// WithTokenSource sends `Authorization: Bearer <token>` with streams, and with the
// calls that [Client.Interceptor] is put in. The source is asked before each of them,
// so it should keep its token while that is good, as oauth2.ReuseTokenSource does, and
// heed [StaleToken]. A stream is renewed before its token expires, as the server says
// (see [Client.Stream]). An error counts as a failed attempt; an empty token sends no
// header. The source must be safe for concurrent use, and heed its context.
func WithTokenSource(source func(context.Context) (string, error)) Option {
	return func(c *Client) { c.token = source }
}

// WithLogger sets where connections and their ends are logged (level debug).
// The default logs nothing: the sink is told anyway.
func WithLogger(l *slog.Logger) Option { return func(c *Client) { c.logger = l } }

// WithConnectTimeout bounds the time from the start of an attempt to the
// response's header. The default is 10 s.
func WithConnectTimeout(d time.Duration) Option { return func(c *Client) { c.connectTimeout = d } }

// WithBackoff sets the first and the longest wait between attempts; the
// defaults are 500 ms and 30 s. Each wait is twice the last one and up to half
// longer at random. The server's `retry:` replaces first.
func WithBackoff(first, longest time.Duration) Option {
	return func(c *Client) { c.backoffMin, c.backoffMax = first, max(first, longest) }
}

// WithFlightTimeout bounds one fetch of a [Query]: it is called off then and
// counts as a failure, so that a request which is never answered doesn't end
// the query's life (F79). The default is 32 s: the server's --max-wait, and 30 s
// for the answer. A server that is allowed to wait longer needs more.
func WithFlightTimeout(d time.Duration) Option { return func(c *Client) { c.flightTimeout = d } }
