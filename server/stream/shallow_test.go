package stream

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The stream of a handler whose middleware panics, once that has returned, is closed.
func TestShallow_panic(t *testing.T) {
	s := newSite(t, h2tls, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // in red it stays within
	defer cancel()
	r := httptest.NewRequest(http.MethodGet, "/events?topic=a", nil).WithContext(ctx)
	r.ProtoMajor = 2
	left := 0
	require.Panics(t, func() {
		Shallow("/events", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.server.ServeHTTP(w, r)
			left = s.streams()
			panic("after it")
		})).ServeHTTP(newResponse(), r)
	})
	require.Equal(t, 1, left, "the handler has left it")
	require.Zero(t, s.streams())
}

// Where middleware does something with what is written, the stream stays within it.
// What a PassThrough would do with it isn't done, from the first frame on.
func TestShallow_behindMiddleware(t *testing.T) {
	s := newSite(t, h2tls, Config{})
	for name, wrap := range map[string]func(counting) http.ResponseWriter{
		"counts":         func(w counting) http.ResponseWriter { return w },
		"passes through": func(w counting) http.ResponseWriter { return transparent{w} },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // in red it stays within
			defer cancel()
			r := httptest.NewRequest(http.MethodGet, "/events?topic=a", nil).WithContext(ctx)
			r.ProtoMajor = 2
			counts := name == "counts"
			var counted atomic.Int64
			within := false
			Shallow("/events", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if counts {
					cancel() // or it would stay
				}
				s.server.ServeHTTP(wrap(counting{w, &counted}), r)
				within = s.streams() == 0
				cancel()
			})).ServeHTTP(newResponse(), r)
			require.Equal(t, counts, within)
			require.Equal(t, counts, counted.Load() > 0)
			require.Zero(t, s.streams())
		})
	}
}
