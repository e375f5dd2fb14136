package stream

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// eventually waits for what happens on the server's side.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 30*time.Second, time.Millisecond, what)
}

// anyOutlet is one that has been taken over; nil: there is none.
func (s *site) anyOutlet() *outlet {
	s.server.peers.mu.Lock()
	defer s.server.peers.mu.Unlock()
	for _, o := range s.server.peers.watched {
		return o
	}
	return nil
}

func (s *site) streams() int { return s.hub.Stats().Subscriptions }

// raw opens a stream on a connection of its own, and reads up to ready.
func (s *site) raw(t testing.TB, query string) (*net.TCPConn, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
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
	res.Body = io.NopCloser(in)
	return conn.(*net.TCPConn), res
}

// An idle stream has no goroutine, and says that its connection ends with it.
func TestTakeOver_leavesNoGoroutine(t *testing.T) {
	s := newSite(t, h1, Config{})
	const few = 10 // of the server itself
	limit := runtime.NumGoroutine() + few
	for range 50 {
		_, res := s.raw(t, topicsQuery("a"))
		require.True(t, res.Close)
		require.Equal(t, []string{"chunked"}, res.TransferEncoding)
	}
	require.Equal(t, 50, s.streams())
	eventually(t, "handlers have returned", func() bool { return runtime.NumGoroutine() < limit })
	s.publish(110, "a")
	eventually(t, "pumps rest", func() bool {
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		return s.server.running == 1 // who watches the sockets
	})
}

// A client that goes away is noticed at once, not by the next frame: whether it
// closes or only ends its side, and also when it does so before it is watched.
func TestTakeOver_noticesWhoHangsUp(t *testing.T) {
	s := newSite(t, h1, Config{Heartbeat: time.Hour})
	for _, leave := range []func(*net.TCPConn) error{(*net.TCPConn).Close, (*net.TCPConn).CloseWrite} {
		conn, _ := s.raw(t, topicsQuery("a"))
		stays, _ := s.raw(t, topicsQuery("a"))
		require.Equal(t, 2, s.streams())
		require.NoError(t, leave(conn))
		eventually(t, "one is left", func() bool { return s.streams() == 1 })
		require.NoError(t, stays.Close())
		eventually(t, "nobody is left", func() bool { return s.streams() == 0 })
		eventually(t, "the epoll is closed", func() bool {
			s.server.peers.mu.Lock()
			defer s.server.peers.mu.Unlock()
			return s.server.peers.epoll == nil
		})
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	_, err = io.WriteString(conn, "GET /events?topic=a HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	eventually(t, "nobody is left", func() bool { return s.streams() == 0 })
}

// What one connection can pin is bounded, and a peer that vanished is given up.
func TestTakeOver_boundsTheConnection(t *testing.T) {
	s := newSite(t, h1, Config{Heartbeat: 2 * time.Second})
	s.raw(t, topicsQuery("a"))
	var o *outlet
	eventually(t, "it is taken over", func() bool {
		o = s.anyOutlet()
		return o != nil
	})
	raw := o.link.(*socket).raw
	var buffer, patience int
	var err, also error
	require.NoError(t, raw.Control(func(fd uintptr) {
		buffer, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
		patience, also = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
	}))
	require.NoError(t, err)
	require.NoError(t, also)
	require.Equal(t, 2*sendBuffer, buffer)
	require.Equal(t, 5000, patience)
}

// F11: whoever doesn't read holds what its buffers hold and one notice more, and
// is current once it reads.
func TestTakeOver_slowReaderEndsCurrent(t *testing.T) {
	s := newSite(t, h1, Config{WriteTimeout: time.Hour})
	topics := bigTopics()
	conn := s.unread(t, topics, 0) // with a small buffer it would take long to read
	eventually(t, "it has begun", func() bool { return s.streams() == 1 })
	p := uint64(100)
	for ; p < 200; p++ {
		s.publish(p+1, topics...)
	}
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	in := bufio.NewReader(res.Body)
	events, parser := 0, sseParser{}
	for {
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		if e, ok := parser.feed(strings.TrimSuffix(line, "\n")); ok && e.hasID {
			events++
			if e.lastID == at(p).String() {
				break
			}
		}
	}
	require.Less(t, events, 50, "what it missed was not merged")
}

// A shutdown that can't wait closes also those that net/http has forgotten, and
// those that it would forget later.
func TestTakeOver_shutdownCutsTheSlow(t *testing.T) {
	s := newSite(t, h1, Config{WriteTimeout: time.Hour})
	topics := bigTopics()
	s.stalled(t, topics)
	var o *outlet
	eventually(t, "it is taken over", func() bool {
		o = s.anyOutlet()
		return o != nil
	})
	p := uint64(101)
	eventually(t, "it is slow", func() bool {
		s.publish(p, topics...)
		p++
		return o.slow.Load()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.server.Shutdown(ctx, 0), context.DeadlineExceeded)
	eventually(t, "it was cut", func() bool { return s.streams() == 0 })
	require.ErrorIs(t, s.server.peers.watch(o, nil), errHungUp)
}

// When Shutdown has returned, no goroutine of a stream works on.
func TestTakeOver_shutdownWaitsForGoroutines(t *testing.T) {
	stacks := make([]byte, 1<<20)
	var works []string // what a dump calls them, whatever that is
	for _, f := range []any{(*pump).run, (*peers).wait, (*outlet).drain} {
		works = append(works, runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()+"(")
	}
	for range 150 {
		f := newFixture(t, Config{})
		server := httptest.NewServer(f.server)
		s := &site{fixture: f, url: server.URL}
		for range 20 {
			s.raw(t, topicsQuery("a"))
		}
		require.NoError(t, f.server.Shutdown(t.Context(), 0))
		all := string(stacks[:runtime.Stack(stacks, true)])
		for _, function := range works {
			require.NotContains(t, all, function)
		}
		server.Close()
	}
}

// wrapped is a listener whose connections are no *net.TCPConn.
type wrapped struct{ net.Listener }

func (l wrapped) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return struct{ net.Conn }{conn}, err
}

func TestTakeOver_connectionsOfAnotherKind(t *testing.T) {
	f := newFixture(t, Config{})
	server := httptest.NewUnstartedServer(f.server)
	server.Listener = wrapped{server.Listener}
	server.Start()
	defer server.Close()
	s := &site{fixture: f, url: server.URL}
	_, res := s.raw(t, topicsQuery("a")+"&throttle=0")
	in := bufio.NewReader(res.Body)
	for p := uint64(101); p < 110; p++ {
		s.publish(p, "a")
		readUntil(t, in, "id: "+at(p).String())
		readUntil(t, in, "event: invalidate")
	}
	require.NoError(t, f.server.Shutdown(t.Context(), 0))
	readUntil(t, in, "event: frontier")
	_, err := io.Copy(io.Discard, in)
	require.NoError(t, err, "a clean end")
}

// HTTP/1.0 knows no chunks: it stays with its handler.
func TestTakeOver_notOfHTTP10(t *testing.T) {
	s := newSite(t, h1, Config{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, "GET /events?topic=a&throttle=0 HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	readUntil(t, in, "event: ready")
	s.publish(110, "a")
	for _, want := range []string{"data: ", "\n", "id: " + at(110).String(), "event: invalidate", "data: ", "\n"} {
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(line, want), "%q", line)
	}
}

// Streams that come and go, and commits, at once: nobody is left behind.
func TestTakeOver_churn(t *testing.T) {
	s := newSite(t, h1, Config{Heartbeat: 5 * time.Millisecond})
	stop, published := make(chan struct{}), make(chan uint64)
	go func() {
		for p := uint64(101); ; p++ {
			s.publish(p, "a", "b")
			select {
			case <-stop:
				published <- p
				return
			case <-time.After(50 * time.Microsecond):
			}
		}
	}()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 25 {
				conn, res := s.raw(t, topicsQuery("a", "b")+"&throttle=1")
				_, err := io.CopyN(io.Discard, res.Body, rand.Int64N(1000))
				require.NoError(t, err)
				require.NoError(t, conn.Close())
			}
		})
	}
	all.Wait()
	stays, res := s.raw(t, topicsQuery("a")+"&throttle=1")
	close(stop)
	last := at(<-published).String()
	readUntil(t, bufio.NewReader(res.Body), "id: "+last)
	require.NoError(t, stays.Close())
	eventually(t, "nobody is left", func() bool { return s.streams() == 0 })
}

