package testkit

import (
	"errors"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Proxy stands between a client and a server and does to their connections what networks do. Safe
// for concurrent use; it closes with the test.
type Proxy struct {
	network, target string // where to dial
	url             string // of the proxy; "" when the target isn't a URL
	listener        net.Listener
	running         sync.WaitGroup

	mu      sync.Mutex // guards what follows
	closed  bool
	refuse  bool
	paused  chan struct{} // closed by Resume; nil: not paused
	delay   time.Duration
	changed chan struct{}         // closed and replaced when a connection that waits should look again
	conns   map[net.Conn]struct{} // both ends of each connection
}

// NewProxy forwards from a free port on 127.0.0.1 to target: a PostgreSQL URL (also one with a Unix
// socket, such as Database returns), or host:port.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{network: "tcp", target: target, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	var err error
	p.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	if strings.Contains(target, "://") {
		u, err := url.Parse(target)
		require.NoError(t, err)
		p.target = u.Host
		q := u.Query()
		if dir := q.Get("host"); strings.HasPrefix(dir, "/") {
			p.network, p.target = "unix", filepath.Join(dir, ".s.PGSQL."+q.Get("port"))
		}
		q.Del("host")
		q.Del("port")
		u.Host, u.RawQuery = p.Addr(), q.Encode()
		p.url = u.String()
	}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// URL is the target's URL through the proxy.
func (p *Proxy) URL() string { return p.url }

// Addr is the proxy's host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut breaks all connections, as an RST does. New ones are welcome.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *Proxy) cut() {
	for conn := range p.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	clear(p.conns)
	close(p.changed)
	p.changed = make(chan struct{})
}

// Refuse is Cut, and new connections end at once, until Resume.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = true
	p.cut()
}

// Pause lets nothing through in either direction, while connections stay open and new ones are
// accepted, until Resume: a network that drops packets.
func (p *Proxy) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused == nil {
		p.paused = make(chan struct{})
	}
}

// Resume ends Pause and Refuse; what was held goes through.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resume()
}

func (p *Proxy) resume() {
	p.refuse = false
	if p.paused != nil {
		close(p.paused)
		p.paused = nil
	}
}

// Delay holds each chunk of data back this long, in both directions; 0 ends it.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	_ = p.listener.Close()
	p.cut()
	p.resume()
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.serve(client) })
	}
}

// add takes a connection in, unless it is refused.
func (p *Proxy) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refuse {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = struct{}{}
	return true
}

func (p *Proxy) serve(client net.Conn) {
	if !p.add(client) {
		return
	}
	defer p.forget(client)
	server, err := net.Dial(p.network, p.target)
	if err != nil || !p.add(server) {
		return
	}
	defer p.forget(server)
	var both sync.WaitGroup
	both.Go(func() { p.forward(client, server) })
	both.Go(func() { p.forward(server, client) })
	both.Wait()
}

func (p *Proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	_ = conn.Close()
}

// forward copies from one end to the other, and passes a half-close on.
func (p *Proxy) forward(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !p.hold(from) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			p.hold(from)
			half, ok := to.(interface{ CloseWrite() error })
			if ok && errors.Is(err, io.EOF) {
				_ = half.CloseWrite()
			} else {
				_ = to.Close()
			}
			return
		}
	}
}

// hold waits as Delay and Pause say; false: the connection was cut meanwhile.
func (p *Proxy) hold(conn net.Conn) bool {
	p.mu.Lock()
	paused, delay, changed := p.paused, p.delay, p.changed
	p.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-changed:
			return false
		}
	}
	if paused != nil {
		select {
		case <-paused:
		case <-changed:
			return false
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.conns[conn]
	return ok
}
