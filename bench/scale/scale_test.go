package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/bench/rig"
	"github.com/freshet-dev/freshet/bench/scale/sim"
)

// TestMain lets the test's program be the readers' process.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "read" {
		if err := read(); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// newest is the measurement that docs/scaling.md rests on.
func newest(t *testing.T) *measurement {
	t.Helper()
	t.Chdir("../..")
	file, err := new(simulateOptions).file()
	require.NoError(t, err)
	m, err := load(file)
	require.NoError(t, err)
	return m
}

// What is simulated is what was measured, within the tolerance that is stated: CPU time
// by process, snapshots, frames and statements, of cells that costs weren't taken from.
// Times aren't held to it: a client's own work isn't simulated.
func TestComparisons(t *testing.T) {
	m := newest(t)
	c, err := m.costs()
	require.NoError(t, err)
	compared, err := m.comparisons(c)
	require.NoError(t, err)
	require.Greater(t, len(compared), 30)
	for _, c := range compared {
		if c.Unit == "ms" {
			continue
		}
		require.InDelta(t, 0, math.Log(c.ratio()), math.Log(within), "%s: measured %v, simulated %v", c.What, c.Measured, c.Simulated)
	}
}

// Three nodes deliver 2.7 × the notices of one, at least, for the same CPU of each.
func TestThreeNodes(t *testing.T) {
	m := newest(t)
	require.GreaterOrEqual(t, 3*m.perFrame(1)/m.perFrame(3), 2.7)
}

func TestForetell(t *testing.T) {
	m := newest(t)
	o := &simulateOptions{Seed: 1, Clients: []int{200_000}}
	require.NoError(t, o.Validate())
	f, err := foretell(m, o)
	require.NoError(t, err)
	require.Len(t, f.Rows, 2*len(scenarios))
	for _, r := range f.Rows {
		require.Positive(t, r.Money.machines())
		require.Greater(t, r.Fresh50, r.Told50)
		// Both views of the model agree.
		require.InEpsilon(t, r.Plan.Expect.Frames, r.Result.Frames, 0.2, "%+v", r)
		require.InEpsilon(t, r.Plan.Expect.Walsenders, r.Result.Walsenders, 0.2)
	}
	f.Command, f.From = "make bench/scale", "folder"
	text := f.readme()
	require.NotContains(t, text, "%!")
	require.NotContains(t, text, "NaN")
	require.Contains(t, text, "three nodes deliver")
	picture := f.plot()
	require.NotContains(t, picture, "NaN")
	require.Equal(t, 3*len(scenarios), strings.Count(picture, "<g>"))
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			require.NoError(t, err)
		}
	}
}

// Costs come back from points that were made of them.
func TestFitted(t *testing.T) {
	const nap, cool = 1e-4, 2e-3
	var line []at
	for _, rate := range []float64{50, 400, 3000, 100_000} {
		line = append(line, at{rate, 8 + 90*share(rate, nap, cool)})
	}
	c, wrong := fitted(line, nap, cool)
	require.InEpsilon(t, 8, c.own, 1e-6)
	require.InEpsilon(t, 90, c.wake, 1e-6)
	require.InDelta(t, 0, wrong, 1e-9)
	c, _ = fitted([]at{{10, 5}, {100_000, 20}}, nap, cool)
	require.Zero(t, c.wake, "never below nothing")

	m := new(measurement)
	for _, size := range []int{200, 2000, 20_000} {
		for _, to := range []float64{0, 4, 64} {
			rate := 300.0
			m.Bus = append(m.Bus, &busCell{Bytes: size, Rate: rate, Delivered: rate * to, CPU: (rate*40 + rate*to*6 + rate*to*float64(size)/1000*2) * 1e-6})
		}
	}
	in, out, kb := m.busCosts()
	require.InEpsilon(t, 40, in, 1e-6)
	require.InEpsilon(t, 6, out, 1e-6)
	require.InEpsilon(t, 2, kb, 1e-6)

	_, err := new(measurement).costs()
	require.ErrorContains(t, err, "wasn't measured")
}

func TestMoney(t *testing.T) {
	require.InEpsilon(t, 900, listPrices.traffic(10e12), 1e-9)
	require.InEpsilon(t, 900+3400+7000+50_000, listPrices.traffic(1150e12), 1e-9)
	p := &sim.Plan{Shards: 2, Fleet: sim.Fleet{Nodes: 3, PrimaryCores: 8, Replicas: 2, ReplicaCores: 4, Relay: true, BusCores: 4}, Expect: &sim.Expectation{}}
	m := listPrices.month(p, limits)
	hour := listPrices.CPUHour * hoursOfMonth
	require.InEpsilon(t, 2*3*4*hour, m.Nodes, 1e-9)
	require.InEpsilon(t, 2*(2*8+2*4)*hour, m.Database, 1e-9)
	require.InEpsilon(t, 2*3*4*hour, m.Bus, 1e-9)
}

func TestOptions(t *testing.T) {
	require.Error(t, (&simulateOptions{}).Validate())
	require.Error(t, (&simulateOptions{Clients: []int{1}}).Validate())
	require.NoError(t, (&measureOptions{Rounds: 1, Duration: time.Second, Streams: 20}).Validate())
	require.Error(t, (&measureOptions{Rounds: 1, Duration: time.Second}).Validate())
	t.Chdir(t.TempDir())
	_, err := new(simulateOptions).file()
	require.ErrorContains(t, err, "scale measure")
}

// A cell counts what it says, by process, of two real nodes on a real Postgres.
func TestMeasure(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), "freshet")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/freshet-dev/freshet/cmd/freshet").CombinedOutput()
	require.NoError(t, err, "%s", out)
	s := new(stage)
	s.postgres, err = rig.StartPostgres(ctx, program)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.postgres.Stop()) })
	o := &measureOptions{Freshet: program, Duration: time.Second, Streams: fanTopics}
	cells, err := play{what: fanCells, nodes: 2, fan: true}.perform(ctx, s, o, 1)
	require.NoError(t, err)
	require.Len(t, cells, 3)
	c := cells[2]
	require.Len(t, c.NodeCPU, 2)
	require.InEpsilon(t, 2*c.Commits, c.Frames, 0.25, "one stream of each topic on each node")
	for _, does := range []string{walsenders, gates, probes, writing} {
		require.Positive(t, c.CPU[does], does)
	}
	require.Positive(t, c.Snapshots)
	require.Contains(t, c.String(), "fan-out on 2 nodes")

	calls, err := play{what: callCells, nodes: 1, calls: []string{keptCalls, strongCalls, writeCalls}}.perform(ctx, s, o, 1)
	require.NoError(t, err)
	require.Less(t, calls[0].CPU[pools], calls[1].CPU[pools], "a kept answer asks nobody")
	require.Positive(t, calls[2].CPU[walsenders])
	require.InEpsilon(t, callRate, calls[0].Called, 0.5)
}
