package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/bench/rig"
)

// made is a report in which a row costs 100 µs, the first node 30 and each further
// one 20; the second round was twice as dear.
func made() *report {
	r := &report{
		Origin: rig.Origin{
			Time: time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC), Machine: rig.Machine{CPUs: 2, OS: "linux"},
			Postgres: rig.Settings{"server_version": "15.1"},
		},
		Options: options{Rounds: 3, Nodes: []int{8, 0, 1, 2, 4}, Rows: []int{1, 10}, Rate: 1000},
	}
	for round, factor := range []float64{1, 2, 1} {
		for _, rows := range r.Options.Rows {
			for _, nodes := range r.Options.Nodes {
				cost := 100.0
				if nodes > 0 {
					cost += 10 + 20*float64(nodes)
				}
				cpus := factor * cost * 1000 * float64(rows) / 1e6
				r.Cells = append(r.Cells, &cell{Nodes: nodes, Rows: rows, Round: round + 1, CommitsPerSec: 1000, CPU: rig.CPUShare{Postgres: &cpus}})
			}
		}
	}
	return r
}

func TestReport(t *testing.T) {
	r := made()
	require.Regexp(t, ` 1 +0 +1000 +0\.100 +100\.0 `, r.table())
	require.Regexp(t, ` 10 +8 +1000 +2\.700 +270\.0 `, r.table())
	require.InDelta(t, 20, *r.slope(1, ofPostgres), 1e-9, "without what the first node costs besides")
	require.InDelta(t, 20, *r.slope(10, ofPostgres), 1e-9)
	require.Contains(t, r.slopes(), "at 10 rows per commit: 20.0 µs of Postgres per row")
	require.Contains(t, r.plot(), "270 µs")
	require.Contains(t, r.readme(), "Nodes, 26 November 2026")
	r.Options.Nodes = []int{0, 1}
	require.Nil(t, r.slope(1, ofPostgres))
	require.Equal(t, "–", text("%.1f", ofNodes(&cell{CommitsPerSec: 1})), "not known")
}

func TestOptions(t *testing.T) {
	good := options{Rounds: 1, Duration: time.Second, Nodes: []int{0}, Rows: []int{1}, Rate: 100}
	require.NoError(t, good.Validate())
	for _, spoil := range []func(*options){
		func(o *options) { o.Rounds = 0 },
		func(o *options) { o.Nodes = []int{-1} },
		func(o *options) { o.Rows = []int{0} },
		func(o *options) { o.Rate = 1 },
	} {
		bad := good
		spoil(&bad)
		require.Error(t, bad.Validate())
	}
}
