package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	"github.com/freshet-dev/freshet/server/stream"
)

// maxStreamsPerConnection bounds HTTP/2 streams: one browser's tabs, or one
// back end's watches, on one connection.
const maxStreamsPerConnection = 1000

// listen opens the ports.
func (f *Front) listen(ctx context.Context, h, adminHandler http.Handler) error {
	metrics := newPortMetrics(f.registry)
	main := &port{name: "http", addr: f.cfg.Addr, metrics: metrics("main"), limit: f.maxConnections(ctx), callers: f.callers, certificate: f.certificate}
	main.perAddress = max(f.cfg.MaxConnectionsPerAddress, 0)
	at, err := f.start(ctx, main, h)
	if err != nil {
		return fmt.Errorf("%w (--addr chooses another address)", err)
	}
	scheme := "http://"
	if main.certificate != nil {
		scheme = "https://"
	}
	f.url.Store(scheme + at)
	if f.cfg.AdminAddr == "" {
		return nil
	}
	scheme = "http://"
	admin := &port{name: "admin http", addr: f.cfg.AdminAddr, metrics: metrics("admin"), limit: adminConnections, callers: f.callers}
	if f.cfg.guardsAdmin() {
		// Tokens come this way; and nobody may have all connections who has none.
		admin.certificate, admin.perAddress = f.certificate, adminConnections/2
	}
	if admin.certificate != nil {
		scheme = "https://"
	}
	at, err = f.start(ctx, admin, adminHandler)
	for spare := 1; spare <= f.cfg.AdminSpares && errors.Is(err, syscall.EADDRINUSE); spare++ {
		if admin.addr, err = portAfter(admin.addr); err == nil {
			at, err = f.start(ctx, admin, adminHandler)
		}
	}
	if err != nil {
		return fmt.Errorf("%w (--admin-addr chooses another address, an empty one none)", err)
	}
	f.cfg.Logger.InfoContext(ctx, "metrics and pprof are served", "url", scheme+at)
	return nil
}

// portAfter is the address with the next port.
func portAfter(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.FormatUint(n+1, 10)), nil
}

// maxConnections is how many connections the main port may have: what is
// configured, or less where the limit of open files leaves less.
func (f *Front) maxConnections(ctx context.Context) int {
	// The database, the admin port, and what a Go program has open anyway.
	reserved := f.cfg.Reserved + runtime.NumCPU() + adminConnections + 2*spareConnections + 32
	files := openFiles()
	room := max(files-reserved, files/4)
	if room < min(f.cfg.MaxConnections, f.cfg.MaxStreams) {
		f.cfg.Logger.WarnContext(ctx, "the limit of open files (ulimit -n) leaves room for fewer connections than --max-streams",
			"open_files", files, "connections", room, "max_streams", f.cfg.MaxStreams)
	}
	return min(f.cfg.MaxConnections, room)
}

// port is what is served on one address.
type port struct {
	name, addr string
	limit      int // of connections
	perAddress int // 0: no bound
	callers    callers
	metrics    *portMetrics

	certificate *certificate // nil: without TLS
}

// start serves h on p until the group stops; running requests have been
// drained by then.
func (f *Front) start(ctx context.Context, p *port, h http.Handler) (at string, _ error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", p.addr)
	if err != nil {
		return "", err
	}
	at = listener.Addr().String()
	listener = newDoor(listener, p.limit, p.perAddress, p.callers, f.cfg.Logger, p.metrics)
	patience := &patience{
		read: f.cfg.ReadTimeout, write: f.cfg.WriteTimeout, bytes: int64(f.cfg.MaxRequestBytes) + bodyOverhead, metrics: p.metrics,
		streams: map[string]bool{eventsPath: true, freshetv1connect.InvalidationServiceWatchProcedure: true},
		endless: map[string]bool{reflectV1: true, reflectV1Alpha: true},
	}
	server := f.httpServer(p, f.partings(patience.bound(newHosts(p.addr, f.cfg.Hosts).check(h))))
	f.https = append(f.https, server)
	f.parts.Go(p.name, func(ctx context.Context) error {
		ended := make(chan error, 1)
		go func() { ended <- p.serve(server, listener) }()
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

// serve serves on listener, by TLS if there is a certificate.
func (p *port) serve(server *http.Server, listener net.Listener) error {
	if p.certificate != nil {
		return server.ServeTLS(listener, "", "")
	}
	return server.Serve(listener)
}

// httpServer returns a server with our limits, for HTTP/1.1 and for HTTP/2 on one
// port: as TLS negotiates it, or without TLS by "prior knowledge" (RFC 9113 section
// 3.3).
func (f *Front) httpServer(p *port, h http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	var secret *tls.Config
	if p.certificate != nil {
		protocols.SetHTTP2(true)
		secret = p.certificate.config()
		h = onlyTLS(h)
	} else {
		protocols.SetUnencryptedHTTP2(true)
	}
	return &http.Server{
		TLSConfig: secret,
		Handler:   stream.Shallow(eventsPath, h),
		Protocols: &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreamsPerConnection,
			// A connection whose peer has vanished, or reads nothing.
			SendPingTimeout:  30 * time.Second,
			WriteByteTimeout: f.cfg.WriteTimeout,
		},
		ReadTimeout:    f.cfg.ReadTimeout,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: f.cfg.MaxHeaderBytes,
		ErrorLog:       httpLog(f.cfg.Logger),
		ConnContext:    connContext,
	}
}

// partings has connections close with their next answer once the front has retired
// (RFC 9112 section 9.6; net/http makes a GOAWAY of it in HTTP/2, RFC 9113 section
// 6.8, and lets open streams go on).
func (f *Front) partings(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.retired.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// isClosed reports whether a listener fails because it was closed.
func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

// httpLog is net/http's complaints about peers, which are their problem.
func httpLog(logger *slog.Logger) *log.Logger {
	return slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
}
