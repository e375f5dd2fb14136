package sim

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// typical are costs of the order that was measured.
var typical = Costs{
	Write: 100, Walsender: 10, WalsenderWake: 15, Gate: 40, Probe: 60, Statement: 80,
	Idle: 5000, Decode: 12, Wake: 40, GateAsk: 30, Tell: 100, Frame: 7, Heartbeat: 1.8, Call: 50, Query: 80, WriteCall: 200,
	Apply: 3, ApplyWake: 20, Relay: 20, BusIn: 2, BusOut: 2, BusKB: 1,
	Stream: 10, Base: 40, PerTopic: 180, Flush: 300, RoundTrip: 100, Network: 200, Nap: 50, Cool: 1000,
	FrameBytes: 200, AnswerBytes: 7000, RelayBytes: 40,
}

func rooms(clients int) Load {
	return Load{
		Clients: clients, Topics: 1, Followers: 20, Commits: float64(clients) / 100,
		Refetch: true, ByCalls: true, Throttle: 0.1, ReadPace: 0.1, ProbeEach: 0.01,
	}
}

func shows(t *testing.T, l Load, f Fleet, seconds, tolerance float64) {
	t.Helper()
	r, err := Run(1, typical, l, f, seconds)
	require.NoError(t, err)
	e, err := Expect(typical, l, f)
	require.NoError(t, err)
	for what, pair := range map[string][2]float64{
		"frames":            {e.Frames, r.Frames},
		"calls":             {e.Calls, r.Calls},
		"statements":        {e.Statements, r.AllStatements},
		"snapshots":         {e.Snapshots, r.Snapshots},
		"feed":              {e.Feed, r.Feed},
		"streams":           {e.Streams, r.Streams},
		"walsender":         {e.Walsender, r.Walsender},
		"walsenders":        {e.Walsenders, r.Walsenders},
		"primary":           {e.Primary, r.Primary},
		"bus":               {e.Bus, r.Bus * float64(f.BusCores)},
		"replicas' queries": {e.Replicas, r.Replica * float64(f.Replicas*f.ReplicaCores)},
	} {
		if pair[0] == 0 {
			require.Zero(t, pair[1], what)
			continue
		}
		require.InEpsilon(t, pair[0], pair[1], tolerance, "%s: expected %v, simulated %v", what, pair[0], pair[1])
	}
}

// The simulation does, on average, what the closed forms say, for fleets of each kind.
func TestRun_asExpected(t *testing.T) {
	small := Fleet{Nodes: 1, Cores: 4, PrimaryCores: 8}
	for name, c := range map[string]struct {
		load  Load
		fleet Fleet
	}{
		"one node":      {rooms(20_000), small},
		"several":       {rooms(60_000), Fleet{Nodes: 5, Cores: 4, PrimaryCores: 16}},
		"with replicas": {rooms(60_000), Fleet{Nodes: 5, Cores: 4, PrimaryCores: 16, Replicas: 2, ReplicaCores: 4}},
		"with a relay":  {rooms(200_000), Fleet{Nodes: 8, Cores: 4, PrimaryCores: 32, Relay: true, BusCores: 4}},
		"by affinity":   {rooms(200_000), Fleet{Nodes: 8, Cores: 4, PrimaryCores: 32, Affinity: true}},
		"several topics each, by affinity": {
			Load{Clients: 100_000, Topics: 5, Followers: 50, Commits: 200, Refetch: true, Throttle: 0.1, ReadPace: 0.1, ProbeEach: 0.01},
			Fleet{Nodes: 4, Cores: 4, PrimaryCores: 8, Affinity: true},
		},
		"one topic": {
			Load{Clients: 9000, Topics: 1, Followers: 9000, Commits: 20, Throttle: 0.1, ReadPace: 0.1, ProbeEach: 0.01},
			Fleet{Nodes: 3, Cores: 4, PrimaryCores: 4},
		},
	} {
		t.Run(name, func(t *testing.T) { shows(t, c.load, c.fleet, max(2, 1000/c.load.Commits), 0.1) })
	}
}

