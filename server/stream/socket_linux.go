package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"syscall"
	"time"

	"github.com/freshet-dev/freshet"
)

const (
	// sendBuffer is SO_SNDBUF of a connection that was taken over (the kernel
	// doubles it): what one dead client can pin, instead of megabytes.
	sendBuffer = 32 << 10
	// tcpUserTimeout is TCP_USER_TIMEOUT, tcp(7), which package syscall lacks.
	tcpUserTimeout = 0x12
)

// canTakeOver returns net/http's own writer of a response on TCP with HTTP/1.1,
// which gives its connection away; nil: there is none. Other streams stay with
// their handler: HTTP/2 shares its connection, TLS that isn't built on a Divertible
// sends by itself, HTTP/1.0 has no chunks.
func canTakeOver(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if _, tcp := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); !tcp || r.ProtoMajor != 1 || r.ProtoMinor < 1 {
		return nil
	}
	if r.TLS != nil && r.Context().Value(belowKey{}) == nil {
		return nil
	}
	return ownWriter(w)
}

// ownWriter returns net/http's own writer if w is it, or is nothing but
// PassThroughs around it; else nil. net/http doesn't export its type, but no other
// package can have a type of that path.
func ownWriter(w http.ResponseWriter) http.ResponseWriter {
	w = innermost(w)
	if _, ok := w.(http.Hijacker); !ok {
		return nil
	}
	if t := reflect.TypeOf(w); t.Kind() != reflect.Pointer || t.Elem().PkgPath() != "net/http" {
		return nil
	}
	return w
}

// takeOver takes the connection of a session that has begun away from net/http,
// whose own writer w is. Every frame so far was flushed, so the next byte begins
// a chunk. It reports whether the session is now in other hands; if not, nothing
// has happened.
func (s *Server) takeOver(w http.ResponseWriter, session *session) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.config.Logger.Error("take a connection over", "error", err)
		return false
	}
	session.wire.Store(nil) // its response isn't used any more, nor kept in memory
	k := &socket{server: s, conn: conn, wire: conn}
	if below := divertible(conn); below != nil {
		k.sealer = &sealer{conn: conn.(*tls.Conn)}
		k.conn, k.wire = below, below.Divert(k.sealer)
	}
	err = k.prepare()
	o := s.newOutlet(session, k)
	if err = errors.Join(err, s.peers.watch(o, k.raw)); err != nil {
		s.config.Logger.Debug("prepare a connection that was taken over", "error", err)
		o.hungUp.Store(true)
	}
	session.sub.Notify(o.wake)
	o.wake() // what has come since begin
	return true
}

// tcpConn is *net.TCPConn, or what a listener has put around one.
type tcpConn interface {
	syscall.Conn
	SetWriteBuffer(bytes int) error
}

// prepare bounds what the connection may cost.
func (k *socket) prepare() error {
	tcp, ok := k.conn.(tcpConn)
	if !ok {
		return nil // a listener's own: a goroutine sends each frame
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	if err := tcp.SetWriteBuffer(sendBuffer); err != nil {
		return err
	}
	// Without it a peer that vanished is noticed when TCP gives up: after a
	// quarter of an hour. Ours is the patience that clients have with us.
	patience := k.server.config.Heartbeat * 5 / 2
	var option error
	err = raw.Control(func(fd uintptr) {
		option = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(patience.Milliseconds())))
	})
	k.raw = raw
	return errors.Join(err, option)
}

// socket is the link over TCP. A pump writes to it by write(2), which takes what fits
// into the kernel's buffer and never waits, since the pump has other streams to write
// to. What doesn't fit is kept in rest, and a goroutine drains it by ordinary writes
// with a deadline; meanwhile the pump leaves the stream alone. Who waits for the peer
// to hang up is peers.
type socket struct {
	server *Server
	conn   net.Conn
	wire   io.Writer       // of conn
	sealer *sealer         // nil: without TLS
	raw    syscall.RawConn // nil: there is no way to write without waiting
	try    *attempt        // of the pump, for one step
	rest   []byte
}

func (k *socket) encoder(p *pump) encoder {
	k.try = &p.try
	p.frames.out = k
	return &p.frames
}

func (k *socket) write(frame []byte) (err error) {
	if k.sealer != nil {
		if frame, err = k.sealer.seal(frame, k.try.sealed); err != nil {
			return err
		}
		k.try.sealed = frame
	}
	return k.send(frame)
}

func (k *socket) send(frame []byte) error {
	sent := 0
	if len(k.rest) == 0 && k.raw != nil {
		var err error
		if sent, err = k.try.write(k.raw, frame); err != nil {
			return err
		}
	}
	if sent < len(frame) {
		k.rest = append(k.rest, frame[sent:]...)
	}
	return nil
}

func (k *socket) pending() bool { return len(k.rest) > 0 }

// drain gives each part of a frame's size the time that a frame has.
func (k *socket) drain() error {
	for len(k.rest) > 0 {
		part := k.rest[:min(len(k.rest), maxFrame)]
		if err := k.conn.SetWriteDeadline(time.Now().Add(k.server.config.WriteTimeout)); err != nil {
			return err
		}
		if _, err := k.wire.Write(part); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				k.server.metrics.writeTimeouts.Inc()
			}
			return err
		}
		k.rest = k.rest[len(part):]
	}
	k.rest = nil
	return k.conn.SetWriteDeadline(time.Time{})
}

func (k *socket) finish() error {
	if err := k.write([]byte(lastChunk)); err != nil || k.sealer == nil {
		return err
	}
	goodbye, err := k.sealer.end()
	if err != nil {
		return err
	}
	return k.send(goodbye)
}

func (k *socket) close() { _ = k.conn.Close() }

// over has no context: the request's would keep all of it in memory.
func (k *socket) over(reason error, last freshet.Revision) {
	k.server.logEnd(context.Background(), "sse", reason, last)
}

// attempt is a write(2) that doesn't wait. It is reused, so that no write makes
// a closure.
type attempt struct {
	frame  []byte
	sealed []byte // scratch of sealers
	do     func(fd uintptr) bool
	n      int
	err    error
}

// write returns how much the kernel took.
func (a *attempt) write(raw syscall.RawConn, frame []byte) (int, error) {
	if a.do == nil {
		a.do = a.once
	}
	a.frame = frame
	err := raw.Write(a.do)
	a.frame = nil
	if err == nil {
		err = a.err
	}
	if errors.Is(err, syscall.EAGAIN) {
		return 0, nil
	}
	return max(a.n, 0), err
}

func (a *attempt) once(fd uintptr) (done bool) {
	for {
		a.n, a.err = syscall.Write(int(fd), a.frame)
		if a.err != syscall.EINTR { //nolint:errorlint // an errno as it is
			return true // also when it would have to wait
		}
	}
}
