package stream

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
)

// expiring has every credential expire after some time.
func expiring(after time.Duration) Config {
	return Config{Credential: func(context.Context) (string, time.Time) { return "ada", time.Now().Add(after) }}
}

// A stream ends when its credential expires, between two heartbeats and with a notice
// that its throttle holds back: that one isn't told any more.
func TestSession_F18_expires(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 15 * time.Second, 40 * time.Second} {
		bothWays(t, expiring(after), func(t *testing.T, f *fixture) {
			rec, done := f.stream(t.Context(), t, &request{topics: []string{"a"}, throttle: MaxThrottle})
			synctest.Wait()
			f.publish(110, "a")
			pass(after - time.Second/2)
			n := len(rec.all())
			require.Empty(t, done)
			f.publish(120, "a")
			synctest.Wait()
			told := len(rec.all())
			if after < MaxThrottle {
				require.Equal(t, n, told, "the throttle holds")
			}
			pass(time.Second / 2)
			require.ErrorIs(t, <-done, errExpired)
			require.Equal(t, []string{after.String() + " expired 0 "}, rec.log(told))
			require.Zero(t, f.hub.Stats().Subscriptions)
		})
	}
}

// A credential that ends when nobody lives any more doesn't end, and one that has
// ended begins no stream.
func TestSession_expiresAtTheEdges(t *testing.T) {
	for expires, code := range map[time.Time]connect.Code{
		{}:                                   0,
		time.Now().Add(eternity + time.Hour): 0,
		time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC): 0,
		time.Now().Add(-time.Nanosecond):            connect.CodeUnauthenticated,
		time.Unix(1, 0):                             connect.CodeUnauthenticated,
	} {
		f := newFixture(t, Config{Credential: func(context.Context) (string, time.Time) { return "ada", expires }})
		session, refused := f.server.start(t.Context(), &request{topics: []string{"a"}})
		if code != 0 {
			require.Equal(t, code, refused.code, expires)
			require.Equal(t, http.StatusUnauthorized, refused.status)
			continue
		}
		require.Nil(t, refused, expires)
		require.Nil(t, session.ending())
		require.Zero(t, session.left())
		session.close()
	}
}

// Over each transport the last frame says why, and the response ends in good order.
func TestEvents_F18_saysWhyItEnds(t *testing.T) {
	for _, via := range transports {
		t.Run(string(via), func(t *testing.T) {
			var denied atomic.Bool
			c := expiring(time.Hour)
			c.Authorize = func(context.Context, []string) error {
				if denied.Load() {
					return connect.NewError(connect.CodePermissionDenied, errors.New("withdrawn"))
				}
				return nil
			}
			c.Remember = context.WithoutCancel
			s := newSite(t, via, c)
			open := s.get(t, topicsQuery("a", "b"), nil)
			ready := open.next()
			require.Equal(t, "ready", ready.kind)
			require.Contains(t, ready.data, `,"expires_ms":3599`)
			rpc := s.watch(t.Context(), t, &freshetv1.WatchRequest{Topics: []string{"a", "b"}})
			defer rpc.Close()
			require.True(t, rpc.Receive())
			require.InDelta(t, time.Hour.Milliseconds(), rpc.Msg().GetReady().GetExpiresMs(), 10_000)
			denied.Store(true)
			require.NoError(t, s.server.Reauthorize(t.Context()))
			s.publish(110, "a")
			open.expectEnd("denied", ready.lastID)
			require.False(t, rpc.Receive())
			require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(rpc.Err()))

			s = newSite(t, via, expiring(300*time.Millisecond))
			begin := time.Now()
			open = s.get(t, topicsQuery("a"), nil)
			ready = open.next()
			rpc = s.watch(t.Context(), t, &freshetv1.WatchRequest{Topics: []string{"a"}})
			defer rpc.Close()
			require.True(t, rpc.Receive())
			open.expectEnd("expired", ready.lastID)
			require.False(t, rpc.Receive())
			require.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(rpc.Err()))
			require.GreaterOrEqual(t, time.Since(begin), 300*time.Millisecond)
			require.Less(t, time.Since(begin), 1300*time.Millisecond)
		})
	}
}

