package stream

import (
	"context"
	"crypto/tls"
	"io"
	"net"
)

// Divertible is the connection below one of TLS, if what TLS writes can be had in
// the place of sending it.
type Divertible interface {
	net.Conn
	// Divert has Write write to another writer from now on, and returns the one that
	// it wrote to before. It is called once, while nobody writes.
	Divert(to io.Writer) (wire io.Writer)
}

type belowKey struct{}

// ConnContext is for http.Server: a stream over TLS with HTTP/1.1 can be taken over
// from net/http, as one without TLS is, where TLS is built on a Divertible.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if divertible(c) == nil {
		return ctx
	}
	return context.WithValue(ctx, belowKey{}, true)
}

func divertible(c net.Conn) Divertible {
	secret, ok := c.(*tls.Conn)
	if !ok {
		return nil
	}
	below, _ := secret.NetConn().(Divertible)
	return below
}

// sealer encrypts what a socket sends. Of TLS it uses the writing half alone: what
// comes back is of no interest, as without TLS. It is one pump's at a time.
type sealer struct {
	conn   *tls.Conn
	sealed []byte // what TLS has written since seal or end began
}

// Write is TLS writing.
func (s *sealer) Write(p []byte) (int, error) {
	s.sealed = append(s.sealed, p...)
	return len(p), nil
}

// seal returns frame as it is sent, in the memory of scratch if it has room.
func (s *sealer) seal(frame, scratch []byte) ([]byte, error) {
	s.sealed = scratch[:0]
	_, err := s.conn.Write(frame)
	return s.take(), err
}

// end returns TLS' own goodbye (close_notify), without which a reader has to take
// the stream for one that was cut (RFC 8446 section 6.1).
func (s *sealer) end() ([]byte, error) {
	err := s.conn.CloseWrite()
	return s.take(), err
}

// take returns what was written, and keeps none of it: there are thousands of us.
func (s *sealer) take() []byte {
	sealed := s.sealed
	s.sealed = nil
	return sealed
}
