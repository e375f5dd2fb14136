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
	limit      int
	perAddress int // 0: no bound
	callers    callers
	logger     *slog.Logger
	metrics    *portMetrics
	failing    seldom // accept fails
	crowded    seldom // somebody is turned away

	mu        sync.Mutex // guards what follows
	open      int
	spares    int                // open connections beyond the limits
	addresses map[netip.Addr]int // open connections of each
}

// Accept returns the next connection that may be served. Errors are net/http's
// to wait out, but it says nothing that an operator would see.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			if !isClosed(err) {
				d.metrics.acceptErrors.Inc()
				d.failing.log(d.logger, slog.LevelError, "connections can't be accepted: is the limit of open files too low?", "error", err)
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
	from := d.callers.connection(tcp.RemoteAddr())
	d.mu.Lock()
	refusal := ""
	switch {
	case d.open >= d.limit:
		refusal = "limit"
	case d.perAddress > 0 && d.addresses[from] >= d.perAddress:
		refusal = "address"
	}
	open, full := d.open, false
	switch {
	case refusal == "":
		d.open++
		if from.IsValid() {
			d.addresses[from]++
		}
	case d.spares < spareConnections:
		d.spares++
	default:
		full = true
	}
	d.mu.Unlock()
	if refusal != "" {
		d.metrics.refused.WithLabelValues(refusal).Inc()
		d.crowded.log(d.logger, slog.LevelWarn, "connections are turned away: too many are open", "cause", refusal, "open", open, "limit", d.limit)
	}
	if full {
		return nil
	}
	d.metrics.connections.Inc()
	admitted := &conn{TCPConn: tcp, door: d, from: from}
	if refusal != "" {
		admitted.spare = true
		time.AfterFunc(spareLife, func() { _ = admitted.Close() })
	}
	return admitted
}

func (d *door) leave(c *conn) {
	d.metrics.connections.Dec()
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.spare {
		d.spares--
		return
	}
	d.open--
	if !c.from.IsValid() {
		return
	}
	if d.addresses[c.from]--; d.addresses[c.from] == 0 {
		delete(d.addresses, c.from)
	}
}

// conn is a connection that its door counts.
type conn struct {
	*net.TCPConn
	door  *door
	from  netip.Addr
	spare bool // beyond the limit: good for a health check
	once  sync.Once
	to    io.Writer // nil: to the peer
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
	c.once.Do(func() { c.door.leave(c) })
	return err
}

type spareKey struct{}

// connContext marks the requests of a connection beyond the limit, and those of one
// whose stream can be taken over.
func connContext(ctx context.Context, c net.Conn) context.Context {
	ctx = stream.ConnContext(ctx, c)
	if secret, ok := c.(*tls.Conn); ok {
		c = secret.NetConn()
	}
	if c, ok := c.(*conn); ok && c.spare {
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

// seldomInterval is how often something that may happen thousands of times a
// second is logged.
const seldomInterval = 10 * time.Second

// seldom logs the first of many, and how many there were since.
type seldom struct {
	mu      sync.Mutex // guards what follows
	last    time.Time
	skipped int
}

func (s *seldom) log(logger *slog.Logger, level slog.Level, text string, args ...any) {
	s.mu.Lock()
	if !s.last.IsZero() && time.Since(s.last) < seldomInterval {
		s.skipped++
		s.mu.Unlock()
		return
	}
	skipped := s.skipped
	s.last, s.skipped = time.Now(), 0
	s.mu.Unlock()
	logger.Log(context.Background(), level, text, append(args, "times_before", skipped)...)
}
