package stream

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/server/intercept"
)

// What it costs an idle stream to know its caller: to be asked about again, and to end
// with the credential. At most 300 bytes, its claims included, and also if no other
// stream has those.
func TestSession_memoryOfACaller(t *testing.T) {
	const streams = 10_000
	claims := map[string]any{"sub": "ada", "iss": "https://issuer.example", "scope": "openid messages"}
	known := Config{
		MaxConnections: streams,
		Authorize:      func(context.Context, []string) error { return nil },
		Remember:       intercept.Remember,
		Credential:     intercept.CredentialOf,
	}
	var caller intercept.Principal
	authenticated := intercept.NewAuthenticator(func(*http.Request) (intercept.Principal, error) { return caller, nil }, nil, nil)
	behind := func(ctx context.Context, who intercept.Principal) context.Context {
		caller = who
		var seen *http.Request
		authenticated.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r })).
			ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx))
		return seen.Context()
	}
	measure := func(c Config, who func(n int) intercept.Principal) (bytes int) {
		f := newFixture(t, c)
		begin := heap()
		all := make([]*outlet, streams)
		for n := range all {
			ctx := t.Context()
			if who != nil {
				ctx = behind(ctx, who(n))
			}
			session, refused := f.server.start(ctx, &request{topics: []string{"a"}})
			require.Nil(t, refused)
			all[n] = f.server.newOutlet(session, nil)
		}
		end := heap()
		for _, o := range all {
			o.timer.Stop()
			o.session.close()
		}
		return (end - begin) / streams
	}
	off := measure(Config{MaxConnections: streams}, nil)
	on := measure(known, func(int) intercept.Principal {
		return intercept.Principal{Subject: "ada", Issuer: "https://issuer.example", Claims: claims, Expires: time.Now().Add(time.Hour)}
	})
	each := measure(known, func(n int) intercept.Principal {
		own := map[string]any{"sub": fmt.Sprint("user", n), "iss": "https://issuer.example", "scope": "openid messages", "exp": int64(n), "iat": int64(n), "aud": "api"}
		return intercept.Principal{Subject: fmt.Sprint("user", n), Issuer: "https://issuer.example", Claims: own, Expires: time.Now().Add(time.Hour)}
	})
	t.Logf("an idle stream: %d bytes of heap, with a caller %d more, with one of its own and its claims %d more", off, on-off, each-off)
	require.Less(t, on-off, 300)
	require.Less(t, each-off, 300)
}

// heap is how much of it is in use: what pools hold goes with the second collection.
func heap() int {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc) //nolint:gosec // it fits
}
