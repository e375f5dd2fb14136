package stream

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
)

// F18: a reader that takes nothing is not waited for when its stream is to end, over
// each transport: since the credential has expired, or the grant was withdrawn.
func TestSlowReader_F18_isCut(t *testing.T) {
	for _, via := range transports {
		t.Run(string(via), func(t *testing.T) { slowReaderIsCut(t, errRevoked, via, openEvents) })
	}
	t.Run("Watch by gRPC", func(t *testing.T) { slowReaderIsCut(t, errRevoked, h2c, openWatch) })
	for _, via := range []transport{h1own, h2tls} { // of the same code; these take seconds
		t.Run("expired, "+string(via), func(t *testing.T) { slowReaderIsCut(t, errExpired, via, openEvents) })
	}
}

func slowReaderIsCut(t *testing.T, why *ending, via transport, open func(testing.TB, *site, []string)) {
	t.Helper()
	t.Parallel()
	var denied atomic.Bool
	at := time.Now().Add(5 * time.Second) // its reader is stuck by then
	c := Config{WriteTimeout: time.Hour, Heartbeat: time.Hour, Registerer: prometheus.NewRegistry(), Reauthorize: -1}
	c.Remember = context.WithoutCancel
	c.Authorize = func(context.Context, []string) error {
		if denied.Load() {
			return connect.NewError(connect.CodePermissionDenied, errRevoked)
		}
		return nil
	}
	if why == errExpired {
		c.Credential = func(context.Context) (string, time.Time) { return "ada", at }
	}
	s := newSite(t, via, c)
	topics := bigTopics()
	open(t, s, topics)
	eventually(t, "it has begun", func() bool { return s.streams() == 1 })
	p, told, since := uint64(100), 0.0, time.Now()
	eventually(t, "its reader takes no more", func() bool {
		p++
		s.publish(p, topics...)
		if now := value(t, s.server.metrics.invalidates); now != told || !isStuck(s) {
			told, since = now, time.Now()
		}
		return time.Since(since) > 200*time.Millisecond
	})
	if why == errRevoked {
		at = time.Now()
		denied.Store(true)
		require.NoError(t, s.server.Reauthorize(t.Context()))
	}
	eventually(t, "it is cut", func() bool { return s.streams() == 0 })
	require.Less(t, time.Since(at), 3*time.Second, "by its ending, not by its frame's deadline") // half a second, and a busy machine
}

// A frame has the write timeout, but not beyond the end of its stream.
func TestDeadlineWriter_F18_notBeyondTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 10 * time.Second
		wire := newResponse()
		for name, one := range map[string]struct {
			expires time.Duration // from now; 0: never
			revoked bool
			want    time.Duration
		}{
			"it goes on":         {want: limit},
			"it expires later":   {expires: time.Hour, want: limit},
			"it expires soon":    {expires: time.Second, want: time.Second + endGrace},
			"it has expired":     {expires: -time.Second, want: endGrace},
			"it is revoked":      {revoked: true, want: endGrace},
			"both":               {revoked: true, expires: -time.Second, want: endGrace},
			"revoked, and later": {revoked: true, expires: time.Second, want: endGrace},
		} {
			s := &session{server: &Server{config: Config{WriteTimeout: limit}}}
			if one.expires != 0 {
				s.expires = time.Now().Add(one.expires).UnixNano()
			}
			s.revoked.Store(one.revoked)
			require.NoError(t, s.bound(http.NewResponseController(wire)).within(func() error {
				require.Equal(t, one.want, time.Until(wire.deadline), name)
				return nil
			}))
			require.True(t, wire.deadline.IsZero(), "between frames there is none")
		}
	})
}

// isStuck reports whether the only stream waits for its reader.
func isStuck(s *site) bool {
	if o := s.anyOutlet(); o != nil {
		return o.slow.Load()
	}
	for _, of := range s.server.granted.everyone() {
		if wire := of.wire.Load(); wire != nil {
			wire.mu.Lock()
			defer wire.mu.Unlock()
			return wire.writing
		}
	}
	return false
}

func openEvents(t testing.TB, s *site, topics []string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/events?throttle=0", strings.NewReader(`{"topics":["`+strings.Join(topics, `","`)+`"]}`))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client.Do(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	t.Cleanup(func() { _ = res.Body.Close() }) // it is never read
}

func openWatch(t testing.TB, s *site, topics []string) {
	t.Helper()
	stream, err := freshetv1connect.NewInvalidationServiceClient(s.client, s.url, connect.WithGRPC(), connect.WithAcceptCompression("gzip", nil, nil)).
		Watch(t.Context(), connect.NewRequest(&freshetv1.WatchRequest{Topics: topics}))
	require.NoError(t, err)
	require.True(t, stream.Receive(), "%v", stream.Err())
	t.Cleanup(func() { _ = stream.Close() })
}
