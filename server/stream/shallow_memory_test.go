//go:build !race

package stream

// The race detector has stacks of its own sizes.

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// deep is middleware with n frames of some size.
func deep(n int, next http.Handler) http.Handler {
	for range n {
		within := next
		next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var frame [256]byte
			defer runtime.KeepAlive(&frame)
			within.ServeHTTP(w, r)
		})
	}
	return next
}

// many opens n streams on one connection of HTTP/2, with no goroutine or buffer of a
// client's beside them, and returns when each has been told `ready`.
func many(t testing.TB, addr string, n int) {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	require.NoError(t, err)
	framer := http2.NewFramer(conn, conn)
	require.NoError(t, framer.WriteSettings())
	var block bytes.Buffer
	to := hpack.NewEncoder(&block)
	for i := range n {
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/events?topic=a"}, {"user-agent", "Mozilla/5.0"}, {"accept", "text/event-stream"}} {
			require.NoError(t, to.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
		}
		require.NoError(t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
	}
	for ready := 0; ready < n; {
		f, err := framer.ReadFrame()
		require.NoError(t, err)
		switch f := f.(type) {
		case *http2.DataFrame:
			ready += bytes.Count(f.Data(), []byte("event: ready"))
		case *http2.SettingsFrame:
			if !f.IsAck() {
				require.NoError(t, framer.WriteSettingsAck())
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			require.Fail(t, "refused", "%v", f)
		}
	}
}

// memoryOver is what streams cost the server over HTTP/2 with TLS, in bytes each.
func memoryOver(t *testing.T, wrap func(http.Handler) http.Handler, conns, each int) (inHeap, inStacks int) {
	f := newFixture(t, Config{Heartbeat: time.Hour, MaxConnections: conns*each + 10})
	srv := httptest.NewUnstartedServer(wrap(deep(12, f.server)))
	srv.EnableHTTP2 = true
	srv.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1000}
	srv.StartTLS()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, f.server.Shutdown(ctx, 0))
		srv.CloseClientConnections()
		srv.Close()
	})
	inUse := func() (int, int) {
		for range 5 {
			runtime.GC() // each halves a stack once
		}
		heap := heap()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return heap, int(m.StackInuse)
	}
	heapBefore, stacksBefore := inUse()
	for range conns {
		many(t, srv.Listener.Addr().String(), each)
	}
	heapAfter, stacksAfter := inUse()
	n := conns * each
	return (heapAfter - heapBefore) / n, (stacksAfter - stacksBefore) / n
}

// A stack has shrunk to 4 KiB, where it would be 16 with this middleware, and 8 with a
// select in the place of the one receive.
func TestShallow_memory(t *testing.T) {
	heap, stacks := memoryOver(t, Shallow, 5, 100)
	t.Logf("a stream over HTTP/2 with TLS, 100 on a connection: %d bytes of heap, %d of stacks", heap, stacks)
	require.Less(t, stacks, 6<<10)
}
