package stream

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// secret opens a stream over TLS on a connection of its own, and reads up to ready.
func (s *site) secret(t testing.TB, query string, version uint16) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = fmt.Fprintf(conn, "GET /events%s HTTP/1.1\r\nHost: x\r\n\r\n", query)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	in := bufio.NewReader(res.Body)
	readUntil(t, in, "event: ready")
	return conn, in
}

// A stream over TLS has no goroutine either, says goodbye as TLS does, and notices
// who hangs up.
func TestTakeOver_tls(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := newSite(t, h1tls, Config{Heartbeat: time.Hour})
			limit := runtime.NumGoroutine() + 10 // of the server itself
			var all []*bufio.Reader
			for range 50 {
				_, in := s.secret(t, topicsQuery("a"), version)
				all = append(all, in)
			}
			eventually(t, "they are taken over", func() bool { return s.anyOutlet() != nil })
			eventually(t, "handlers have returned", func() bool { return runtime.NumGoroutine() < limit })
			for p := uint64(110); p < 120; p++ {
				s.publish(p, "a")
				for _, in := range all {
					readUntil(t, in, "id: "+at(p).String())
				}
			}
			for _, leave := range []func(*tls.Conn) error{(*tls.Conn).Close, func(c *tls.Conn) error { return c.NetConn().(*net.TCPConn).CloseWrite() }} {
				conn, _ := s.secret(t, topicsQuery("b"), version)
				require.Equal(t, 51, s.streams())
				require.NoError(t, leave(conn))
				eventually(t, "one is gone", func() bool { return s.streams() == 50 })
			}
			require.NoError(t, s.server.Shutdown(t.Context(), 0))
			for _, in := range all {
				rest, err := io.ReadAll(in)
				require.NoError(t, err, "the end of TLS, and of the chunks")
				require.Contains(t, string(rest), "retry: ")
			}
		})
	}
}

// F11 over TLS: what doesn't fit into the socket is sent in order, once its reader
// reads.
func TestTakeOver_tlsSlowReader(t *testing.T) {
	s := newSite(t, h1tls, Config{WriteTimeout: time.Hour})
	topics := bigTopics()
	_, in := s.secret(t, topicsQuery(topics...), tls.VersionTLS13) // with a small buffer it would take long to read
	var o *outlet
	eventually(t, "it is taken over", func() bool {
		o = s.anyOutlet()
		return o != nil
	})
	p := uint64(110)
	eventually(t, "it is slow", func() bool {
		p++
		s.publish(p, topics...)
		return o.slow.Load()
	})
	s.publish(p+1, topics...)
	readUntil(t, in, "id: "+at(p+1).String())
	s.publish(p+2, topics...)
	readUntil(t, in, "id: "+at(p+2).String())
}
