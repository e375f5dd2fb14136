package front

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/internal/share"
	"github.com/freshet-dev/freshet/server/stream"
)

// Beyond a port's limit some connections are still taken, for a moment, so that
// health checks are answered and others are told why they aren't.
const (
	spareConnections = 64
	spareLife        = 2 * time.Second
)

// adminConnections bounds the admin port, which has to answer when the main
// port has all the connections that it may have.
const adminConnections = 32

// door is a listener that bounds its connections: in all, and per address. One
// counts until it is closed, whoever has it by then.
type door struct {
	net.Listener
	limit   int
	open    *share.Share[netip.Addr] // connections within the limits
	spares  *share.Share[netip.Addr] // those beyond, of nobody in particular
	callers callers
	logger  *slog.Logger
	metrics *portMetrics
}

func newDoor(l net.Listener, limit, perAddress int, callers callers, logger *slog.Logger, metrics *portMetrics) *door {
	return &door{
		Listener: l, limit: limit, callers: callers, logger: logger, metrics: metrics,
		open: share.New[netip.Addr](limit, perAddress), spares: share.New[netip.Addr](spareConnections, 0),
	}
}

// Accept returns the next connection that may be served. Errors are net/http's
// to wait out, but it says nothing that an operator would see.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			if !isClosed(err) {
				d.metrics.acceptErrors.Inc()
				d.logger.Error("connections can't be accepted: is the limit of open files too low?", "error", err)
			}
			return nil, err
		}
		if admitted := d.admit(c); admitted != nil {
			return admitted, nil
		}
		_ = c.Close() // there is nothing to be lost
	}
}

// admit counts a connection, or returns nil if there are too many.
func (d *door) admit(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c // somebody else's listener, with bounds of its own
	}
	admitted := &conn{TCPConn: tcp, door: d, from: d.callers.connection(tcp.RemoteAddr()), of: d.open}
	if verdict := d.open.Take(admitted.from, 1); verdict != share.Granted {
		cause := "limit"
		if verdict == share.Over {
			cause = "address"
		}
		d.metrics.refused.WithLabelValues(cause).Inc()
		d.logger.Warn("connections are turned away: too many are open", "cause", cause, "open", d.open.InUse(), "limit", d.limit)
		admitted.from, admitted.of = netip.Addr{}, d.spares
		if d.spares.Take(admitted.from, 1) != share.Granted {
			return nil
		}
		time.AfterFunc(spareLife, func() { _ = admitted.Close() })
	}
	d.metrics.connections.Inc()
	return admitted
}

// conn is a connection that its door counts.
type conn struct {
	*net.TCPConn
	door *door
	of   *share.Share[netip.Addr] // the door's open, or spares
	from netip.Addr               // as of counts it
	once sync.Once
	to   io.Writer // nil: to the peer
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if c.to != nil {
		return c.to.Write(p)
	}
	return c.TCPConn.Write(p)
}

// Divert implements stream.Divertible.
func (c *conn) Divert(to io.Writer) (wire io.Writer) {
	c.to = to
	return c.TCPConn
}

// Close may be called more than once, as that of any connection.
func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() {
		c.of.Give(c.from, 1)
		c.door.metrics.connections.Dec()
	})
	return err
}

// isSpare reports whether the connection is beyond the limits: good for a health check.
func (c *conn) isSpare() bool { return c.of == c.door.spares }

type spareKey struct{}

// connContext marks the requests of a connection beyond the limit, and those of one
// whose stream can be taken over.
func connContext(ctx context.Context, c net.Conn) context.Context {
	ctx = stream.ConnContext(ctx, c)
	if secret, ok := c.(*tls.Conn); ok {
		c = secret.NetConn()
	}
	if c, ok := c.(*conn); ok && c.isSpare() {
		return context.WithValue(ctx, spareKey{}, true)
	}
	return ctx
}

// isSpare reports whether a request came on such a connection.
func isSpare(ctx context.Context) bool { return ctx.Value(spareKey{}) != nil }

// portMetrics are those of a port.
type portMetrics struct {
	connections  prometheus.Gauge
	refused      *prometheus.CounterVec // by cause
	acceptErrors prometheus.Counter
	cut          *prometheus.CounterVec // by cause
}

// newPortMetrics registers the metrics of all ports.
func newPortMetrics(r prometheus.Registerer) func(port string) *portMetrics {
	connections := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "freshet_http_connections", Help: "Open connections, streams among them.",
	}, []string{"port"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_http_connections_refused_total", Help: "Connections that were turned away: too many were open, in all (limit) or from one address.",
	}, []string{"port", "cause"})
	acceptErrors := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_http_accept_errors_total", Help: "Connections that the system refused to hand over.",
	}, []string{"port"})
	cut := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_http_cut_total", Help: "Calls that were cut: the request's body did not arrive in time (read), or the answer was not read (write).",
	}, []string{"port", "cause"})
	r.MustRegister(connections, refused, acceptErrors, cut)
	return func(port string) *portMetrics {
		labels := prometheus.Labels{"port": port}
		for _, cause := range []string{"limit", "address"} { // shown from the start
			refused.WithLabelValues(port, cause)
		}
		for _, cause := range []string{"read", "write"} {
			cut.WithLabelValues(port, cause)
		}
		return &portMetrics{
			connections:  connections.With(labels),
			refused:      refused.MustCurryWith(labels),
			acceptErrors: acceptErrors.With(labels),
			cut:          cut.MustCurryWith(labels),
		}
	}
}
