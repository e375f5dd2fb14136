package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSteepest(t *testing.T) {
	xs := []float64{10, 100, 1000}
	for name, test := range map[string]struct {
		ys   []float64
		want float64
	}{
		"linear":                     {[]float64{2, 20, 200}, 1},
		"flat":                       {[]float64{2, 2, 2}, 1},
		"a fixed cost, then linear":  {[]float64{11, 20, 110}, 1},
		"squared":                    {[]float64{1, 100, 10_000}, 100},
		"squared above a fixed cost": {[]float64{1100, 11_000, 1_001_000}, 9.1},
		"only the last step":         {[]float64{2, 20, 400}, 2},
		"nothing at first":           {[]float64{0, 20, 400}, 2},
		"falls":                      {[]float64{100, 10, 1}, 1},
	} {
		t.Run(name, func(t *testing.T) { require.InEpsilon(t, test.want, steepest(xs, test.ys), 1e-9) })
	}
	require.Contains(t, verdict(xs, []float64{1, 100, 10_000}), "**yes** | 100 × | 10000 × | 100.00 ×")
	require.Contains(t, verdict(xs, []float64{1, 12, 120}), "no | 100 × | 120 × | 1.20 ×", "within the noise")
}

// Every curve has a place in tables and plot, and the plot is XML.
func TestScaling_isReported(t *testing.T) {
	o := curvesOptions{Rounds: 3, Duration: time.Second, Most: 19_000}
	require.NoError(t, o.Validate())
	r := &scaling{Machine: "a machine", Options: o, Points: map[string][][]*point{}}
	for _, s := range r.sweeps() {
		for _, peer := range s.peers {
			for _, x := range s.xs {
				v := float64(x)
				r.Points[s.key(peer)] = append(r.Points[s.key(peer)], []*point{
					{CPUMicros: 9 * v}, {CPUMicros: v * 1000, Cores: v, MiB: v, P99: v, Frames: 1, Told: x, Kept: 0.5}, {CPUMicros: v * 9000},
				})
			}
		}
	}
	require.Contains(t, r.tables(), "| 19000 | 19000.000 | 0.00 |")
	require.NotContains(t, r.verdicts(), "yes")
	require.NotContains(t, r.readme(), "%!")
	require.InEpsilon(t, 0.5, r.kept(), 1e-9)
	picture := r.plot()
	require.Equal(t, len(r.panels()), strings.Count(picture, "<g "))
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			require.NoError(t, err)
		}
	}
	r.Points["topics/freshet"][0] = []*point{{MiB: -1}} // less than the garbage that was left
	require.NotContains(t, r.plot(), "NaN")
	require.NotContains(t, r.plot(), "Inf")
	picture = r.plot()

	dir := t.TempDir()
	require.NoError(t, r.save(dir))
	require.NoError(t, os.Remove(filepath.Join(dir, "curves.svg")))
	require.NoError(t, renderOptions{Folder: dir}.Run())
	again, err := os.ReadFile(filepath.Join(dir, "curves.svg"))
	require.NoError(t, err)
	require.Equal(t, picture, string(again))
}

func TestScaling_refusesWhatItDoesNotKnow(t *testing.T) {
	require.ErrorContains(t, (&curvesOptions{Rounds: 1, Duration: 1, Most: 100, Sweeps: []string{"x"}}).Validate(), `no sweep "x"`)
	require.Error(t, (&curvesOptions{}).Validate())
}

// A point counts what it says: each notice goes to the connections of its topic.
func TestLoad_tellsTheConnectionsOfATopic(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := load{peer: "freshet", connections: 20, topics: 5, rate: 50, memory: true}.measure(ctx, 100*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, 4, m.Told)
	require.Positive(t, m.Frames)
	require.Positive(t, m.CPUMicros)

	m, err = measureTable(ctx, 10_000, 10_000)
	require.NoError(t, err)
	require.Positive(t, m.CPUMicros)
	require.Positive(t, m.FillNanos)
}
