package wal

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The keeper doesn't move the slot more often than every so often, rests for longer
// after a move that cost much, and takes the slot in hand where nothing is to be moved.
func TestKeeper_due(t *testing.T) {
	tried := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		cost, interval time.Duration
		behind         bool
		rest           time.Duration
	}{
		"ordinary":         {5 * time.Millisecond, 10 * time.Second, true, 10 * time.Second},
		"slow":             {2 * time.Second, 10 * time.Second, true, 100 * time.Second},
		"idle":             {5 * time.Millisecond, 10 * time.Second, false, 30 * time.Second},
		"idle, and slow":   {2 * time.Second, 10 * time.Second, false, 100 * time.Second},
		"idle, and seldom": {0, time.Minute, false, time.Minute},
	} {
		k := keeper{s: &session{f: &Feed{cfg: Config{KeepInterval: c.interval}}}, tried: tried, cost: c.cost}
		require.False(t, k.due(tried.Add(c.rest-time.Millisecond), c.behind), name)
		require.True(t, k.due(tried.Add(c.rest), c.behind), name)
	}
	require.True(t, (&keeper{s: &session{f: &Feed{cfg: Config{KeepInterval: time.Hour}}}}).due(tried.Add(time.Hour*1e6), true), "never moved")
}

// A move is taken to cost no more than rereading its WAL can take.
func TestMoveCost(t *testing.T) {
	require.Equal(t, 5*time.Millisecond, moveCost(5*time.Millisecond, 16<<20), "a fast server")
	require.Equal(t, 20*time.Second, moveCost(20*time.Second, 2<<30), "much is reread")
	require.Equal(t, 20*time.Millisecond, moveCost(9*time.Second, 1<<20), "a standby was waited for")
	require.Zero(t, moveCost(time.Second, 0))
	require.Equal(t, time.Hour, moveCost(time.Hour, math.MaxUint64), "where the slot reads from is not known")
}

// Copies have names that teardown and doctor know, and that Postgres takes.
func TestCopyName(t *testing.T) {
	name := copyName("freshet")
	require.Regexp(t, `^freshet_[0-9a-f]{8}$`, name)
	require.NotEqual(t, name, copyName("freshet"))
}
