package stream

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// counting is the writer of a middleware that counts bytes, and gives away
// whatever it is asked for, as many do.
type counting struct {
	http.ResponseWriter
	bytes *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// hijackable can be hijacked without Unwrap.
type hijackable struct {
	counting
	http.Hijacker
	http.Flusher
}

// transparent says that it may be left out.
type transparent struct{ counting }

func (t transparent) PassThrough() http.ResponseWriter { return t.ResponseWriter }

// zipping compresses what is written.
type zipping struct {
	counting
	zip *gzip.Writer
}

func (z zipping) Write(p []byte) (int, error) { return z.zip.Write(p) }

func (z zipping) FlushError() error {
	if err := z.zip.Flush(); err != nil {
		return err
	}
	return http.NewResponseController(z.ResponseWriter).Flush()
}

// behind serves streams behind a middleware.
func behind(t *testing.T, wrap func(http.ResponseWriter) http.ResponseWriter) *site {
	t.Helper()
	f := newFixture(t, Config{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.server.ServeHTTP(wrap(w), r)
	}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, f.server.Shutdown(ctx, 0))
		server.Close()
	})
	return &site{fixture: f, url: server.URL}
}

// A stream is taken over from net/http alone: whatever a middleware does with
// what is written, it does with all of it.
func TestTakeOver_behindMiddleware(t *testing.T) {
	var seen atomic.Int64
	for name, tt := range map[string]struct {
		wrap  func(http.ResponseWriter) http.ResponseWriter
		zips  bool
		taken bool
	}{
		"none":    {wrap: func(w http.ResponseWriter) http.ResponseWriter { return w }, taken: true},
		"unwraps": {wrap: func(w http.ResponseWriter) http.ResponseWriter { return counting{w, &seen} }},
		"hijackable": {wrap: func(w http.ResponseWriter) http.ResponseWriter {
			return hijackable{counting{w, &seen}, w.(http.Hijacker), w.(http.Flusher)}
		}},
		"compresses": {zips: true, wrap: func(w http.ResponseWriter) http.ResponseWriter {
			w.Header().Set("Content-Encoding", "gzip")
			return zipping{counting{w, &seen}, gzip.NewWriter(w)}
		}},
		"passes through": {taken: true, wrap: func(w http.ResponseWriter) http.ResponseWriter { return transparent{counting{w, &seen}} }},
		"passes through to one that counts": {wrap: func(w http.ResponseWriter) http.ResponseWriter {
			return transparent{counting{counting{w, &seen}, &seen}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := behind(t, tt.wrap)
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
			_, err = fmt.Fprint(conn, "GET /events?topic=a&throttle=0 HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, res.StatusCode)
			body := io.Reader(res.Body)
			if tt.zips {
				body, err = gzip.NewReader(res.Body)
				require.NoError(t, err)
			}
			in := bufio.NewReader(body)
			readUntil(t, in, "event: ready")
			if tt.taken {
				eventually(t, "it is taken over", func() bool { return s.anyOutlet() != nil })
			}
			for p := uint64(101); p < 120; p++ {
				s.publish(p, "a")
				readUntil(t, in, "id: "+at(p).String())
				line, err := in.ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, "event: invalidate\n", line)
			}
			require.Equal(t, tt.taken, s.anyOutlet() != nil)
		})
	}
}
