//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/freshet-dev/freshet/bench/fanout"
)

// answer is what the static handler is to say from now on.
type answer struct {
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// where answers it.
type where struct {
	Address string `json:"address"`
}

// static is the least that a Go handler can do: headers from a map, and bytes.
type static struct{ answer atomic.Pointer[answer] }

func (s *static) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	a := s.answer.Load()
	header := w.Header()
	for name, values := range a.Header {
		header[name] = values
	}
	_, _ = w.Write(a.Body) // to whoever is still there
}

// serveStatic serves the last answer that it was told, until in ends.
func serveStatic(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := new(static)
	s.answer.Store(new(answer))
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute} // as Freshet's
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	defer func() {
		err = errors.Join(err, server.Close())
		if end := <-ended; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
	}()
	return fanout.Obey(in, out, func(a answer) where {
		if a.Header != nil {
			s.answer.Store(&a)
		}
		return where{Address: listener.Addr().String()}
	})
}

// like is an answer with the same header and bytes. What the server writes by
// itself is left to it. sized says how long it is beforehand, which net/http
// doesn't do by itself for more than 2 KiB: it sends them in chunks.
func like(header http.Header, body []byte, sized bool) answer {
	header = header.Clone()
	for _, name := range []string{"Date", "Content-Length", "Transfer-Encoding"} {
		header.Del(name)
	}
	if sized {
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	return answer{Header: header, Body: body}
}
