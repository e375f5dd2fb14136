package grants

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/follow"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// A file is followed: what is in it counts within half a second, once it is whole.
func TestFile_run(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grants.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	write(`rules: [{read: [a]}]`)
	synctest.Test(t, func(t *testing.T) {
		var log testkit.Buffer
		registry := prometheus.NewRegistry()
		changes := 0
		f, err := Open(path, Options{
			OnChange: func() { changes++ }, Registerer: registry, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		look := func(times int) {
			time.Sleep(time.Duration(times) * follow.Interval)
			synctest.Wait()
		}
		allowed := func(topic string) bool {
			return f.Authorize(ctx, Caller{Subject: "ada"}, Read, []string{topic}) == nil
		}
		metric := func(name string) float64 {
			families, err := registry.Gather()
			require.NoError(t, err)
			sum := 0.0
			for _, family := range families {
				if family.GetName() == name {
					for _, m := range family.GetMetric() {
						sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
					}
				}
			}
			return sum
		}
		look(5)
		require.True(t, allowed("a"))
		require.Zero(t, changes)

		// Half written, it would grant everything to everybody: it doesn't count.
		write(`rules: [{read: ["**"]}]`)
		look(1)
		require.False(t, allowed("b"))
		write(`rules: [{read: ["**"], when: claims.admin}, {read: [b]}]`)
		look(1)
		require.False(t, allowed("b"))
		look(1)
		require.True(t, allowed("b"))
		require.False(t, allowed("a"), "a grant was withdrawn")
		require.Equal(t, 1, changes)

		// Broken: the last good one stays, which is said once.
		write(`rules: [{read: ["**"], wen: x}]`)
		look(8)
		require.True(t, allowed("b"))
		require.False(t, allowed("a"))
		require.Equal(t, 1.0, metric("freshet_grants_stale"))
		require.Equal(t, 1, strings.Count(log.String(), "the last good one stays in force"))
		require.Contains(t, log.String(), "rule 1: a rule has no")
		require.Error(t, f.Reload(ctx))
		require.Equal(t, 2, strings.Count(log.String(), "the last good one stays in force"), "who asks is told again")

		require.NoError(t, os.Remove(path))
		look(8)
		require.True(t, allowed("b"))
		require.Equal(t, 3, strings.Count(log.String(), "the last good one stays in force"))
		require.Equal(t, 1, changes)

		// Back to what is in force: nothing changes, and all is well.
		write(`rules: [{read: ["**"], when: claims.admin}, {read: [b]}]`)
		look(2)
		require.Zero(t, metric("freshet_grants_stale"))
		require.Equal(t, 1, changes)

		// At once.
		write(`rules: []`)
		require.NoError(t, f.Reload(ctx))
		require.False(t, allowed("b"))
		require.Equal(t, 2, changes)
		require.NoError(t, f.Reload(ctx))
		require.Equal(t, 2, changes)
		require.Equal(t, 5.0, metric("freshet_grants_reloads_total"))
		cancel()
		require.NoError(t, <-done)
	})
}

func TestOpen_errors(t *testing.T) {
	folder := t.TempDir()
	_, err := Open(filepath.Join(folder, "none"), Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(folder, Options{})
	require.ErrorContains(t, err, "not a regular file")
	path := filepath.Join(folder, "grants.yaml")
	require.NoError(t, os.WriteFile(path, []byte("rules: [{}]"), 0o600))
	_, err = Open(path, Options{})
	var ferr *FileError
	require.ErrorAs(t, err, &ferr)
}
