package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The whole of `make bench`, short: the program, a private Postgres, both
// scenarios, results. Figures aren't looked at: other tests run beside it.
func TestRun(t *testing.T) {
	t.Chdir("../..") // where make runs it, and npm's Postgres is found
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("FRESHET_MAX_WAIT", "nonsense") // must not reach the server
	program := filepath.Join(t.TempDir(), "freshet")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/freshet").CombinedOutput()
	require.NoError(t, err, string(out))

	o := &options{
		Freshet: program, Runs: 1, Duration: time.Second, IdleRate: 20, LoadedRate: 40, TotalRate: 100, Writers: 2,
		Results: t.TempDir(),
	}
	require.NoError(t, o.Validate())
	var log bytes.Buffer
	require.NoError(t, run(t.Context(), o, &log), "%s", &log)

	files, err := filepath.Glob(filepath.Join(o.Results, "*-latency", "results.json"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	data, err := os.ReadFile(files[0])
	require.NoError(t, err)
	var r report
	require.NoError(t, json.Unmarshal(data, &r))
	require.Len(t, r.Scenarios, 2)
	for _, s := range r.Scenarios {
		require.Len(t, s.Runs, 1)
		require.Positive(t, s.Runs[0].Samples)
		require.Positive(t, s.Runs[0].WritesPerSec)
		require.Zero(t, s.Runs[0].StrayNotices)
		for _, q := range quantities {
			require.Equal(t, s.Runs[0].Samples, s.Median[q.Key].N, q.Key)
		}
		// What follows from the order of events, however slow the machine.
		require.Positive(t, s.Median["sent_to_return"].Min)
		require.Positive(t, s.Median["sent_to_notice"].Min)
		require.Greater(t, s.Median["sent_to_data"].Min, s.Median["sent_to_notice"].Min)
	}
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, left, "data of the private Postgres")
}

func TestOptions(t *testing.T) {
	sound := options{Runs: 1, Duration: time.Second, Writers: 1, IdleRate: 1, LoadedRate: 1, TotalRate: 2}
	require.NoError(t, sound.Validate())
	for _, spoil := range []func(*options){
		func(o *options) { o.URL = "http://127.0.0.1:1" },
		func(o *options) { o.Runs = 0 },
		func(o *options) { o.Duration = 0 },
		func(o *options) { o.Warmup = -1 },
		func(o *options) { o.Writers = 0 },
		func(o *options) { o.IdleRate = 0 },
		func(o *options) { o.TotalRate = 1 },
	} {
		o := sound
		spoil(&o)
		require.Error(t, o.Validate())
	}
}
