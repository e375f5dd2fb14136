//go:build !race

package stream

// The race detector has stacks of its own sizes.

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
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

// many opens n streams on one connection of HTTP/2, each of a topic of its own, with no
// goroutine or buffer of a client's beside them. The function that it returns waits for
// so many events of a kind, of all streams.
func many(t testing.TB, addr string, n int) (await func(event string, n int)) {
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
		for _, f := range [][2]string{
			{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", fmt.Sprintf("/events?topic=a%d", i)},
			{"user-agent", "Mozilla/5.0"}, {"accept", "text/event-stream"},
		} {
			require.NoError(t, to.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
		}
		require.NoError(t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
	}
	await = func(event string, n int) {
		t.Helper()
		for seen := 0; seen < n; {
			f, err := framer.ReadFrame()
			require.NoError(t, err)
			switch f := f.(type) {
			case *http2.DataFrame:
				seen += bytes.Count(f.Data(), []byte("event: "+event))
			case *http2.SettingsFrame:
				if !f.IsAck() {
					require.NoError(t, framer.WriteSettingsAck())
				}
			case *http2.RSTStreamFrame, *http2.GoAwayFrame:
				require.Fail(t, "refused", "%v", f)
			}
		}
	}
	await("ready", n)
	return await
}

// A stack has shrunk to 4 KiB, where it would be 16 with this middleware, and 8 with a
// select in the place of the one receive; and what is told doesn't make it grow again.
func TestShallow_memory(t *testing.T) {
	const conns, each = 5, 100
	f := newFixture(t, Config{Heartbeat: time.Hour, MaxConnections: conns*each + 10})
	srv := httptest.NewUnstartedServer(Shallow("/events", deep(12, f.server)))
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
	stacks := func() int {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.StackInuse)
	}
	collected := func() int {
		for range 5 {
			runtime.GC() // each halves a stack once
		}
		return stacks()
	}
	before := collected()
	var awaits []func(string, int)
	for range conns {
		awaits = append(awaits, many(t, srv.Listener.Addr().String(), each))
	}
	var idle int
	require.Eventually(t, func() bool { // not all handlers have returned when their ready arrives
		idle = (collected() - before) / (conns * each)
		return idle < 6<<10
	}, 30*time.Second, time.Millisecond, "%d bytes of stack a stream", idle)

	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for i := range each { // not all at once, as heartbeats aren't
		f.publish(uint64(110+i), fmt.Sprintf("a%d", i))
		for _, await := range awaits {
			await("invalidate", 1)
		}
	}
	told := (stacks() - before) / (conns * each)
	t.Logf("a stream over HTTP/2 with TLS, 100 on a connection: %d bytes of stack, after a frame %d", idle, told)
	require.Less(t, told, 6<<10)
}
