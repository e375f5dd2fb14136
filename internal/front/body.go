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
