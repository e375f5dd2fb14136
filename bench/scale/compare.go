package main

import (
	"fmt"

	"github.com/freshet-dev/freshet/bench/scale/sim"
)

// comparison is a figure that was measured beside the one that the simulation foretells.
type comparison struct {
	What      string  `json:"what"`
	Unit      string  `json:"unit"`
	Measured  float64 `json:"measured"`
	Simulated float64 `json:"simulated"`
}

func (c comparison) ratio() float64 { return c.Simulated / c.Measured }

// within is by how much a simulated figure may differ from the measured one, as a
// factor: what tests hold it to.
const within = 1.5

// comparisons have the cells of the measurement that costs weren't taken from, and older
// results of other benches.
func (m *measurement) comparisons(c sim.Costs) ([]comparison, error) {
	var found []comparison
	f := figures{m}
	add := func(what, unit string, measured, simulated float64) {
		found = append(found, comparison{what, unit, measured, simulated})
	}
	here := c
	here.Nap = m.nap() * 1e6
	here.RoundTrip, here.Flush = 60, 300 // over a socket of the same machine
	for _, at := range []struct {
		nodes int
		rate  float64
	}{{1, 400}, {1, 1000}, {2, 400}, {4, 400}, {4, 1000}} {
		nobody := here
		nobody.Tell, nobody.Frame, nobody.Heartbeat = 0, 0, 0
		commits := f.commits(at.nodes, at.rate, func(c *cell) float64 { return c.Commits })
		r, err := sim.Run(1, nobody, sim.Load{Clients: 1, Topics: 1, Followers: 1, Commits: commits, ProbeEach: 1.0 / probesASecond},
			sim.Fleet{Nodes: at.nodes, Cores: 2, PrimaryCores: 2}, 20)
		if err != nil {
			return nil, err
		}
		what := func(of string) string { return fmt.Sprintf("%d nodes, %.0f commits/s: %s", at.nodes, commits, of) }
		add(what("walsenders"), "CPUs", f.commits(at.nodes, at.rate, does(walsenders)), r.Walsenders)
		add(what("gates' snapshots"), "/s", f.commits(at.nodes, at.rate, func(c *cell) float64 { return c.Snapshots }), r.Snapshots)
		add(what("gates and probes"), "CPUs", f.commits(at.nodes, at.rate, func(c *cell) float64 { return c.CPU[gates] + c.CPU[probes] }),
			r.Gates+c.Probe*1e-6*probesASecond*float64(at.nodes))
		add(what("one node"), "CPUs", f.commits(at.nodes, at.rate, (*cell).nodeCPU), r.Feed+r.Streams)
	}
	for _, nodes := range []int{1, 3} {
		streams := m.Options.Streams * nodes
		told := here
		told.Tell = tellAt100
		commits := f.fan(nodes, func(c *cell) float64 { return c.Commits })
		r, err := sim.Run(1, told, sim.Load{Clients: streams, Topics: 1, Followers: streams / fanTopics, Commits: commits, ProbeEach: 1.0 / probesASecond},
			sim.Fleet{Nodes: nodes, Cores: 2, PrimaryCores: 2}, 20)
		if err != nil {
			return nil, err
		}
		what := fmt.Sprintf("%d nodes with %d streams each, %.0f commits/s: ", nodes, m.Options.Streams, commits)
		add(what+"frames of one", "/s", f.fan(nodes, func(c *cell) float64 { return c.Frames / float64(c.Nodes) }), r.Frames)
		add(what+"one node", "CPUs", f.fan(nodes, (*cell).nodeCPU), r.Feed+r.Streams)
	}
	older, err := olderResults()
	return append(found, older...), err
}

// tellAt100 is what a commit takes besides its frames at a hundred a second
// (bench/results/2026-11-25-curves: 157 µs with one frame).
const tellAt100 = 157 - 7.6

// quiet are the costs of a machine that does nothing else, over a Unix socket, by
// docs/performance.md: per row with 32 writers; and a wake of a walsender and of a node
// at 1,000 commits a second.
var quiet = sim.Costs{
	Write: 150, Walsender: 10, WalsenderWake: 10, Gate: 35, Statement: 60,
	Decode: 12, Wake: 30, GateAsk: 20, Tell: 20, Frame: 7.6, Call: 57.5, Query: 60,
	Nap: 50, Flush: 300, RoundTrip: 50, Network: 100,
}

// olderResults are of the 25th of November, on a quiet machine: bench/results/…-latency,
// …-refetch and …-curves.
func olderResults() (found []comparison, err error) {
	run := func(l sim.Load, seconds float64) *sim.Result {
		r, runErr := sim.Run(1, quiet, l, sim.Fleet{Nodes: 1, Cores: 2, PrimaryCores: 2}, seconds)
		if runErr != nil {
			err = runErr
			return new(sim.Result)
		}
		return r
	}
	// The client waits for its own timers, too; one stream, one page.
	for _, at := range []struct{ rate, told50, told99, fresh50, fresh99 float64 }{
		{21, 0.70, 1.16, 2.10, 3.02},
		{995, 0.43, 1.48, 1.82, 3.97},
	} {
		// Each commit is told to its own follower, and read by it.
		r := run(sim.Load{Clients: 1000, Topics: 1, Followers: 1, Commits: at.rate, Refetch: true}, 30)
		what := fmt.Sprintf("%.0f commits/s, quiet: commit → ", at.rate)
		found = append(found,
			comparison{what + "notice, p50", "ms", at.told50, r.ToldP50*1000 + quiet.Network/1000},
			comparison{what + "notice, p99", "ms", at.told99, r.ToldP99*1000 + quiet.Network/1000},
			comparison{what + "refetched, p50", "ms", at.fresh50, r.FreshP50 * 1000},
			comparison{what + "refetched, p99", "ms", at.fresh99, r.FreshP99 * 1000})
	}
	r := run(sim.Load{Clients: 4000, Topics: 1, Followers: 4000, Commits: 1, Even: true, Refetch: true}, 20)
	found = append(found,
		comparison{"4,000 refetch one read: statements", "", 1, r.Statements},
		comparison{"4,000 refetch one read: the node, per answer", "µs", 57.5, (r.Streams - 4000*quiet.Frame*1e-6) * 1e6 / r.Calls})
	for _, at := range []struct{ rate, window, frames float64 }{{100, 30, 0.339}, {100, 100, 0.110}, {1000, 100, 0.011}, {10_000, 100, 0.001}} {
		r := run(sim.Load{Clients: 100, Topics: 1, Followers: 100, Commits: at.rate, Even: true, Throttle: at.window / 1000}, 10)
		found = append(found, comparison{fmt.Sprintf("%.0f notices/s, throttle of %.0f ms: frames per notice", at.rate, at.window), "", at.frames, r.Frames / r.Notices})
	}
	return found, err
}