func (r *reader) expectEnd(reason, lastID string) {
	r.t.Helper()
	e := r.next()
	require.Equal(r.t, "end", e.kind)
	require.JSONEq(r.t, `{"reason":"`+reason+`"}`, e.data)
	require.False(r.t, e.hasID)
	require.Equal(r.t, lastID, e.lastID)
	e, more := <-r.events
	require.False(r.t, more, "it was told %+v", e)
}

// A stream whose reader doesn't drain ends as well: nobody waits for the reader.
func TestTakeOver_F18_slowReader(t *testing.T) {
	c := expiring(time.Second)
	c.WriteTimeout = time.Hour
	c.Heartbeat = 900 * time.Millisecond // it is looked at before, and TCP gives up after 2.25 s
	s := newSite(t, h1, c)
	begin := time.Now()
	topics := bigTopics()
	s.stalled(t, topics)
	eventually(t, "it has begun", func() bool { return s.streams() == 1 })
	for p := uint64(101); p < 200; p++ {
		s.publish(p, topics...)
	}
	// Nothing happens to it from here on, but that its credential expires.
	eventually(t, "it is cut", func() bool { return s.streams() == 0 })
	require.Less(t, time.Since(begin), 2*time.Second)
}

// Every stream is asked about once in each Reauthorize, however long it is open, and
// not all of them at once; what panics ends nothing.
func TestReauthorize_inTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams, every = 640, time.Minute
		var asked, atOnce atomic.Int64
		var answer atomic.Pointer[error]
		f := newFixture(t, Config{
			Reauthorize: every,
			Remember:    context.WithoutCancel,
			Authorize: func(ctx context.Context, topics []string) error {
				asked.Add(1)
				if n := atOnce.Add(1); n > askAtOnce {
					t.Errorf("%d questions at once", n)
				}
				defer atOnce.Add(-1)
				time.Sleep(time.Millisecond)
				switch err := answer.Load(); {
				case err == nil:
					return nil
				case *err == nil:
					panic("a hook's own fault")
				default:
					return *err
				}
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- f.server.Run(ctx) }()
		var ended []<-chan error
		for range streams {
			_, done := f.stream(ctx, t, &request{topics: []string{"a"}})
			ended = append(ended, done)
		}
		require.NoError(t, f.server.Reauthorize(ctx)) // all of them
		for range 3 {
			asked.Store(0)
			for range 60 {
				before := asked.Load()
				pass(every / 60)
				require.LessOrEqual(t, asked.Load()-before, int64(2*streams/turns))
			}
			require.InDelta(t, streams, asked.Load(), streams/turns)
		}
		var none error
		for _, nothing := range []error{none, errors.New("an outage"), connect.NewError(connect.CodeUnavailable, errors.New("later"))} {
			answer.Store(&nothing)
			pass(every + time.Second)
			require.Equal(t, streams, f.hub.Stats().Subscriptions)
		}
		denied := error(connect.NewError(connect.CodePermissionDenied, errors.New("withdrawn")))
		answer.Store(&denied)
		pass(every + time.Second)
		for _, done := range ended {
			require.ErrorIs(t, <-done, errRevoked)
		}
		require.Empty(t, f.server.granted.everyone())
		cancel()
		require.ErrorIs(t, <-ran, context.Canceled)
	})
}

