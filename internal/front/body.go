package front

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"connectrpc.com/connect"
)

// body says in words what is wrong with a request's body, where net/http would
// name our addresses, and Connect would take the peer's mistake for one of ours.
type body struct {
	io.ReadCloser
	patience *patience
	chunks   bool // of HTTP/1.1, which can be malformed
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	var network net.Error
	var large *http.MaxBytesError
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.As(err, &large):
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.patience.metrics.cut.WithLabelValues("read").Inc()
		err = connect.NewError(connect.CodeDeadlineExceeded,
			fmt.Errorf("the request did not arrive within %v", b.patience.read))
	case b.chunks && !errors.As(err, &network):
		err = connect.NewError(connect.CodeInvalidArgument, errors.New("the request's body is malformed: its chunks can't be read"))
	}
	return n, err
}

// gathered has the one message of a request arrive before its handler is asked. The
// handler's buffer is Connect's, which reuses buffers of up to 8 MiB: after a few
// large messages, each of hundreds whose bodies don't come would hold one of these
// while it waits. Here a body holds what has come of it, twice that at most.
// procedures says of paths whether a request is one message: the client doesn't stream.
func gathered(procedures map[string]bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody || !procedures[r.URL.Path] {
			next.ServeHTTP(w, r)
			return
		}
		message, err := io.ReadAll(r.Body)
		whole := *r
		whole.Body = &arrived{Closer: r.Body, message: message, err: err}
		next.ServeHTTP(w, &whole)
	})
}

// arrived is a body that has come, or how far, and why no further.
type arrived struct {
	io.Closer
	message []byte
	err     error // nil: it is whole
}

// Read implements io.Reader.
func (a *arrived) Read(p []byte) (n int, err error) {
	if n = copy(p, a.message); n > 0 || len(p) == 0 {
		a.message = a.message[n:]
		return n, nil
	}
	if a.err != nil {
		return 0, a.err
	}
	return 0, io.EOF
}

// isMalformed reports whether a query says that its message is base64, and it
// isn't: Connect would answer `unknown`, as if the server had failed.
func isMalformed(query string) bool {
	if !strings.Contains(query, "base64=1") {
		return false
	}
	for parameter := range strings.SplitSeq(query, "&") {
		if message, ok := strings.CutPrefix(parameter, "message="); ok {
			return !isBase64(message)
		}
	}
	return false
}

// isBase64 reports whether text is base64 for URLs, padded or not.
func isBase64(text string) bool {
	text = strings.ReplaceAll(text, "%3D", "=")
	bare := strings.TrimRight(text, "=")
	for i := range len(bare) {
		c := bare[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	if padding := len(text) - len(bare); padding > 0 {
		return padding <= 2 && len(text)%4 == 0
	}
	return len(bare)%4 != 1
}
