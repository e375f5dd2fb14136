package stream

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Streams end one after the other, evenly, and until then each is served as ever.
func TestShutdown_spreads(t *testing.T) {
	bothWays(t, Config{}, func(t *testing.T, f *fixture) {
		const streams, over = 200, time.Second
		var recs []*recorder
		var all []<-chan error
		for range streams {
			rec, done := f.stream(t.Context(), t, &request{topics: []string{"a"}})
			recs, all = append(recs, rec), append(all, done)
		}
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- f.server.Shutdown(t.Context(), over) }()
		pass(over/2 + time.Millisecond)
		f.publish(110, "a")
		require.NoError(t, <-ended)
		var at []time.Duration
		told := 0
		for i, rec := range recs {
			require.NoError(t, <-all[i])
			events := rec.all()
			last := events[len(events)-1]
			require.Equal(t, "goodbye", last.kind)
			at = append(at, last.after)
			if slices.ContainsFunc(events, func(e recorded) bool { return e.kind == "invalidate" }) {
				told++
				require.EqualValues(t, 110, last.rev.Position)
			}
		}
		require.Equal(t, streams/2-1, told, "those that were open still")
		slices.Sort(at)
		for i, when := range at {
			require.Equal(t, time.Duration(i)*over/streams, when, "the %dth", i)
		}
	})
}

// A few streams are not spread over all the time there is, and who comes late to
// the queue, since its reader was slow, is not kept for that.
func TestShutdown_spreadsNoMoreThanNeeded(t *testing.T) {
	bothWays(t, Config{}, func(t *testing.T, f *fixture) {
		var all []<-chan error
		for range 3 {
			_, done := f.stream(t.Context(), t, &request{topics: []string{"a"}})
			all = append(all, done)
		}
		slow := &recorder{start: time.Now(), hold: make(chan struct{})}
		session, refused := f.server.start(t.Context(), &request{topics: []string{"a"}})
		require.Nil(t, refused)
		done := make(chan error, 1)
		go func() { done <- f.drive(t.Context(), session, slow) }()
		synctest.Wait()
		f.publish(110, "a")
		synctest.Wait()
		began := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- f.server.Shutdown(t.Context(), time.Hour) }()
		for _, d := range all {
			require.NoError(t, <-d)
		}
		require.LessOrEqual(t, time.Since(began), 3*longestGap)
		pass(time.Second)
		began = time.Now()
		close(slow.hold)
		require.NoError(t, <-done)
		require.NoError(t, <-ended)
		require.Zero(t, time.Since(began))
	})
}