type collector struct{ bytes.Buffer }

func (c *collector) write(frame []byte) error {
	_, err := c.Write(frame)
	return err
}

// The pump's frames are, in chunks, what the handler writes.
func TestSharedEncoder_writesWhatTheOtherDoes(t *testing.T) {
	server := newFixture(t, Config{}).server
	var plain, chunked collector
	one := &sseEncoder{server: server, out: &plain}
	shared := &sharedEncoder{sseEncoder: sseEncoder{server: server, out: &chunked, chunks: true}}
	for _, e := range []encoder{one, shared} {
		for _, topics := range [][]string{{"a"}, {"a"}, {"a", "b"}, {"b", "a"}, bigTopics(), {"a"}, {strings.Repeat("x", 3000)}} {
			require.NoError(t, e.invalidate(at(5), topics, false))
			require.NoError(t, e.frontier(at(5), time.Second))
			require.NoError(t, e.invalidate(at(6), topics, false))
			require.NoError(t, e.reset(at(6)))
		}
	}
	chunked.WriteString(lastChunk + "\r\n")
	got, err := io.ReadAll(httputil.NewChunkedReader(&chunked))
	require.NoError(t, err)
	require.Equal(t, plain.String(), string(got))
}

// A write that the kernel doesn't take whole says how much it took.
func TestAttempt_takesWhatFits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	conn, err := l.Accept()
	require.NoError(t, err)
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var a attempt
	frame := bytes.Repeat([]byte("x"), 64<<10)
	sent := 0
	for {
		n, err := a.write(raw, frame)
		require.NoError(t, err)
		if sent += n; n == 0 {
			break
		}
	}
	require.NoError(t, conn.Close())
	got, err := io.Copy(io.Discard, client)
	require.NoError(t, err)
	require.Equal(t, int64(sent), got)
	_, err = a.write(raw, frame)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}
