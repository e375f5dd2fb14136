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
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	"github.com/freshet-dev/freshet/server/intercept"
)

// maxStreamsPerConnection bounds HTTP/2 streams: one browser's tabs, or one
// back end's watches, on one connection.
const maxStreamsPerConnection = 1000

// listen opens the ports and answers /healthz and /readyz on them.
func (n *node) listen(ctx context.Context) (*front, error) {
	who, err := newCallers(n.cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	metrics := newPortMetrics(n.registry)
	f := newFront(n.ready)
	main := &port{name: "http", addr: n.cfg.Addr, metrics: metrics("main"), limit: n.maxConnections(ctx), callers: who}
	main.perAddress = max(n.cfg.MaxConnectionsPerAddress, 0)
	at, err := n.start(ctx, main, f)
	if err != nil {
		return nil, fmt.Errorf("%w (--addr chooses another address)", err)
	}
	n.url = "http://" + at
	if n.cfg.AdminAddr == "" {
		return f, nil
	}
	admin := &port{name: "admin http", addr: n.cfg.AdminAddr, metrics: metrics("admin"), limit: adminConnections}
	if _, err := n.start(ctx, admin, adminHandler(n.registry, http.HandlerFunc(n.ready.detailed))); err != nil {
		return nil, fmt.Errorf("%w (--admin-addr chooses another address, an empty one none)", err)
	}
	return f, nil
}

// maxConnections is how many connections the main port may have: what is
// configured, or less where the limit of open files leaves less.
func (n *node) maxConnections(ctx context.Context) int {
	// The database, the admin port, and what a Go program has open anyway.
	reserved := int(n.cfg.MaxConns) + runtime.NumCPU() + adminConnections + 2*spareConnections + 32
	files := openFiles()
	room := max(files-reserved, files/4)
	if room < min(n.cfg.MaxConnections, n.cfg.MaxStreams) {
		n.cfg.Logger.WarnContext(ctx, "the limit of open files (ulimit -n) leaves room for fewer connections than --max-streams",
			"open_files", files, "connections", room, "max_streams", n.cfg.MaxStreams)
	}
	return min(n.cfg.MaxConnections, room)
}

// port is what is served on one address.
type port struct {
	name, addr string
	limit      int // of connections
	perAddress int // 0: no bound
	callers    callers
	metrics    *portMetrics
}

// start serves h on p until the group stops; running requests have been
// drained by then.
func (n *node) start(ctx context.Context, p *port, h http.Handler) (at string, _ error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", p.addr)
	if err != nil {
		return "", err
	}
	at = listener.Addr().String()
	listener = &door{
		Listener: listener, limit: p.limit, perAddress: p.perAddress, callers: p.callers,
		logger: n.cfg.Logger, metrics: p.metrics, addresses: map[netip.Addr]int{},
	}
	patience := &patience{
		read: n.cfg.ReadTimeout, write: n.cfg.WriteTimeout, bytes: int64(n.cfg.MaxRequestBytes) + bodyOverhead, metrics: p.metrics,
		streams: map[string]bool{eventsPath: true, freshetv1connect.InvalidationServiceWatchProcedure: true},
		endless: map[string]bool{reflectV1: true, reflectV1Alpha: true},
	}
	server := n.httpServer(patience.bound(newHosts(p.addr, n.cfg.Hosts).check(h)))
	n.https = append(n.https, server)
	n.parts.Go(p.name, func(ctx context.Context) error {
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
	return at, nil
}

// drain lets running requests end, and cuts those that don't; no new ones are
// accepted.
func (n *node) drain(ctx context.Context) error {
	var all error
	for _, server := range n.https {
		err := server.Shutdown(n.draining)
		if errors.Is(err, context.DeadlineExceeded) {
			n.cfg.Logger.WarnContext(ctx, "calls were cut: they did not end in time (--drain)")
			err = server.Close()
		}
		all = errors.Join(all, err)
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
		Handler:   h,
		Protocols: &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreamsPerConnection,
			// A connection whose peer has vanished, or reads nothing.
			SendPingTimeout:  30 * time.Second,
			WriteByteTimeout: n.cfg.WriteTimeout,
		},
		ReadTimeout:    n.cfg.ReadTimeout,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: n.cfg.MaxHeaderBytes,
		ErrorLog:       httpLog(n.cfg.Logger),
		ConnContext:    connContext,
	}
}

// isClosed reports whether a listener fails because it was closed.
func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

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
	if isSpare(r.Context()) {
		w.Header().Set("Connection", "close")
		unavailable(w, "too many connections are open")
		return
	}
	if inner := f.inner.Load(); inner != nil {
		(*inner).ServeHTTP(w, r)
		return
	}
	unavailable(w, "the server is starting")
}

// wrap is the middleware of everything that front serves, outermost first: the
// request's id, headers for safety, CORS (which answers preflights, so before
// anything that may refuse), who calls, unknown procedures.
func (n *node) wrap(procedures []string, mux http.Handler) http.Handler {
	h := intercept.Procedures(procedures, mux)
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
	// Without arguments, which may hold a password.
	mux.HandleFunc("GET /debug/pprof/cmdline", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, os.Args[0])
	})
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join([]string{"/metrics", "/healthz", "/readyz", "/debug/pprof/"}, "\n"))
	})
	return mux
}
