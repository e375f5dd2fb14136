package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a `freshet cluster` left that was killed goes with the next one; what a living one
// holds stays.
func TestScene_sweepsWhatNobodyHolds(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	held, err := newScene("freshet-scene-")
	require.NoError(t, err)
	left := filepath.Join(os.TempDir(), "freshet-scene-left")
	require.NoError(t, os.MkdirAll(filepath.Join(left, "standby"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(left, sceneMark), nil, 0o600))
	for _, dir := range []string{held, left} {
		long := time.Now().Add(-time.Hour)
		require.NoError(t, os.Chtimes(filepath.Join(dir, sceneMark), long, long))
	}
	_, err = newScene("freshet-scene-")
	require.NoError(t, err)
	require.DirExists(t, held)
	require.NoDirExists(t, left)
}
