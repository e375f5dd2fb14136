package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/bench/rig"
)

func TestReport_saves(t *testing.T) {
	start := time.Now()
	var samples []*sample
	for i := range 50 {
		at := func(ms int) time.Time { return start.Add(time.Duration(100*i+ms) * time.Millisecond) }
		samples = append(samples, &sample{sent: at(0), committed: at(1), noticed: at(2 + i%3), merged: at(60), refetched: at(7)})
	}
	r := &report{Origin: rig.Origin{Time: start, Command: "make bench", Machine: rig.Machine{CPUs: 2, Busy: 1.5}, Postgres: rig.Settings{"server_version": "15.1 (Debian)"}}}
	for _, name := range []string{"idle", "loaded"} {
		o := outcome{scenario: scenario{Name: name}}
		for range 3 {
			run := &result{}
			run.fill(samples, reading{at: start}, reading{at: start.Add(5 * time.Second), written: 50, transactions: 150})
			o.Runs = append(o.Runs, run)
		}
		o.settle()
		r.Scenarios = append(r.Scenarios, o)
	}
	require.Contains(t, r.warning(), "1.50 of its 2 CPUs")
	r.Machine.Busy = 0.1
	require.Empty(t, r.warning())
	others := 0.7
	r.Scenarios[1].Runs[2].CPU.Others = &others
	dir := filepath.Join(t.TempDir(), "results")
	require.NoError(t, r.save(dir))

	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	require.NoError(t, err)
	require.NotContains(t, string(readme), "%!", "a verb without its argument")
	require.Contains(t, string(readme), "up to 0.70 of its 2 CPUs")
	require.Contains(t, string(readme), "PostgreSQL 15.1,")
	var table bytes.Buffer
	require.NoError(t, r.table(&table))
	require.Contains(t, string(readme), table.String())
	require.Regexp(t, `loaded +commit → refetched data +150 +6\.00 +6\.00 +6\.00 +6\.00`, table.String())
	require.Regexp(t, `idle +3 +10 +150 +20 +– +– +– +–`, table.String())

	var back report
	data, err := os.ReadFile(filepath.Join(dir, "results.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &back))
	require.Equal(t, millis(2), back.Scenarios[1].Median["notice"].P50)
	svg, err := os.ReadFile(filepath.Join(dir, "latency.svg"))
	require.NoError(t, err)
	require.Len(t, paths(t, string(svg)), 6)
}
