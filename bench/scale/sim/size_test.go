package sim

import (
	"testing"

	"github.com/stretchr/testify/require"
)

var limits = Limits{
	Busy: 0.6, StreamsPerNode: 50_000, NodeCores: 4, NodeGiB: 16, PrimaryCores: []int{2, 4, 8, 16, 32, 64}, BusCores: 8, BusBytes: 1.25e9,
}

// What is sized has room, and a shard less, or a node less, hasn't.
func TestSize(t *testing.T) {
	for _, clients := range []int{1000, 100_000, 1_000_000, 10_000_000} {
		for _, want := range []Fleet{{}, {Replicas: 1}, {Affinity: true}, {Relay: true}, {Replicas: 1, Affinity: true, Relay: true}} {
			p, err := Size(typical, rooms(clients), want, limits)
			require.NoError(t, err)
			_, used := tightest(p.Expect, p.Fleet, limits)
			require.LessOrEqual(t, used, limits.Busy)
			require.LessOrEqual(t, p.Expect.Streams, limits.Busy*float64(p.Fleet.Cores))
			require.LessOrEqual(t, p.Expect.StreamsPerNode, float64(limits.StreamsPerNode))
			require.LessOrEqual(t, p.Expect.Primary, limits.Busy*float64(p.Fleet.PrimaryCores))
			require.LessOrEqual(t, p.Expect.Replicas, limits.Busy*float64(p.Fleet.Replicas*p.Fleet.ReplicaCores))
			require.Equal(t, p.Shards == 1, p.Limit == "")
			if p.Shards > 1 {
				fewer, e, err := Nodes(typical, rooms(clients).shard(p.Shards-1), want, limits)
				require.NoError(t, err)
				_, used := tightest(e, fewer, limits)
				require.Greater(t, used, limits.Busy, "%d shards for %d clients of %+v", p.Shards, clients, want)
			}
		}
	}
}

// Of what a fleet does without, it breaks sooner.
func TestBreaks(t *testing.T) {
	plain, err := Breaks(typical, rooms, Fleet{}, limits)
	require.NoError(t, err)
	spread, err := Breaks(typical, rooms, Fleet{Affinity: true, Relay: true}, limits)
	require.NoError(t, err)
	require.Less(t, plain[ThePrimary], spread[ThePrimary])
	require.NotContains(t, plain, TheBus)
	// One walsender has the same to do, however many there are.
	require.Equal(t, plain[TheWalsender], spread[TheWalsender])
	// At 100 clients a commit and second, 10 µs each would be six million.
	require.InEpsilon(t, 5_000_000, plain[TheWalsender], 0.25, "woken now and then besides")
}
