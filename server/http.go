package server

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/freshet-dev/freshet/server/intercept"
)

// maxStreamsPerConnection bounds HTTP/2 streams: one browser's tabs, or one
// back end's watches, on one connection.
const maxStreamsPerConnection = 1000

// listen opens the ports and answers /healthz and /readyz on them.
func (n *node) listen(ctx context.Context) (*front, error) {
	f := newFront(n.ready)
	at, err := n.start(ctx, "http", n.cfg.Addr, f)
	if err != nil {
		return nil, fmt.Errorf("%w (--addr chooses another address)", err)
	}
	n.url = "http://" + at
	if n.cfg.AdminAddr == "" {
		return f, nil
	}
	if _, err := n.start(ctx, "admin http", n.cfg.AdminAddr, adminHandler(n.registry, n.ready)); err != nil {
		return nil, fmt.Errorf("%w (--admin-addr chooses another address, an empty one none)", err)
	}
	return f, nil
}

// start listens on addr and serves h until the group stops; running requests
// have been drained by then.
func (n *node) start(ctx context.Context, name, addr string, h http.Handler) (at string, _ error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	server := n.httpServer(h)
	n.https = append(n.https, server)
	n.parts.Go(name, func(ctx context.Context) error {
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(listener) }()
		select {
		case err := <-ended:
			if errors.Is(err, http.ErrServerClosed) { // by drain
				<-ctx.Done()
				return nil
			}
			return err
		case <-ctx.Done():
			err := server.Close()
			<-ended
			return err
		}
	})
	return listener.Addr().String(), nil
}

// drain lets running requests end; no new ones are accepted.
func (n *node) drain(ctx context.Context) error {
	var all error
	for _, server := range n.https {
		all = errors.Join(all, server.Shutdown(ctx))
	}
	return all
}

// httpServer returns a server with our limits, for HTTP/1.1 and for HTTP/2
// without TLS ("prior knowledge", RFC 9113 section 3.3) on one port.
func (n *node) httpServer(h http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         &protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreamsPerConnection},
		ReadHeaderTimeout: n.cfg.ReadHeaderTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    n.cfg.MaxHeaderBytes,
		ErrorLog:          httpLog(n.cfg.Logger),
	}
}

// httpLog is net/http's complaints about peers, which are their problem.
func httpLog(logger *slog.Logger) *log.Logger {
	return slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
}

// front is the main port's handler: health at any time, and everything else
// once there is something to serve.
type front struct {
	ready *readiness
	inner atomic.Pointer[http.Handler]
}

func newFront(ready *readiness) *front { return &front{ready: ready} }

func (f *front) open(h http.Handler) { f.inner.Store(&h) }

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		alive(w, r)
		return
	case "/readyz":
		f.ready.ServeHTTP(w, r)
		return
	}
	if inner := f.inner.Load(); inner != nil {
		(*inner).ServeHTTP(w, r)
		return
	}
	w.Header().Set("Retry-After", "1")
	http.Error(w, "starting", http.StatusServiceUnavailable)
}

// wrap is the middleware of everything that front serves, outermost first: the
// request's id, headers for safety, CORS (which answers preflights, so before
// anything that may refuse), who calls, the body's limit, unknown procedures.
func (n *node) wrap(procedures []string, mux http.Handler) http.Handler {
	h := intercept.Procedures(procedures, mux)
	h = http.MaxBytesHandler(h, int64(n.cfg.MaxRequestBytes)+bodyOverhead)
	h = intercept.Authenticate(nil, h) // JWT will be verified here
	h = cors(n.cfg.AllowedOrigins, h)
	h = secure(h)
	return intercept.RequestID(h)
}

// bodyOverhead is what a body may have beyond its message: gRPC's five bytes
// of framing, and room for what compression adds to incompressible data.
const bodyOverhead = 4 << 10

// page returns the handler of `/`.
func (n *node) page() http.Handler {
	if n.cfg.Page != nil {
		return n.cfg.Page
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "Freshet serves RPC and a stream here:\n\n  curl -N '%s/events?topic=messages'\n", n.url)
	})
}

// adminHandler serves metrics and profiles, on a port of its own.
func adminHandler(registry *prometheus.Registry, ready http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.HandleFunc("GET /healthz", alive)
	mux.Handle("GET /readyz", ready)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join([]string{"/metrics", "/healthz", "/readyz", "/debug/pprof/"}, "\n"))
	})
	return mux
}
