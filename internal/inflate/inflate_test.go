package inflate

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func compressed(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(make([]byte, n))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestGzip_endsBeyondTheLimit(t *testing.T) {
	const limit = 1 << 16
	r := Gzip(limit)()
	for range 2 { // it is used again
		require.NoError(t, r.Reset(bytes.NewReader(compressed(t, limit))))
		n, err := io.Copy(io.Discard, r)
		require.NoError(t, err)
		require.EqualValues(t, limit, n)
		require.NoError(t, r.Reset(bytes.NewReader(compressed(t, 64*limit))))
		n, err = io.Copy(io.Discard, r)
		require.ErrorIs(t, err, errRest)
		require.Less(t, n, int64(limit+64<<10), "one Read more at most")
	}
	require.NoError(t, r.Close())
}

// What Connect makes of it: a message of the limit is taken, one above it refused,
// and not read to its end.
func TestGzip_inConnect(t *testing.T) {
	const limit, procedure = 1 << 16, "/test.v1.Test/Test"
	var last *reader
	handler := connect.NewUnaryHandler(procedure, func(context.Context, *connect.Request[wrapperspb.BytesValue]) (*connect.Response[wrapperspb.BytesValue], error) {
		return connect.NewResponse(new(wrapperspb.BytesValue)), nil
	}, connect.WithReadMaxBytes(limit), connect.WithCompression("gzip", func() connect.Decompressor {
		last, _ = Gzip(limit)().(*reader)
		return last
	}, func() connect.Compressor { return gzip.NewWriter(io.Discard) }))
	call := func(n int) *httptest.ResponseRecorder {
		message := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), make([]byte, n))
		var body bytes.Buffer
		w := gzip.NewWriter(&body)
		_, err := w.Write(message)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, procedure, &body)
		r.Header.Set("Content-Type", "application/proto")
		r.Header.Set("Content-Encoding", "gzip")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		return answer
	}
	require.Equal(t, http.StatusOK, call(limit-4).Code)
	answer := call(64 * limit)
	require.Equal(t, http.StatusTooManyRequests, answer.Code, answer.Body)
	require.Contains(t, answer.Body.String(), "message is larger than configured max 65536")
	require.Less(t, last.read, int64(limit+64<<10))
}
