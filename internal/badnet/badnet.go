// Package badnet is a proxy that does to connections what bad networks do: cuts,
// refusals, silence, delay. The checker's faults and the tests put it between
// clients, servers and databases.
//
// Everything is safe for concurrent use. It promises nothing about speed.
package badnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Proxy stands between clients and a server. Make one with New or NewDatabase;
// whoever made it closes it.
type Proxy struct {
	listener net.Listener
	running  sync.WaitGroup
	life     context.Context // ends with Close
	end      context.CancelFunc

	mu              sync.Mutex // guards what follows
	network, target string     // where to dial
	closed          bool
	refuse          bool
	paused          chan struct{} // closed by Resume; nil: not paused
	delay           time.Duration
	changed         chan struct{} // closed and replaced when a connection that waits should look again
	served          int
	conns           map[net.Conn]int      // both ends of each connection, and which one it is
	silent          map[net.Conn]struct{} // of them, those that nothing comes through any more
}

// New forwards from a free port on 127.0.0.1 to target, host:port.
func New(target string) (*Proxy, error) { return forward("tcp", target) }

func forward(network, target string) (*Proxy, error) {
	p := &Proxy{network: network, target: target, changed: make(chan struct{}), conns: map[net.Conn]int{}, silent: map[net.Conn]struct{}{}}
	p.life, p.end = context.WithCancel(context.Background())
	var err error
	if p.listener, err = (&net.ListenConfig{}).Listen(p.life, "tcp", "127.0.0.1:0"); err != nil {
		p.end()
		return nil, fmt.Errorf("badnet: %w", err)
	}
	p.running.Go(p.accept)
	return p, nil
}

// NewDatabase forwards to the server of a PostgreSQL URL, also one with a
// Unix socket, and returns the URL through the proxy.
func NewDatabase(target string) (*Proxy, string, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, "", fmt.Errorf("badnet: %w", err)
	}
	q := u.Query()
	network, address := "tcp", u.Host
	if dir := q.Get("host"); filepath.IsAbs(dir) {
		network, address = "unix", filepath.Join(dir, ".s.PGSQL."+q.Get("port"))
	}
	p, err := forward(network, address)
	if err != nil {
		return nil, "", err
	}
	q.Del("host")
	q.Del("port")
	u.Host, u.RawQuery = p.Addr(), q.Encode()
	return p, u.String(), nil
}

// Addr is the proxy's host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Point makes new connections go to another host:port.
func (p *Proxy) Point(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

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
	clear(p.silent)
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

// Pause lets nothing through in either direction, while connections stay open
// and new ones are accepted, until Resume: a network that drops packets.
func (p *Proxy) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused == nil {
		p.paused = make(chan struct{})
	}
}

// Silence lets nothing through the present connections any more, for good and
// without a word, while new ones work: an address that moved, a firewall that
// has forgotten them. Only Cut and its like end them.
func (p *Proxy) Silence() { p.silenceSome(func(_, _ int) bool { return true }) }

// SilenceOldest is Silence for the n connections that were opened first.
func (p *Proxy) SilenceOldest(n int) { p.silenceSome(func(i, _ int) bool { return i < n }) }

// SilenceNewest is Silence for the n connections that were opened last.
func (p *Proxy) SilenceNewest(n int) { p.silenceSome(func(i, of int) bool { return i >= of-n }) }

// silenceSome asks of each connection, in the order in which they were opened.
func (p *Proxy) silenceSome(which func(i, of int) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := slices.Compact(slices.Sorted(maps.Values(p.conns)))
	for conn, id := range p.conns {
		if which(slices.Index(ids, id), len(ids)) {
			p.silent[conn] = struct{}{}
		}
	}
}

// Resume ends Pause, Refuse and Delay; what was held goes through.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resume()
}

func (p *Proxy) resume() {
	p.refuse, p.delay = false, 0
	if p.paused != nil {
		close(p.paused)
		p.paused = nil
	}
}

// Delay holds each chunk of data back this long, in both directions.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Close ends all connections and waits for what served them.
func (p *Proxy) Close() {
	p.end()
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
		switch {
		case err == nil:
			p.running.Go(func() { p.serve(client) })
		case errors.Is(err, net.ErrClosed):
			return
		default:
			select { // out of files, say
			case <-time.After(10 * time.Millisecond):
			case <-p.life.Done():
			}
		}
	}
}

// add takes one end of the connection with this number in, unless it is refused.
func (p *Proxy) add(conn net.Conn, id int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refuse {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = id
	return true
}

func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	p.served++
	id, network, target := p.served, p.network, p.target
	p.mu.Unlock()
	if !p.add(client, id) {
		return
	}
	defer p.forget(client)
	server, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(p.life, network, target)
	if err != nil || !p.add(server, id) {
		return
	}
	defer p.forget(server)
	var both sync.WaitGroup
	both.Go(func() { p.copy(client, server) })
	both.Go(func() { p.copy(server, client) })
	both.Wait()
}

func (p *Proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	_ = conn.Close()
}

// copy passes on from one end to the other, and passes a half-close on. The
// buffer is small: there are thousands.
func (p *Proxy) copy(from, to net.Conn) {
	buf := make([]byte, 4<<10)
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

// hold waits as Delay, Pause and Silence say; false: the connection was cut meanwhile.
func (p *Proxy) hold(conn net.Conn) bool {
	p.mu.Lock()
	paused, delay, changed := p.paused, p.delay, p.changed
	_, silent := p.silent[conn]
	p.mu.Unlock()
	if silent {
		<-changed
		return false
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-changed:
			timer.Stop()
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
