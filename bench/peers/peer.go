package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-dev/freshet"
)

// topic is what all connections follow.
const topic = "conversations/7/messages"

// epoch of all revisions.
const epoch = 1

// topicOf is one of many topics, where there are many.
func topicOf(number int) string {
	return "conversations/" + strconv.Itoa(number) + "/messages"
}

// notice is what is told: the same for all servers.
type notice struct {
	revision freshet.Revision
	topic    string
	data     []byte // JSON, as in Freshet's frames
}

// newNotice is a notice of now: the position of its revision is the time.
func newNotice(now time.Time, topic string) notice {
	rev := freshet.Revision{Epoch: epoch, Position: uint64(now.UnixNano())} //nolint:gosec // after 1970
	return notice{rev, topic, fmt.Appendf(nil, `{"revision":"%s","topics":["%s"],"spread_ms":0}`, rev, topic)}
}

// frame is the notice as Freshet writes it.
func (n notice) frame() []byte {
	return fmt.Appendf(nil, "id: %s\nevent: invalidate\ndata: %s\n\n", n.revision, n.data)
}

// peer is a server that tells notices over Server-Sent Events on HTTP/1.1.
type peer struct {
	name  string
	about string
	path  string // with the query, of a request for the stream
	start func(options) (server, error)
}

// installed is why the peer can't be measured here; nil: it can.
func (p peer) installed() error {
	if p.name != "nchan" {
		return nil // of Go
	}
	if _, err := os.Stat(nchanModule); err != nil {
		return fmt.Errorf("%w (apt-get install nginx libnginx-mod-nchan)", err)
	}
	return nil
}

// options of a server's process.
type options struct {
	// SendBuffer is SO_SNDBUF of connections in bytes; 0: the system's, which
	// grows by itself. The kernel has a least size.
	SendBuffer int
	// Connections that there will be at most.
	Connections int
}

// server is a peer that runs.
type server interface {
	// address is where it listens.
	address() string
	// pid is the process whose cost, with its children's, is the server's.
	pid() int
	// publish hands over a notice for all connections. It may return before they
	// have it.
	publish(notice) error
	close() error
}

// peers in the order of the table.
func peers() []peer {
	const events = "/events?topic=" + topic
	return []peer{
		{"floor", "bare write(2) loop: one system call per connection, no protocol", "/", startFloor},
		{"freshet", "server/hub and server/stream, throttle=0", events + "&throttle=0", startFreshet},
		{"freshet-default", "the same, default throttle (100 ms)", events, startFreshet},
		{"freshet-handler", "throttle=0, and every stream on its net/http handler, as HTTP/2 and TLS are", events + "&throttle=0", startFreshetHandler},
		{"nethttp", "net/http handler, goroutine and channel per connection, one frame for all", "/", startPlain},
		{"r3labs", "r3labs/sse v2.10.0, one stream, no replay", "/?stream=s", startR3labs},
		{"go-sse", "tmaxmax/go-sse v0.12.0, Joe", "/", startGoSSE},
		{"centrifuge", "centrifugal/centrifuge v0.40.1, SSE", centrifugePath, startCentrifuge},
		{"nchan", "nginx + nchan (Debian), a worker per CPU", "/sub", startNchan},
	}
}

func peerOf(name string) (peer, error) {
	all := peers()
	at := slices.IndexFunc(all, func(p peer) bool { return p.name == name })
	if at < 0 {
		var names []string
		for _, p := range all {
			names = append(names, p.name)
		}
		return peer{}, fmt.Errorf("there is no peer %q, but %s", name, strings.Join(names, ", "))
	}
	return all[at], nil
}

// httpServer is a peer that is an http.Handler.
type httpServer struct {
	inProcess

	http *http.Server
	tell func(notice) error
}

func startHTTP(o options, h http.Handler, tell func(notice) error) (server, error) {
	s := &httpServer{http: &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}, tell: tell}
	listener, err := s.listen(o)
	if err != nil {
		return nil, err
	}
	go func() { _ = s.http.Serve(listener) }() // until close
	return s, nil
}

func (s *httpServer) publish(n notice) error { return s.tell(n) }

func (s *httpServer) close() error { return s.http.Close() }

// bufferedListener sets SO_SNDBUF of what it accepts.
type bufferedListener struct {
	*net.TCPListener

	bytes int
}

func (l bufferedListener) Accept() (net.Conn, error) {
	conn, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	if l.bytes > 0 {
		if err := conn.SetWriteBuffer(l.bytes); err != nil {
			return nil, err
		}
	}
	return conn, nil
}
