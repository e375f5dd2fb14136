package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/bench/rig"
)

// made is a report of two rounds, of which the second was twice as slow for all.
func made() *report {
	r := &report{
		Origin: rig.Origin{
			Time: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), Command: "make bench/write", Commit: "abc",
			Machine: rig.Machine{CPUs: 2, OS: "linux"}, Postgres: rig.Settings{"server_version": "15.1 (Debian)", "fsync": "on"},
		},
		Options: options{Rounds: 2, Duration: 2 * time.Second, Writers: []int{1, 8}},
	}
	for round := 1; round <= 2; round++ {
		for _, writers := range []int{1, 8} {
			for i, v := range variants {
				c := &cell{
					Variant: v.name, Writers: writers, Round: round, Seconds: 2,
					WritesPerSec: float64(1000*writers) / float64(round) / float64(i+1),
					Walsender:    0.1, Sessions: 0.0666,
					CPU: rig.CPUShare{Server: new(0.25), Postgres: new(1.0), Driver: new(0.5), Others: new(0.01)},
				}
				if v.name == "capture" || v.name == "notify" {
					c.ToldMillis = new(float64(10 * round))
				}
				r.Cells = append(r.Cells, c)
			}
		}
	}
	return r
}

// A ratio is to the bare writes of the same round and number of writers, so a
// slow phase of the machine cancels out.
func TestReport_table(t *testing.T) {
	table := made().table()
	require.Regexp(t, `1 +bare +750 +1\.00 +1\.00–1\.00 +1\.76 +2\.00 +– +1\.00 +1500 +– +100 +– +–`, table)
	require.Regexp(t, `8 +capture +3000 +0\.50 +0\.50–0\.50 +1\.76 +2\.00 +0\.50 +1\.00 +375 +38 +25 +94 +15`, table)
	require.Regexp(t, `8 +notify +2000 +0\.33 .* – +15 *\n`, table)
	require.Regexp(t, `8 +poll +1500 +0\.25 .* – +– *\n`, table)
}

// Rounds without a bare run, or of another number of writers, give no ratio.
func TestReport_noRatio(t *testing.T) {
	r := &report{Options: options{Writers: []int{1, 8}}, Cells: []*cell{
		{Variant: "bare", Writers: 1, Round: 1, WritesPerSec: 10},
		{Variant: "capture", Writers: 8, Round: 1, WritesPerSec: 10},
		{Variant: "capture", Writers: 1, Round: 2, WritesPerSec: 10},
	}}
	require.Equal(t, "–", spread("%.2f", r.over("capture", 1, r.ratio)))
	require.Equal(t, "–", spread("%.2f", r.over("capture", 8, r.ratio)))
	require.Equal(t, "1.00–1.00", spread("%.2f", r.over("bare", 1, r.ratio)))
	require.NotContains(t, r.table(), "NaN")
	require.NotContains(t, r.plot(), "NaN")
}

func TestReport_saves(t *testing.T) {
	r := made()
	require.Empty(t, r.warning())
	r.Cells[3].CPU.Others = new(0.7)
	require.Contains(t, r.warning(), "up to 0.70 of its 2 CPUs")
	dir := filepath.Join(t.TempDir(), "results")
	require.NoError(t, r.save(dir))
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(text)
	}
	require.NotContains(t, read("README.md"), "%!", "a verb without its argument")
	require.Contains(t, read("README.md"), r.table())
	require.Contains(t, read("README.md"), "PostgreSQL 15.1, fsync on")
	require.Contains(t, read("benchstat.txt"), "BenchmarkWrite/variant=capture/writers=8 1 4000 writes/s 250 postgres-cpu-µs/row 62.5 server-cpu-µs/row 10 told-ms\n")
	require.Equal(t, 2, strings.Count(read("write.svg"), `class="bar ours"`))
	var back report
	require.NoError(t, json.Unmarshal([]byte(read("results.json")), &back))
	require.Equal(t, r.Cells, back.Cells)
}

func TestCell_fill(t *testing.T) {
	start := time.Now()
	c := &cell{}
	c.fill(reading{at: start, written: 100, polls: 7, sessions: sessionTimes{walsender: time.Second}}, reading{at: start.Add(2 * time.Second), written: 1100, polls: 207, sessions: sessionTimes{walsender: 2 * time.Second, others: time.Second}})
	require.Equal(t, cell{Seconds: 2, Written: 1000, WritesPerSec: 500, PollsPerSec: 100, Walsender: 0.5, Sessions: 0.5}, *c)
}

// A notification that never comes fails the run.
func TestListener_lost(t *testing.T) {
	f := &listener{news: make(chan struct{}, 1)}
	f.heard.Store(2)
	tells, err := f.told(t.Context(), 2)
	require.NoError(t, err)
	require.True(t, tells)
	lost := errors.New("waited long enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(lost)
	_, err = f.told(ctx, 3)
	require.ErrorIs(t, err, lost)
	require.ErrorContains(t, err, "2 of 3 notifications")
}

// Each round has every variant once, and no variant always the same place.
func TestOrder(t *testing.T) {
	first := map[string]bool{}
	for round := range variants {
		seen := map[string]bool{}
		for _, v := range inOrder(round) {
			seen[v.name] = true
		}
		require.Len(t, seen, len(variants))
		first[inOrder(round)[0].name] = true
	}
	require.Len(t, first, len(variants))
}

func TestOptions(t *testing.T) {
	sound := options{Rounds: 1, Duration: time.Second, Writers: []int{1}, Conversations: 1}
	require.NoError(t, sound.Validate())
	for _, spoil := range []func(*options){
		func(o *options) { o.Rounds = 0 },
		func(o *options) { o.Duration = 0 },
		func(o *options) { o.Warmup = -1 },
		func(o *options) { o.Writers = nil },
		func(o *options) { o.Writers = []int{8, 0} },
		func(o *options) { o.Conversations = 0 },
	} {
		o := sound
		spoil(&o)
		require.Error(t, o.Validate())
	}
}
