package stream

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
)

type whoKey struct{}

// A stream that began while grants were withdrawn was perhaps not among those that
// Reauthorize asked about: it is asked again.
func TestReauthorize_whileAStreamBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(hub.Config{})
		h.Begin(at(100))
		h.Serve(at(100))
		var s *Server
		asked := 0
		s, err := New(Config{
			Hub: h,
			Authorize: func(ctx context.Context, _ []string) error {
				if asked++; asked > 1 {
					return connect.NewError(connect.CodePermissionDenied, errors.New("withdrawn"))
				}
				// Just after the grant was looked up it is withdrawn.
				require.NoError(t, s.Reauthorize(ctx))
				return nil
			},
			Remember: func(ctx context.Context) context.Context { return context.WithoutCancel(ctx) },
		})
		require.NoError(t, err)
		_, refused := s.start(t.Context(), &request{topics: []string{"a"}})
		require.NotNil(t, refused)
		require.Equal(t, connect.CodePermissionDenied, refused.code)
		require.Empty(t, s.granted.everyone())
		require.Zero(t, s.open)
	})
}

// What was taken from the hub before the grant went isn't told after it.
func TestReauthorize_nothingMoreIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(hub.Config{})
		h.Begin(at(100))
		h.Serve(at(100))
		var withdrawn atomic.Bool
		var outage atomic.Bool
		s, err := New(Config{
			Hub: h, Throttle: -1,
			Authorize: func(ctx context.Context, topics []string) error {
				switch {
				case outage.Load():
					return connect.NewError(connect.CodeUnavailable, errors.New("not now"))
				case withdrawn.Load() && ctx.Value(whoKey{}) == "ada":
					require.Equal(t, []string{"a", "b"}, topics)
					return connect.NewError(connect.CodePermissionDenied, errors.New("withdrawn"))
				}
				return nil
			},
			Remember: func(ctx context.Context) context.Context {
				return context.WithValue(context.Background(), whoKey{}, ctx.Value(whoKey{}))
			},
		})
		require.NoError(t, err)
		ended := map[string]chan error{}
		logs := map[string]*recorder{}
		ctx, cancel := context.WithCancel(t.Context())
		for _, who := range []string{"ada", "bob"} {
			session, refused := s.start(context.WithValue(ctx, whoKey{}, who), &request{topics: []string{"a", "b"}})
			require.Nil(t, refused)
			end, log := make(chan error, 1), &recorder{}
			ended[who], logs[who] = end, log
			go func() {
				defer session.close()
				end <- session.run(ctx, log)
			}()
		}
		synctest.Wait()
		outage.Store(true)
		require.NoError(t, s.Reauthorize(t.Context()))
		outage.Store(false)
		synctest.Wait()
		require.Empty(t, ended["ada"], "nothing can be told: it stays")

		withdrawn.Store(true)
		require.NoError(t, s.Reauthorize(t.Context()))
		h.Publish(freshet.Commit{Revision: at(101), Topics: []string{"a"}}) // before anybody has woken
		synctest.Wait()
		require.ErrorIs(t, <-ended["ada"], errRevoked)
		require.NotContains(t, strings.Join(logs["ada"].log(0), "\n"), "invalidate")
		require.Contains(t, strings.Join(logs["bob"].log(0), "\n"), "invalidate 101 a")
		require.Len(t, s.granted.everyone(), 1)
		cancel()
		<-ended["bob"]
		synctest.Wait()
		require.Empty(t, s.granted.everyone())
	})
}