// A subject that a commit names is asked about at once, whoever has issued it; others
// aren't. While nothing can be told, it is asked about again.
func TestHeed_revokedSubject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked [3]atomic.Int64
		var answer atomic.Pointer[connect.Error]
		f := newFixture(t, Config{
			Reauthorize: -1,
			Remember:    context.WithoutCancel,
			Credential: func(ctx context.Context) (string, time.Time) {
				return []string{"auth0|ada/1", "auth0|ada/1", "bob"}[ctx.Value(whoKey{}).(int)], time.Time{}
			},
			Authorize: func(ctx context.Context, _ []string) error {
				asked[ctx.Value(whoKey{}).(int)].Add(1)
				if err := answer.Load(); err != nil {
					return err
				}
				return nil
			},
		})
		counts := func() [3]int64 { return [3]int64{asked[0].Load(), asked[1].Load(), asked[2].Load()} }
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- f.server.Run(ctx) }()
		var ended [3]<-chan error
		for who := range 3 {
			_, ended[who] = f.stream(context.WithValue(ctx, whoKey{}, who), t, &request{topics: []string{"a"}})
		}
		heed := func(topics ...string) {
			f.server.Heed(freshet.Commit{Revision: at(110), Topics: topics})
			synctest.Wait()
		}
		heed("revoked/bob", "freshet/revoked", "freshet/revoked/", "freshet/revoked/eve", "a")
		require.Equal(t, [3]int64{1, 1, 1}, counts(), "as they began")
		heed("a", "freshet/revoked/auth0%7Cada%2F1")
		require.Equal(t, [3]int64{2, 2, 1}, counts())
		heed("freshet/revoked/auth0|ada/1") // nobody has escaped it
		require.Equal(t, [3]int64{3, 3, 1}, counts())

		for pattern, some := range map[freshet.Pattern]int64{
			"**": 1, "*/**": 1, "freshet/**": 1, "freshet/revoked/*": 1, "*/*/messages": 1,
			"messages": 0, "conversations/*/messages": 0, "*/messages": 0, "freshet/other/*": 0, "": 0,
		} {
			before := asked[2].Load()
			f.server.Heed(freshet.Commit{Revision: at(111), Floors: []freshet.Pattern{pattern}})
			synctest.Wait()
			require.Equal(t, some, asked[2].Load()-before, pattern)
		}
		before := asked[2].Load()
		f.server.HeedGap()
		synctest.Wait()
		require.Equal(t, before+1, asked[2].Load())

		answer.Store(connect.NewError(connect.CodeUnavailable, errors.New("later")))
		from := counts()
		heed("freshet/revoked/bob")
		pass(time.Second)
		pass(2 * time.Second)
		require.Equal(t, [3]int64{from[0], from[1], from[2] + 3}, counts())
		answer.Store(connect.NewError(connect.CodePermissionDenied, errors.New("withdrawn")))
		pass(4 * time.Second)
		require.ErrorIs(t, <-ended[2], errRevoked)
		require.Empty(t, ended[0])
		heed("freshet/revoked/auth0%7Cada%2F1")
		require.ErrorIs(t, <-ended[0], errRevoked)
		require.ErrorIs(t, <-ended[1], errRevoked)
		pass(time.Minute)
		cancel()
		require.ErrorIs(t, <-ran, context.Canceled)
	})
}

// A stream that began while its subject was asked about was perhaps not among those:
// it is asked about again.
func TestHeed_whileAStreamBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f *fixture
		asked := 0
		f = newFixture(t, Config{
			Remember: context.WithoutCancel,
			Authorize: func(context.Context, []string) error {
				if asked++; asked > 1 {
					return connect.NewError(connect.CodePermissionDenied, errors.New("withdrawn"))
				}
				f.server.Heed(freshet.Commit{Revision: at(110), Topics: []string{"freshet/revoked/ada"}})
				time.Sleep(time.Millisecond) // Run has asked about all there are
				return nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- f.server.Run(ctx) }()
		_, refused := f.server.start(ctx, &request{topics: []string{"a"}})
		require.NotNil(t, refused)
		require.Equal(t, connect.CodePermissionDenied, refused.code)
		cancel()
		<-ran
	})
}

// More subjects than anybody wants to remember are as good as everybody.
func TestHeed_isBounded(t *testing.T) {
	f := newFixture(t, Config{})
	for i := range maxRevoked + 1 {
		f.server.Heed(freshet.Commit{Revision: at(110), Topics: []string{"freshet/revoked/" + time.Duration(i).String()}})
	}
	subjects, everybody := f.server.granted.news.take()
	require.Empty(t, subjects)
	require.True(t, everybody)
}

// Without grants nobody follows Freshet's own topics; with them, whoever has one.
func TestAuthorize_reservedTopics(t *testing.T) {
	f := newFixture(t, Config{})
	_, refused := f.server.start(t.Context(), &request{topics: []string{"a", "freshet/revoked/ada"}})
	require.Equal(t, http.StatusForbidden, refused.status)
	f = newFixture(t, Config{Authorize: func(context.Context, []string) error { return nil }})
	session, refused := f.server.start(t.Context(), &request{topics: []string{"a", "freshet/revoked/ada"}})
	require.Nil(t, refused)
	session.close()
}
