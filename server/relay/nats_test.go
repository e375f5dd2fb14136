package relay_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// natsServer is a server of NATS in this process, which can be stopped, and started
// again at the same address.
type natsServer struct {
	port   int
	server *natsserver.Server
	adjust func(*natsserver.Options)
}

func startNATS(t *testing.T, adjust ...func(*natsserver.Options)) *natsServer {
	t.Helper()
	n := &natsServer{port: natsserver.RANDOM_PORT, adjust: func(o *natsserver.Options) {
		for _, a := range adjust {
			a(o)
		}
	}}
	n.start(t)
	t.Cleanup(n.stop)
	return n
}

func (n *natsServer) start(t *testing.T) {
	t.Helper()
	options := &natsserver.Options{Host: "127.0.0.1", Port: n.port, NoSigs: true, NoLog: true, MaxPayload: 64 << 10}
	n.adjust(options)
	server, err := natsserver.NewServer(options)
	require.NoError(t, err)
	server.Start()
	require.True(t, server.ReadyForConnections(10*time.Second))
	n.server, n.port = server, server.Addr().(*net.TCPAddr).Port
}

func (n *natsServer) stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

func (n *natsServer) addr() string { return fmt.Sprintf("127.0.0.1:%d", n.port) }

// badNATS stands between a node and a server of NATS, and understands what the server
// sends: messages it loses, doubles, and hands on late and in another order, while it is
// bad. Everything else passes.
type badNATS struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	bad    bool
	away   bool // nobody gets a connection
	deaf   bool // to the node, which is sent no message
	closed bool
	going  chan struct{} // closed unless the way to the server is stalled
	conns  map[net.Conn]struct{}

	lost, doubled, late int
}

func newBadNATS(t *testing.T, target string) *badNATS {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &badNATS{listener: listener, target: target, conns: map[net.Conn]struct{}{}, going: make(chan struct{})}
	close(p.going)
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *badNATS) addr() string { return p.listener.Addr().String() }

func (p *badNATS) be(bad bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bad = bad
}

func (p *badNATS) beAway(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
}

func (p *badNATS) beDeaf(deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = deaf
}

// stall has nothing pass from the node to the server, or go on.
func (p *badNATS) stall(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if yes {
		p.going = make(chan struct{})
	} else {
		close(p.going)
	}
}

// stalledReader reads what a node sends.
type stalledReader struct {
	p *badNATS
	net.Conn
}

func (r stalledReader) Read(b []byte) (int, error) {
	r.p.mu.Lock()
	going := r.p.going
	r.p.mu.Unlock()
	<-going
	return r.Conn.Read(b)
}

// has reports whether it has done everything bad, several times.
func (p *badNATS) has() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(p.lost, p.doubled, p.late) > 5
}

func (p *badNATS) close() {
	p.mu.Lock()
	p.closed = true
	select {
	case <-p.going:
	default:
		close(p.going)
	}
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	_ = p.listener.Close()
	p.running.Wait()
}

func (p *badNATS) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.away {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = struct{}{}
	return true
}

func (p *badNATS) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		_ = client.(*net.TCPConn).SetReadBuffer(64 << 10) // so that it fills up when nobody reads
		server, err := net.Dial("tcp", p.target)
		if err != nil || !p.keep(client) || !p.keep(server) {
			_ = client.Close()
			continue
		}
		p.running.Go(func() {
			_, _ = io.Copy(struct{ io.Writer }{server}, stalledReader{p, client})
			_ = server.Close()
		})
		p.running.Go(func() {
			_ = p.pass(client, server)
			_ = client.Close()
			_ = server.Close()
		})
	}
}

// pass reads the server's protocol: lines, and after MSG and HMSG a payload of the length
// that the line ends with.
func (p *badNATS) pass(client io.Writer, server io.Reader) error {
	lines := bufio.NewReader(server)
	var late [][]byte // handed on behind later ones
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		fields := bytes.Fields(line)
		if len(fields) < 4 || !bytes.Equal(fields[0], []byte("MSG")) && !bytes.Equal(fields[0], []byte("HMSG")) {
			if _, err := client.Write(line); err != nil {
				return err
			}
			continue
		}
		size, err := strconv.Atoi(string(fields[len(fields)-1]))
		if err != nil {
			return errors.New("not understood")
		}
		message := append(line, make([]byte, size+2)...)
		if _, err := io.ReadFull(lines, message[len(line):]); err != nil {
			return err
		}
		times, behind := p.fate()
		if behind {
			late = append(late, message)
		} else {
			for range times {
				if _, err := client.Write(message); err != nil {
					return err
				}
			}
		}
		for len(late) > 0 && (len(late) > 8 || !behind && rand.IntN(3) == 0) {
			i := rand.IntN(len(late))
			if _, err := client.Write(late[i]); err != nil {
				return err
			}
			late = append(late[:i:i], late[i+1:]...)
		}
	}
}

// fate decides what becomes of a message.
func (p *badNATS) fate() (times int, late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.deaf:
		return 0, false
	case !p.bad:
		return 1, false
	}
	switch rand.IntN(6) {
	case 0:
		p.lost++
		return 0, false
	case 1:
		p.doubled++
		return 2, false
	case 2:
		p.late++
		return 1, true
	}
	return 1, false
}
