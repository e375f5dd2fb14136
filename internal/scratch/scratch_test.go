package scratch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a process left that was killed goes with the next folder; what a living one uses
// stays, and so does what is young, or isn't ours.
func TestNew_sweepsWhatNobodyUses(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	made := func(prefix string) *Dir {
		d, err := New(prefix, time.Hour)
		require.NoError(t, err)
		t.Cleanup(func() { _ = d.Remove() })
		require.NoError(t, os.Mkdir(filepath.Join(d.Path, "data"), 0o700))
		return d
	}
	killed := func(prefix string) string {
		d := made(prefix)
		require.NoError(t, d.lock.Close())
		return d.Path
	}
	left, held, young, other := killed("ours-"), made("ours-").Path, killed("ours-"), killed("mine-")
	unmarked := filepath.Join(temp, "ours-unmarked")
	require.NoError(t, os.Mkdir(unmarked, 0o700))
	for _, dir := range []string{left, held, other, unmarked} {
		require.NoError(t, os.Chtimes(dir, time.Now(), time.Now().Add(-2*time.Hour)))
	}
	last := made("ours-")
	require.NoDirExists(t, left)
	for _, dir := range []string{held, young, other, unmarked, last.Path} {
		require.DirExists(t, dir)
	}
	require.NoError(t, last.Remove())
	require.NoError(t, last.Remove(), "again")
	require.NoError(t, (*Dir)(nil).Remove(), "nothing was made")
	require.NoDirExists(t, last.Path)
}
