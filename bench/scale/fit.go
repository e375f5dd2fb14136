package main

import (
	"fmt"
	"math"

	"github.com/freshet-dev/freshet/bench/rig"
	"github.com/freshet-dev/freshet/bench/scale/sim"
)

// Costs from other benches, in µs of the server's CPU, and what is assumed.
var elsewhere = sim.Costs{
	// bench/results/2026-11-25-curves: 19,000 connections of one topic, 4 notices/s; and
	// 10,000 notices/s to one connection each, less the frame.
	Frame: 7.6, Tell: 8.1,
	// docs/performance.md: 19,000 idle connections take 3.4 % of a core for heartbeats.
	Heartbeat: 0.034 * 1e6 / 19_000,
	// bench/results/2026-11-25-refetch: JSON with gzip, 4,000 connections, after a write.
	Call: 50.6, AnswerBytes: 7200 + 500, // and headers of HTTP, TLS, TCP and IP
	// bench/results/2026-11-27-streams, HTTP/1.1 with TLS: resident; and 5 KiB of the
	// kernel's for a connection.
	Stream: 12.2 + 5,
	// bench/results/2026-11-25-curves: a million topics are 174 MiB.
	PerTopic: 174 * 1 << 20 / 1e6,
	Base:     60,

	// Assumed: times between machines of one place and to clients; a disk's flush; a
	// process that sleeps on a machine that isn't busy.
	RoundTrip: 300, Network: 20_000, Flush: 1000, Nap: 50,
	// A frame of one topic is some 150 bytes; and headers of TLS, TCP and IP.
	FrameBytes: 150 + 22 + 52,
	// Assumed, not measured: a follower of a relay parses a commit (1 µs) and gives it to
	// the hub (0.85 µs with a million topics); a frame wakes it; the holder encodes and
	// sends one. Four topics of 25 to 77 bytes are a commit's.
	// To ask for a snapshot takes as long as two system calls and a wake.
	GateAsk: 20,
	Apply:   3, ApplyWake: 60, Relay: 60, RelayBytes: 180,
}

// figures are medians over the rounds.
type figures struct{ m *measurement }

// of is a figure of the cells of a name, on so many nodes, with that rate or those calls.
func (f figures) of(name string, nodes int, rate float64, calls string, get func(*cell) float64) float64 {
	var values []float64
	for _, c := range f.m.Cells {
		if c.Name == name && c.Nodes == nodes && c.Rate == rate && c.Calls == calls && c.Streams == 0 {
			values = append(values, get(c))
		}
	}
	return rig.Median(values)
}

func (f figures) commits(nodes int, rate float64, get func(*cell) float64) float64 {
	return f.of(commitCells, nodes, rate, "", get)
}

// fan is a figure of the cells of fan-out with streams that are told.
func (f figures) fan(nodes int, get func(*cell) float64) float64 {
	var values []float64
	for _, c := range f.m.Cells {
		if c.Name == fanCells && c.Nodes == nodes && c.Streams > 0 && c.Rate == fanRate {
			values = append(values, get(c))
		}
	}
	return rig.Median(values)
}

// does is the CPU of Postgres' processes that do something.
func does(what string) func(*cell) float64 { return func(c *cell) float64 { return c.CPU[what] } }

func perCommit(get func(*cell) float64) func(*cell) float64 {
	return func(c *cell) float64 { return get(c) * 1e6 / c.Commits }
}

func perCall(get func(*cell) float64) func(*cell) float64 {
	return func(c *cell) float64 { return get(c) * 1e6 / c.Called }
}

const probesASecond = 100 // ProbeInterval's default

// costs are what the simulation is given.
func (m *measurement) costs() (sim.Costs, error) {
	f, c := figures{m}, elsewhere
	idle := f.commits(1, 0, (*cell).nodeCPU)
	c.Idle = idle * 1e6
	c.Probe = f.commits(1, 0, does(probes)) * 1e6 / probesASecond
	c.Gate = f.commits(1, flatOut, func(c *cell) float64 { return c.CPU[gates] * 1e6 / c.Snapshots })
	called := func(kind string, get func(*cell) float64) float64 {
		return f.of(busyCallCells, 1, 0, kind, perCall(get))
	}
	ofNode := func(c *cell) float64 { return c.nodeCPU() - idle }
	c.Query = called(strongCalls, ofNode) - called(keptCalls, ofNode)
	c.Statement = called(strongCalls, does(pools))
	c.Write = called(writeCalls, does(pools))
	c.WriteCall = called(writeCalls, ofNode)

	// A commit is dearer the rarer they are: for what is left of it at the highest rate,
	// and for what it takes to wake who has slept for long. A rare one has a snapshot of its
	// own, too.
	cool, sender, node := m.cooling()
	c.Cool = cool * 1e6
	c.Walsender, c.WalsenderWake = sender.own, sender.wake
	c.Decode, c.Wake = node.own, max(0, node.wake-c.GateAsk)

	if len(m.Bus) > 0 {
		c.BusIn, c.BusOut, c.BusKB = m.busCosts()
	}
	for name, value := range map[string]float64{
		"a probe": c.Probe, "a snapshot": c.Gate, "a write": c.Write, "a query": c.Query, "a statement": c.Statement, "a write's call": c.WriteCall,
		"a walsender's commit": c.Walsender, "a commit": c.Decode,
	} {
		if !(value > 0) || math.IsInf(value, 0) {
			return c, fmt.Errorf("%s: what it costs wasn't measured (%v)", name, value)
		}
	}
	return c, nil
}

