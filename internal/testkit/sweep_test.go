package testkit

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSweep(t *testing.T) {
	temp := t.TempDir()
	folder := func(name string) string {
		dir := filepath.Join(temp, name)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "data"), 0o700))
		return dir
	}
	age := func(dir string, age time.Duration) {
		require.NoError(t, os.Chtimes(dir, time.Now(), time.Now().Add(-age)))
	}
	left, held, young, other := folder(dirPattern+"1"), folder(dirPattern+"2"), folder(dirPattern+"3"), folder("mine")
	f, err := hold(held)
	require.NoError(t, err)
	defer f.Close()
	for _, dir := range []string{left, held, other} {
		age(dir, time.Hour)
	}
	sweep(temp, 30*time.Minute)
	require.NoDirExists(t, left)
	require.DirExists(t, held)
	require.DirExists(t, young)
	require.DirExists(t, other)
}