func TestRun_seed(t *testing.T) {
	f := Fleet{Nodes: 4, Cores: 2, PrimaryCores: 8}
	a, err := Run(7, typical, rooms(20_000), f, 1)
	require.NoError(t, err)
	b, err := Run(7, typical, rooms(20_000), f, 1)
	require.NoError(t, err)
	require.Equal(t, a, b, "the same for the same seed")
	c, err := Run(8, typical, rooms(20_000), f, 1)
	require.NoError(t, err)
	require.NotEqual(t, a, c)
	require.InEpsilon(t, a.Frames, c.Frames, 0.15, "but not much else")
}

// What is asked for more than it can do is late, and ever later.
func TestRun_overload(t *testing.T) {
	l, f := rooms(50_000), Fleet{Nodes: 1, Cores: 1, PrimaryCores: 8}
	e, err := Expect(typical, l, f)
	require.NoError(t, err)
	require.Greater(t, e.Streams, 0.6)
	good, err := Run(1, typical, l, f, 2)
	require.NoError(t, err)
	require.Less(t, good.FreshP99, 0.1)
	l.Commits *= 3
	late, err := Run(1, typical, l, f, 2)
	require.NoError(t, err)
	require.Greater(t, late.FreshP50, 0.2)
}

// Many who refetch the same share a statement: one per key, node and pace window.
func TestRun_statements(t *testing.T) {
	l := Load{Clients: 4000, Topics: 1, Followers: 4000, Commits: 1, Even: true, Refetch: true, Throttle: 0.1, ReadPace: 0.1}
	f := Fleet{Nodes: 1, Cores: 2, PrimaryCores: 2}
	r, err := Run(1, typical, l, f, 10)
	require.NoError(t, err)
	require.InDelta(t, 4000, r.Calls, 1)
	require.InDelta(t, 1, r.Statements, 0.01)

	l.Commits, l.Throttle, l.Clients, l.Followers = 1000, 0, 50, 50
	f.Cores = 4
	r, err = Run(1, typical, l, f, 10)
	require.NoError(t, err)
	require.InEpsilon(t, 10, r.Statements, 0.2, "paced")

	l = Load{Clients: 3000, Topics: 1, Followers: 3000, Commits: 1, Even: true, Refetch: true, Throttle: 0.1, ReadPace: 0.1}
	r, err = Run(1, typical, l, Fleet{Nodes: 3, Cores: 2, PrimaryCores: 2}, 10)
	require.NoError(t, err)
	require.InDelta(t, 3, r.AllStatements, 0.3, "one per node")
}

func TestModel_bad(t *testing.T) {
	l, f := rooms(1000), Fleet{Nodes: 1, Cores: 1, PrimaryCores: 1}
	for _, spoil := range []func(*Load, *Fleet){
		func(l *Load, _ *Fleet) { l.Clients = 0 },
		func(l *Load, _ *Fleet) { l.Commits = 0 },
		func(_ *Load, f *Fleet) { f.Nodes = 0 },
		func(_ *Load, f *Fleet) { f.Replicas = 1 },
		func(_ *Load, f *Fleet) { f.Relay = true },
	} {
		l, f := l, f
		spoil(&l, &f)
		_, err := Run(1, typical, l, f, 1)
		require.ErrorIs(t, err, errModel)
		_, err = Expect(typical, l, f)
		require.ErrorIs(t, err, errModel)
	}
}

// One snapshot is for all that came while the last was taken: the busy periods of a
// server that serves at once whoever waits.
func TestRun_snapshots(t *testing.T) {
	c := Costs{Gate: 50, RoundTrip: 5000}
	for _, commits := range []float64{50, 200, 1000, 3000} {
		l := Load{Clients: 1, Topics: 1, Followers: 1, Commits: commits, Throttle: 1}
		r, err := Run(1, c, l, Fleet{Nodes: 1, Cores: 1, PrimaryCores: 1}, 60)
		require.NoError(t, err)
		require.InEpsilon(t, merged(commits, 5050e-6), r.Snapshots, 0.03, "%v commits/s", commits)
	}
}
