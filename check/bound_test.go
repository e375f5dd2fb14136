package check_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/check"
)

// F86, G3: a client has its whole time, from the end of the writes, from when its stream
// began, or from when a new history was served, whichever is last; and while a failover
// goes on nobody is late. Who comes and goes all the time has four times as long.
func TestBound(t *testing.T) {
	const began, patience = 100 * time.Second, 10 * time.Second
	for name, c := range map[string]struct {
		since, begun time.Duration
		stood        time.Duration
		held         freshet.Epoch
		want         time.Duration
		unknown      bool
	}{
		"connected long ago":           {since: 5 * time.Second, begun: time.Second, held: 2, want: 110 * time.Second},
		"its stream began late":        {since: 108 * time.Second, begun: time.Second, held: 2, want: 118 * time.Second},
		"a history was served late":    {since: 5 * time.Second, begun: 115 * time.Second, held: 2, want: 125 * time.Second},
		"nobody serves what is held":   {since: 5 * time.Second, begun: time.Second, held: 3, want: 140 * time.Second},
		"it is served no more":         {since: 5 * time.Second, begun: time.Second, held: 1, want: 140 * time.Second, unknown: true},
		"it comes and goes, and again": {since: 139 * time.Second, begun: time.Second, held: 2, want: 140 * time.Second, unknown: true},
		"the machine was paused":       {since: 5 * time.Second, begun: time.Second, stood: 20 * time.Second, held: 2, want: 130 * time.Second},
		"paused, and connected late":   {since: 135 * time.Second, begun: time.Second, stood: 20 * time.Second, held: 2, want: 160 * time.Second, unknown: true},
		"it is served at the very end": {since: 5 * time.Second, begun: 131 * time.Second, held: 2, want: 140 * time.Second, unknown: true},
	} {
		due, known := check.ConvergeBy(began, patience, c.since, c.begun, c.stood, 2, c.held)
		require.Equal(t, c.want, due, name)
		require.Equal(t, !c.unknown, known, name)
	}
}

// G3: nobody is accused of what it showed before its time was over, be it that its stream
// was down until late (of 30 s it would have had 11), or that Postgres took so long to say
// what it holds that the time was over then. Who shows it too late is accused.
func TestConverge(t *testing.T) {
	for name, c := range map[string]struct {
		connected, shows, reading time.Duration
		late                      bool
	}{
		"at once":                      {shows: time.Second},
		"in time":                      {shows: 29 * time.Second},
		"too late":                     {shows: 40 * time.Second, late: true},
		"connected for 11 s":           {connected: 19 * time.Second, shows: 35 * time.Second},
		"connected, and late":          {connected: 19 * time.Second, shows: 60 * time.Second, late: true},
		"Postgres is slow":             {shows: 25 * time.Second, reading: 16 * time.Second},
		"Postgres is slow, and it too": {shows: 80 * time.Second, reading: 16 * time.Second, late: true},
		"never connected":              {connected: time.Hour, shows: 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				views := check.Late(t.Context(), 30*time.Second, c.connected, c.shows, c.reading)
				require.Equal(t, c.late, len(views) > 0, "%v", views)
			})
		})
	}
}

// G3: time in which the checker got none is nobody's.
func TestStillness(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	require.Zero(t, check.Stood(40*s), "nobody ticks")
	require.Zero(t, check.Stood(3*s, 1*s, 1900*ms, 2100*ms))
	require.Equal(t, 30*s, check.Stood(32*s, 1*s, 31*s, 31100*ms), "it was paused")
	require.Equal(t, 30*s, check.Stood(31*s, 1*s), "and nobody has ticked since")
	require.Equal(t, 35*s, check.Stood(36500*ms, 1*s, 31*s, 31100*ms, 36100*ms), "twice")
}

// A run that is stopped while Postgres is of an epoch before the one that is served, or
// of none yet, isn't judged by what it says: what it seems to have lost may be there.
func TestRun_stoppedInAFailover(t *testing.T) {
	require.True(t, check.Stopped(t.Context(), 7, 7))
	require.True(t, check.Stopped(t.Context(), 7, 8), "nobody has been told yet")
	require.False(t, check.Stopped(t.Context(), 8, 7))
	require.False(t, check.Stopped(t.Context(), 7, 0), "none has begun since Postgres was started")
}

// F42: what is sent after Postgres was started anew is of a later epoch than all that had
// been told when it was stopped, also before anybody is told of the next one.
func TestRun_F42_whatARestartEnds(t *testing.T) {
	at := func(epoch freshet.Epoch, position uint64) freshet.Revision {
		return freshet.Revision{Epoch: epoch, Position: position}
	}
	require.Equal(t, [3]freshet.Revision{at(7, 100), at(8, 0), at(8, 50)}, check.Floors(t.Context(), at(7, 100), at(7, 120), at(8, 50)))
	require.Equal(t, [3]freshet.Revision{at(7, 100), at(8, 40), at(8, 50)}, check.Floors(t.Context(), at(7, 100), at(8, 40), at(8, 50)), "told of the next meanwhile")
}
