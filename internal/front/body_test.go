package front

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-dev/freshet/server"
)

// F62: who sends large messages, and then bodies that don't come, has each of these
// hold what has come of it, not a buffer of the large ones' size; to health, too, where
// anybody may call.
func TestPort_F62_bodiesThatDoNotComeHoldLittle(t *testing.T) {
	const large, callers = 1 << 20, 40
	f := testFront(t, func(c *Config) { c.ReadTimeout = time.Minute })
	f.ready = &readiness{node: new(server.Node)}
	mux := http.NewServeMux()
	procedures := f.standard(mux, nil)
	mux.Handle(testProcedure, connectHandler())
	procedures[testProcedure] = true
	at := f.testPort(t, &port{limit: 3 * callers}, gathered(procedures, mux))
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 15, protowire.BytesType), make([]byte, large))
	client := clientVia(t, false)
	for _, procedure := range []string{testProcedure, "/grpc.health.v1.Health/Check"} {
		before := heap()
		for range callers {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at+procedure, bytes.NewReader(unknown))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/proto")
			resp, err := client.Do(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode)
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", at)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			_, err = io.WriteString(conn, "POST "+procedure+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/proto\r\nContent-Length: 4000\r\n\r\n{")
			require.NoError(t, err)
		}
		require.Less(t, heap()-before, int64(callers*large/4), procedure)
	}
	require.False(t, procedures[reflectV1], "its requests have no end")
}

// heap is the bytes in use, garbage aside.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far from 2^63
}

func TestGathered(t *testing.T) {
	broken := fmt.Errorf("%w by the network", io.ErrUnexpectedEOF)
	for _, test := range []struct {
		name, path string
		body       io.Reader
		want       string
		err        error
	}{
		{"whole", "/one", bytes.NewReader(bytes.Repeat([]byte("x"), 5000)), string(bytes.Repeat([]byte("x"), 5000)), nil},
		{"empty", "/one", bytes.NewReader(nil), "", nil},
		{"in bytes", "/one", iotest.OneByteReader(bytes.NewReader([]byte("abc"))), "abc", nil},
		{"broken", "/one", io.MultiReader(bytes.NewReader([]byte("ab")), iotest.ErrReader(broken)), "ab", broken},
		{"a stream's", "/other", bytes.NewReader([]byte("abc")), "abc", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, test.path, test.body)
			given := r.Body
			var (
				got        []byte
				err        error
				isGathered bool
			)
			gathered(map[string]bool{"/one": true}, http.HandlerFunc(func(_ http.ResponseWriter, seen *http.Request) {
				got, err = io.ReadAll(seen.Body)
				_, isGathered = seen.Body.(*arrived)
			})).ServeHTTP(httptest.NewRecorder(), r)
			require.Equal(t, test.want, string(got))
			require.ErrorIs(t, err, test.err)
			require.Equal(t, test.path == "/one", isGathered)
			require.Equal(t, given, r.Body, "net/http's request is as it was")
		})
	}
}

// An answer in a buffer that is much larger doesn't hold it while it is read.
func TestAnswer_largeBuffersGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slowWriter{header: http.Header{}, pause: 100 * time.Millisecond}
		a := &answer{ResponseWriter: w, control: http.NewResponseController(w), patience: &patience{write: time.Second}}
		buffer := make([]byte, 2*answerPart, 8<<20)
		n, err := a.Write(buffer)
		require.NoError(t, err)
		require.Equal(t, len(buffer), n)
		n, err = a.Write([]byte("after it"))
		require.NoError(t, err)
		require.Equal(t, 8, n)
		require.Zero(t, w.parts, "the handler goes on")
		buffer[0] = 'x' // somebody else's now
		a.finish()
		require.Equal(t, 3, w.parts)
		require.Equal(t, append(make([]byte, 2*answerPart), "after it"...), w.got.Bytes())
	})
}
