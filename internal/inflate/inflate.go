// Package inflate decompresses what peers send, and no more of it than is of use.
package inflate

import (
	"compress/gzip"
	"errors"
	"io"

	"connectrpc.com/connect"
)

// errRest is what a message that is too large ends with.
var errRest = errors.New("the rest isn't decompressed")

// Gzip returns what makes decompressors, for connect.WithCompression beside
// connect.WithReadMaxBytes(limit).
//
// Connect's own gzip decompresses a message that is larger than that to its end, to
// tell its size: 4 MiB hold four gigabytes of zeros, which is seconds of a CPU, whether
// or not the caller still waits. These end with an error where the limit is passed;
// the call fails with resource_exhausted all the same.
func Gzip(limit int) func() connect.Decompressor {
	return func() connect.Decompressor { return &reader{limit: int64(limit)} }
}

// Options bounds messages of gzip by limit, in bytes.
func Options(limit int) connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithReadMaxBytes(limit),
		connect.WithCompression("gzip", Gzip(limit), func() connect.Compressor { return gzip.NewWriter(io.Discard) }),
	)
}

// reader is a gzip.Reader that counts.
type reader struct {
	gzip.Reader
	limit, read int64
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.read > r.limit {
		return 0, errRest
	}
	n, err := r.Reader.Read(p)
	r.read += int64(n)
	return n, err
}

// Reset implements connect.Decompressor.
func (r *reader) Reset(from io.Reader) error {
	r.read = 0
	return r.Reader.Reset(from)
}