// at is a place of a curve: µs per commit at a rate.
type at struct{ rate, micros float64 }

// line is a cost per commit on one node, by rate.
func (f figures) line(get func(*cell) float64) (all []at) {
	for _, rate := range commitRates {
		all = append(all, at{
			f.commits(1, rate, func(c *cell) float64 { return c.Commits }),
			f.commits(1, rate, perCommit(get)),
		})
	}
	return all
}

// commitRates of the cells on one node that tell of costs.
var commitRates = []float64{100, 400, 1000, flatOut}

// olderAt is what a commit cost at rates that this machine has no time for beside others.
type olderAt struct{ rate, walsender, node float64 }

// bench/results/2026-11-25-write, capture with 8 and with 32 writers; and a replay, of
// which only the whole time is known (docs/performance.md, "Catching up"): the slower of
// the two takes that much at most.
var olderLine = []olderAt{{0.82 * 9275, 16, 20}, {0.85 * 12_827, 10, 12}, {123_600, 8.1, 8.1}}

func older(get func(olderAt) float64) (points []at) {
	for _, o := range olderLine {
		points = append(points, at{o.rate, get(o)})
	}
	return points
}

// costOf a commit is own + wake × the share that is woken for it.
type costOf struct{ own, wake float64 }

// share of wake that a commit takes at a rate (see sim's station, of one that has next
// to nothing to do).
func share(rate, nap, cool float64) float64 {
	return (1 - math.Exp(-nap/cool)*rate*cool/(1+rate*cool)) / (1 + rate*nap)
}

// fitted is the least squares of relative errors, with neither cost below zero, and their
// sum.
func fitted(line []at, nap, cool float64) (c costOf, wrong float64) {
	var aa, ab, bb, ay, by float64
	for _, p := range line {
		a, b := 1/p.micros, share(p.rate, nap, cool)/p.micros
		aa, ab, bb, ay, by = aa+a*a, ab+a*b, bb+b*b, ay+a, by+b
	}
	if det := aa*bb - ab*ab; det != 0 {
		c = costOf{(ay*bb - by*ab) / det, (by*aa - ay*ab) / det}
	}
	if c.own < 0 {
		c = costOf{0, by / bb}
	}
	if c.wake < 0 {
		c = costOf{ay / aa, 0}
	}
	for _, p := range line {
		off := (c.own+c.wake*share(p.rate, nap, cool))/p.micros - 1
		wrong += off * off
	}
	return c, wrong
}

// cooling is the time, in seconds, by which the costs of walsender and node fall with
// the rate, and those costs.
func (m *measurement) cooling() (cool float64, sender, node costOf) {
	f, nap, least := figures{m}, m.nap(), math.Inf(1)
	idle := f.commits(1, 0, (*cell).nodeCPU)
	senders := append(f.line(does(walsenders)), older(func(o olderAt) float64 { return o.walsender })...)
	nodes := append(f.line(func(c *cell) float64 { return c.nodeCPU() - idle }), older(func(o olderAt) float64 { return o.node })...)
	for tau := 10e-6; tau < 50e-3; tau *= 1.1 {
		a, wrongA := fitted(senders, nap, tau)
		b, wrongB := fitted(nodes, nap, tau)
		if wrongA+wrongB < least {
			cool, sender, node, least = tau, a, b, wrongA+wrongB
		}
	}
	return cool, sender, node
}

// nap is how long it took a process that sleeps to run, in seconds: by it there are
// fewer snapshots than commits.
func (m *measurement) nap() (nap float64) {
	f, least := figures{m}, math.Inf(1)
	for try := 10e-6; try < 5e-3; try *= 1.1 {
		wrong := 0.0
		for _, rate := range commitRates {
			commits := f.commits(1, rate, func(c *cell) float64 { return c.Commits })
			snapshots := f.commits(1, rate, func(c *cell) float64 { return c.Snapshots })
			off := 1/(try+1/commits)/snapshots - 1
			wrong += off * off
		}
		if wrong < least {
			nap, least = try, wrong
		}
	}
	return nap
}

// busCosts are the least squares of CPU per second over messages in, messages out and
// kilobytes out.
func (m *measurement) busCosts() (in, out, kb float64) {
	var a [3][4]float64
	for _, c := range m.Bus {
		x := [3]float64{c.Rate, c.Delivered, c.Delivered * float64(c.Bytes) / 1000}
		for i := range 3 {
			for j := range 3 {
				a[i][j] += x[i] * x[j] / (c.CPU * c.CPU)
			}
			a[i][3] += x[i] / c.CPU
		}
	}
	for i := range 3 { // Gauss–Jordan; the matrix is positive definite
		for j := range 3 {
			if j != i {
				factor := a[j][i] / a[i][i]
				for k := range 4 {
					a[j][k] -= factor * a[i][k]
				}
			}
		}
	}
	return a[0][3] / a[0][0] * 1e6, a[1][3] / a[1][1] * 1e6, a[2][3] / a[2][2] * 1e6
}
