package stream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSession_throttleHasALeadingAndATrailingEdge(t *testing.T) {
	bothWays(t, Config{}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		rec, done := f.stream(ctx, t, &request{topics: []string{"a", "b", "c"}, throttle: time.Second})
		synctest.Wait()
		f.publish(101, "a")
		synctest.Wait()
		f.publish(102, "b")
		f.publish(103, "a")
		pass(400 * time.Millisecond)
		f.publish(104, "c", "x")
		pass(3 * time.Second)
		f.publish(105, "a") // the throttle is over: a leading edge again
		synctest.Wait()
		require.Equal(t, []string{
			"0s ready 100 ",
			"0s invalidate 101 a",
			"1s invalidate 104 b,a,c",
			"3.4s invalidate 105 a",
		}, rec.log(0))
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

// F12, F17: writes without a pause reach the reader at the throttle's rate,
// and the last one is never lost. A debounce would tell nothing until the end.
func TestSession_steadyWritesNeitherFloodNorStarve(t *testing.T) {
	bothWays(t, Config{}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		rec, done := f.stream(ctx, t, &request{topics: []string{"a"}, throttle: 100 * time.Millisecond})
		p := uint64(100)
		for range 10_000 {
			p++
			f.publish(p, "a")
			pass(100 * time.Microsecond)
		}
		pass(time.Second)
		events := rec.all()[1:]
		require.GreaterOrEqual(t, len(events), 10)
		require.LessOrEqual(t, len(events), 12)
		require.Equal(t, at(p), events[len(events)-1].rev)
		for i := 1; i < len(events); i++ {
			require.Equal(t, 100*time.Millisecond, events[i].after-events[i-1].after)
		}
		cancel()
		<-done
	})
}

func TestSession_withoutThrottle(t *testing.T) {
	bothWays(t, Config{}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		rec, done := f.stream(ctx, t, &request{topics: []string{"a"}})
		for p := uint64(101); p < 111; p++ {
			synctest.Wait()
			f.publish(p, "a")
		}
		synctest.Wait()
		require.Len(t, rec.log(1), 10)
		cancel()
		<-done
	})
}

func TestSession_catchUpThenReadyThenLive(t *testing.T) {
	bothWays(t, Config{}, func(t *testing.T, f *fixture) {
		f.publish(110, "a")
		f.publish(120, "b")
		f.publish(130, "other")
		ctx, cancel := context.WithCancel(t.Context())
		session, refused := f.server.start(ctx, &request{topics: []string{"a", "b"}, since: hub.Since{All: at(105)}})
		require.Nil(t, refused)
		f.publish(140, "a") // between registration and the first frame
		rec := &recorder{start: time.Now()}
		done := make(chan error, 1)
		go func() { done <- f.drive(ctx, session, rec) }()
		synctest.Wait()
		require.Equal(t, []string{"0s invalidate 120 a,b", "0s ready 130 ", "0s invalidate 140 a"}, rec.log(0))
		require.Equal(t, 2, rec.all()[1].nTopics)
		cancel()
		<-done
	})
}

func TestSession_heartbeatFlushesWhatIsDirtyFirst(t *testing.T) {
	bothWays(t, Config{Heartbeat: 15 * time.Second}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		rec, done := f.stream(ctx, t, &request{topics: []string{"a"}, throttle: MaxThrottle})
		pass(10 * time.Second)
		f.publish(110, "a")
		synctest.Wait()
		f.publish(120, "a")
		f.publish(130, "x")
		pass(30 * time.Second)
		require.Equal(t, []string{
			"10s invalidate 110 a", "15s invalidate 120 a", "15s frontier 130 ", "30s frontier 130 ",
		}, rec.log(1))
		require.Equal(t, 15*time.Second, rec.all()[3].lag)
		cancel()
		<-done
	})
}

