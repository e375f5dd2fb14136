package sim

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A throttle merges as it was measured to: bench/results/2026-11-25-curves, 1,000
// connections. Frames are per notice and connection. Points lasted a second, so that
// those of the longest windows had three frames and the rest of one.
func TestMeasured_throttle(t *testing.T) {
	for _, point := range []struct{ rate, window, frames, tolerance float64 }{
		{100, 0.001, 1.000, 0.02},
		{100, 0.030, 0.339, 0.05},
		{100, 0.100, 0.110, 0.10},
		{100, 0.300, 0.042, 0.25},
		{10, 0.099, 1.000, 0.02},
		{1000, 0.100, 0.011, 0.10},
		{3000, 0.100, 0.004, 0.20},
		{10_000, 0.100, 0.001, 0.10},
	} {
		l := Load{Clients: 100, Topics: 1, Followers: 100, Commits: point.rate, Even: true, Throttle: point.window}
		r, err := Run(1, Costs{}, l, Fleet{Nodes: 1, Cores: 1, PrimaryCores: 1}, 10)
		require.NoError(t, err)
		require.InEpsilon(t, point.frames, r.Frames/r.Notices, point.tolerance, "%v/s within %v s", point.rate, point.window)
	}
}

// Two costs, from the ends of a curve, foretell what is between: the server's CPU per
// notice, by connections (bench/results/2026-11-25-curves, 4 notices a second).
func TestMeasured_connections(t *testing.T) {
	const few, many = 100, 19_000
	const ofFew, ofMany = 1179.0, 144_442.0 // µs per notice
	var c Costs
	c.Frame = (ofMany - ofFew) / (many - few)
	c.Tell = ofFew - few*c.Frame
	for connections, micros := range map[int]float64{300: 2492, 1000: 6965, 3000: 20_264, 10_000: 73_812} {
		l := Load{Clients: connections, Topics: 1, Followers: connections, Commits: 4, Even: true}
		r, err := Run(1, c, l, Fleet{Nodes: 1, Cores: 1, PrimaryCores: 1}, 10)
		require.NoError(t, err)
		require.InEpsilon(t, micros, r.Streams*1e6/r.Commits, 0.2, "%d connections", connections)
	}
}

// The share of a commit that each of 10,000 readers of its own topic pays falls as
// topics have more of them (the same results, 20 notices a second).
func TestMeasured_followers(t *testing.T) {
	const ofOne, ofAll = 414.0, 71_042.0 // µs per notice
	var c Costs
	c.Frame = (ofAll - ofOne) / (10_000 - 1)
	c.Tell = ofOne - c.Frame
	for followers, micros := range map[int]float64{10: 539, 100: 1530, 1000: 9650} {
		l := Load{Clients: 10_000, Topics: 1, Followers: followers, Commits: 20, Even: true}
		r, err := Run(1, c, l, Fleet{Nodes: 1, Cores: 1, PrimaryCores: 1}, 10)
		require.NoError(t, err)
		require.InEpsilon(t, micros, r.Streams*1e6/r.Commits, 0.3, "%d followers", followers)
	}
}
