package reuse

import (
	"bytes"
	"compress/gzip"
	"io"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet/internal/inflate"
)

// minCompressed is the size from which an answer is worth compressing.
const minCompressed = 1 << 10

// compression replaces Connect's gzip by one that compresses a kept answer once, and
// decompresses no message further than to limit.
func compression(c *cache, limit int) connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithCompression("gzip",
			inflate.Gzip(limit),
			func() connect.Compressor { return newCompressor(c) },
		),
		connect.WithReadMaxBytes(limit),
		connect.WithCompressMinBytes(minCompressed),
	)
}

// compressor writes gzip, and takes the compressed bytes of a kept answer where it
// is given one.
//
// It knows one by its bytes: Connect hands a codec's whole output to one Write, so
// a Write of exactly what is kept as a form is that form. What has been compressed
// before can be sent again since a gzip file is any number of members one after
// the other, each compressed by itself, and is read as their contents joined (RFC
// 1952, section 2.2): the form's bytes are a member, made once for all. Everything
// else goes into a member that is compressed as it comes (stream). The two are not
// mixed: once stream is open, a kept answer goes through it as well.
type compressor struct {
	cache   *cache
	to      io.Writer
	stream  *gzip.Writer
	open    bool // stream has a member that isn't closed
	written bool // there is a member, so what was written is gzip
}

func newCompressor(c *cache) *compressor {
	return &compressor{cache: c, stream: gzip.NewWriter(io.Discard)}
}

func (z *compressor) Reset(to io.Writer) { z.to, z.open, z.written = to, false, false }

func (z *compressor) Write(p []byte) (int, error) {
	f, gzipped := z.cache.formOf(p)
	if f == nil || z.open {
		z.begin()
		return z.stream.Write(p)
	}
	if gzipped == nil {
		var err error
		if gzipped, err = z.member(p); err != nil {
			return 0, err
		}
		z.cache.keepGzipped(f, gzipped)
	}
	z.written = true
	if _, err := z.to.Write(gzipped); err != nil {
		return 0, err
	}
	return len(p), nil
}

// begin opens a member for what is compressed as it comes.
func (z *compressor) begin() {
	if !z.open {
		z.stream.Reset(z.to)
		z.open, z.written = true, true
	}
}

// member compresses p by itself.
func (z *compressor) member(p []byte) ([]byte, error) {
	var once bytes.Buffer
	z.stream.Reset(&once)
	if _, err := z.stream.Write(p); err != nil {
		return nil, err
	}
	if err := z.stream.Close(); err != nil {
		return nil, err
	}
	return bytes.Clone(once.Bytes()), nil
}

// Close ends the file. One without a member isn't gzip: nothing is one that is
// empty.
func (z *compressor) Close() error {
	if !z.written {
		z.begin()
	}
	if !z.open {
		return nil
	}
	z.open = false
	return z.stream.Close()
}