func TestSession_crossingTheLagIsToldAtOnce(t *testing.T) {
	bothWays(t, Config{MaxLag: 5 * time.Second, Heartbeat: time.Minute}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		watched := make(chan error, 1)
		go func() { watched <- f.server.Run(ctx) }()
		rec, done := f.stream(ctx, t, &request{topics: []string{"a"}, throttle: time.Second})
		pass(5 * time.Second)
		require.Len(t, rec.log(1), 0)
		pass(2 * time.Millisecond)
		require.Equal(t, []string{"5.001s frontier 100 "}, rec.log(1))
		require.Equal(t, 5001*time.Millisecond, rec.all()[1].lag)

		late, lateDone := f.stream(ctx, t, &request{topics: []string{"a"}})
		synctest.Wait()
		require.Equal(t, []string{"0s ready 100 ", "0s frontier 100 "}, late.log(0), "a stream that begins behind says so")

		pass(time.Second)
		f.publish(110, "a")
		synctest.Wait()
		f.publish(111, "a") // throttled
		f.hub.Current(time.Now())
		pass(100 * time.Millisecond)
		log := rec.log(2)
		require.Len(t, log, 3)
		require.Contains(t, log[0], "invalidate 110 a")
		require.Contains(t, log[1], "invalidate 111 a")
		require.Contains(t, log[2], "frontier 111")
		require.Less(t, rec.all()[4].lag, 100*time.Millisecond)

		// Kept current, nothing more is told before the heartbeat.
		for range 20 {
			pass(time.Second)
			f.hub.Current(time.Now())
		}
		require.Len(t, rec.log(5), 0)
		cancel()
		<-done
		<-lateDone
		require.ErrorIs(t, <-watched, context.Canceled)
	})
}

// A stream that begins just after the node has caught up, before Run has looked
// again, is not told of a lag that is over, and then that it is over.
func TestSession_beginsJustAfterTheLag(t *testing.T) {
	bothWays(t, Config{MaxLag: 5 * time.Second, Heartbeat: time.Minute}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		watched := make(chan error, 1)
		go func() { watched <- f.server.Run(ctx) }()
		before, beforeDone := f.stream(ctx, t, &request{topics: []string{"a"}})
		pass(5002 * time.Millisecond)
		require.Equal(t, []string{"0s ready 100 ", "5.001s frontier 100 "}, before.log(0))
		f.hub.Current(time.Now())
		rec, done := f.stream(ctx, t, &request{topics: []string{"a"}})
		pass(time.Second)
		require.Equal(t, []string{"0s ready 100 "}, rec.log(0))
		require.Equal(t, []string{"5.002s frontier 100 "}, before.log(2), "who was told of it hears that it is over")
		cancel()
		<-done
		<-beforeDone
		require.ErrorIs(t, <-watched, context.Canceled)
	})
}

func TestSession_whileTheHubIsNotServing(t *testing.T) {
	bothWays(t, Config{Heartbeat: 10 * time.Second}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		rec, done := f.stream(ctx, t, &request{topics: []string{"a", "b"}, throttle: time.Second})
		synctest.Wait()
		f.publish(110, "a")
		f.hub.Begin(at(150))
		f.publish(160, "b")
		pass(20 * time.Second)
		require.Equal(t, []string{"0s invalidate 110 a", "10s frontier 110 ", "20s frontier 110 "}, rec.log(1),
			"heartbeats go on with the last id")
		require.Equal(t, 20*time.Second, rec.all()[3].lag)
		f.hub.Serve(at(170))
		synctest.Wait()
		require.Equal(t, []string{"20s invalidate 170 a,b"}, rec.log(4))
		cancel()
		<-done
	})
}

func TestSession_anotherEpochResetsWithoutWaitingForTheThrottle(t *testing.T) {
	bothWays(t, Config{}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		rec, done := f.stream(ctx, t, &request{topics: []string{"a", "b"}, throttle: MaxThrottle})
		synctest.Wait()
		f.publish(110, "a")
		synctest.Wait()
		f.publish(111, "b") // throttled, and of no interest after the reset
		next := freshet.Revision{Epoch: 8, Position: 5}
		f.hub.Begin(next)
		pass(time.Second)
		f.hub.Serve(next)
		synctest.Wait()
		require.Equal(t, []string{"0s invalidate 110 a", "1s reset 5 "}, rec.log(1))
		require.Equal(t, next, rec.all()[2].rev)
		pass(15 * time.Second)
		last := rec.all()[len(rec.all())-1]
		require.Equal(t, "frontier", last.kind)
		require.Equal(t, next, last.rev, "ids go on in the new epoch")
		cancel()
		<-done
	})
}

func TestSession_shutdownSaysGoodbyeWithAllThatIsDirty(t *testing.T) {
	bothWays(t, Config{}, func(t *testing.T, f *fixture) {
		rec, done := f.stream(t.Context(), t, &request{topics: []string{"a"}, throttle: MaxThrottle})
		synctest.Wait()
		f.publish(110, "a")
		synctest.Wait()
		f.publish(120, "a")
		require.NoError(t, f.server.Shutdown(t.Context(), 0))
		require.NoError(t, <-done)
		require.Equal(t, []string{"0s invalidate 110 a", "0s invalidate 120 a", "0s goodbye 120 "}, rec.log(1))
		_, refused := f.server.start(t.Context(), &request{topics: []string{"a"}})
		require.Equal(t, 503, refused.status)
		require.NoError(t, f.server.Shutdown(t.Context(), 0), "again")
		require.Zero(t, f.hub.Stats().Subscriptions)
	})
}

func TestShutdown_isBoundedByItsContext(t *testing.T) {
	bothWays(t, Config{}, func(t *testing.T, f *fixture) {
		session, refused := f.server.start(t.Context(), &request{topics: []string{"a"}})
		require.Nil(t, refused)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, f.server.Shutdown(ctx, 0), context.DeadlineExceeded)
		session.close()
		require.NoError(t, f.server.Shutdown(t.Context(), 0))
		for range 100 {
			require.NoError(t, f.server.Shutdown(ctx, 0), "there is nothing left to wait for")
		}
	})
}

// F11: whoever doesn't read gets one event with all it missed.
func TestSession_slowReaderIsCurrentOnceItReads(t *testing.T) {
	bothWays(t, Config{}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		session, refused := f.server.start(ctx, &request{topics: []string{"a", "b"}})
		require.Nil(t, refused)
		rec := &recorder{start: time.Now(), hold: make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- f.drive(ctx, session, rec) }()
		synctest.Wait()
		f.publish(101, "b")
		synctest.Wait() // it is on its way to a reader who doesn't read
		for p := uint64(102); p <= 10_100; p++ {
			f.publish(p, []string{"a", "b"}[p%2])
		}
		synctest.Wait() // nothing is taken meanwhile
		close(rec.hold)
		pass(200 * time.Millisecond) // the throttle; not a heartbeat, which would tell it too
		require.LessOrEqual(t, len(rec.all()), 3, "%v", rec.log(0))
		require.Equal(t, at(10_100), rec.all()[len(rec.all())-1].rev)
		cancel()
		<-done
	})
}

func TestSession_endsWithItsEncoder(t *testing.T) {
	broken := errors.New("broken pipe")
	bothWays(t, Config{}, func(t *testing.T, f *fixture) {
		f.publish(110, "a")
		for _, since := range []hub.Since{{}, {All: at(100)}, {Reset: true}} {
			session, refused := f.server.start(t.Context(), &request{topics: []string{"a"}, since: since})
			require.Nil(t, refused)
			require.ErrorIs(t, f.drive(t.Context(), session, &recorder{fail: broken}), broken)
		}
		require.Zero(t, f.hub.Stats().Subscriptions)
	})
}

func TestNew_refusesNonsense(t *testing.T) {
	_, err := New(Config{})
	require.Error(t, err)
	for _, c := range []Config{{Throttle: MaxThrottle + 1}, {Heartbeat: -1}, {MaxTopics: -1}} {
		c.Hub = hub.New(hub.Config{})
		_, err := New(c)
		require.Error(t, err)
	}
}

// The hub may stop serving between the registration and its first notice: then
// there is no stream, rather than a ready without a revision.
func TestStart_neverWithoutAFrontier(t *testing.T) {
	f := newFixture(t, Config{})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for p := uint64(101); ; p++ {
			select {
			case <-stop:
				return
			default:
				f.hub.Begin(at(p))
				f.hub.Serve(at(p))
			}
		}
	}()
	started := 0
	for started < 20_000 {
		session, refused := f.server.start(t.Context(), &request{topics: []string{"a"}})
		if refused != nil {
			require.Equal(t, 503, refused.status)
			continue
		}
		started++
		require.False(t, session.first.Frontier.IsZero())
		session.close()
	}
	close(stop)
	<-stopped
	require.Zero(t, f.hub.Stats().Subscriptions)
}

// F63: streams that are sent away end as in a shutdown, with a goodbye, and none
// is taken until that is over.
func TestSession_F63_sentAway(t *testing.T) {
	bothWays(t, Config{Heartbeat: time.Minute}, func(t *testing.T, f *fixture) {
		rec, done := f.stream(t.Context(), t, &request{topics: []string{"a"}})
		pass(time.Second)
		f.publish(110, "a")
		f.server.Shed(true)
		pass(time.Millisecond)
		require.NoError(t, <-done)
		require.Equal(t, []string{"1s invalidate 110 a", "1s goodbye 110 "}, rec.log(1), "with what it had to tell")
		_, refused := f.server.start(t.Context(), &request{topics: []string{"a"}})
		require.Equal(t, "not_ready", refused.reason)
		f.server.Shed(false)
		ctx, cancel := context.WithCancel(t.Context())
		rec, done = f.stream(ctx, t, &request{topics: []string{"a"}})
		pass(time.Second)
		require.Len(t, rec.all(), 1)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}
