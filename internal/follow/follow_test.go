package follow

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// rig follows two files, whose texts have to rhyme: the second is the first, in
// capitals.
type rig struct {
	*Files[string]
	paths []string

	mu     sync.Mutex // guards what follows
	parsed int        // times
	told   []string   // what Tell has heard
}

var errRhyme = errors.New("they don't rhyme")

func newRig(t *testing.T) *rig {
	t.Helper()
	folder := t.TempDir()
	r := &rig{paths: []string{filepath.Join(folder, "a"), filepath.Join(folder, "b")}}
	r.write(t, "one", "ONE")
	files, err := Open(Config[string]{
		Paths: r.paths,
		Parse: func(texts [][]byte) (*string, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.parsed++
			value := string(texts[0])
			if string(texts[1]) != strings.ToUpper(value) {
				return nil, errRhyme
			}
			return &value, nil
		},
		Tell: func(_ context.Context, changed bool, err error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			switch {
			case err != nil:
				r.told = append(r.told, err.Error())
			case changed:
				r.told = append(r.told, "changed")
			default:
				r.told = append(r.told, "well")
			}
		},
	})
	require.NoError(t, err)
	r.Files = files
	return r
}

func (r *rig) write(t *testing.T, texts ...string) {
	t.Helper()
	for i, text := range texts {
		require.NoError(t, os.WriteFile(r.paths[i], []byte(text), 0o600))
	}
}

// heard returns what Tell has heard, and how often something was parsed, since the
// last call.
func (r *rig) heard() (told []string, parsed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	told, parsed = r.told, r.parsed
	r.told, r.parsed = nil, 0
	return told, parsed
}

func TestFiles_run(t *testing.T) {
	r := newRig(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		look := func(times int) {
			time.Sleep(time.Duration(times) * Interval)
			synctest.Wait()
		}
		first := r.Current()
		look(5)
		require.Same(t, first, r.Current())

		// What changes between two looks is still being written.
		for _, text := range []string{"two", "three", "four"} {
			r.write(t, text, strings.ToUpper(text))
			look(1)
			require.Equal(t, "one", *r.Current(), "seen once")
		}
		told, _ := r.heard()
		require.Empty(t, told)
		look(1)
		require.Equal(t, "four", *r.Current(), "seen twice")
		told, _ = r.heard()
		require.Equal(t, []string{"changed"}, told)

		// What can't be used changes nothing, is told once, and parsed once.
		r.write(t, "five")
		look(8)
		require.Equal(t, "four", *r.Current())
		told, parsed := r.heard()
		require.Equal(t, []string{errRhyme.Error()}, told)
		require.Equal(t, 1, parsed)
		require.InDelta(t, 1, r.Staleness(), 0)
		require.NoError(t, os.Remove(r.paths[1]))
		look(8)
		require.Equal(t, "four", *r.Current())
		told, _ = r.heard()
		require.Equal(t, []string{"stat " + r.paths[1] + ": no such file or directory"}, told)

		// It is again what is in force.
		current := r.Current()
		r.write(t, "four", "FOUR")
		look(2)
		require.Same(t, current, r.Current())
		told, _ = r.heard()
		require.Equal(t, []string{"well"}, told)
		require.Zero(t, r.Staleness())
		cancel()
		require.NoError(t, <-ended)
	})
}

// Whoever asks has the files read at once, and is told whatever comes of it.
func TestFiles_reload(t *testing.T) {
	r := newRig(t)
	r.write(t, "two", "TWO")
	require.NoError(t, r.Reload(t.Context()))
	require.Equal(t, "two", *r.Current())
	require.NoError(t, r.Reload(t.Context()))
	told, _ := r.heard()
	require.Equal(t, []string{"changed", "well"}, told)
	r.write(t, "three")
	for range 2 {
		require.ErrorIs(t, r.Reload(t.Context()), errRhyme)
	}
	told, _ = r.heard()
	require.Equal(t, []string{errRhyme.Error(), errRhyme.Error()}, told)
	require.Equal(t, "two", *r.Current())
	require.InDelta(t, 1, r.Staleness(), 0)
	r.write(t, "three", "THREE")
	require.NoError(t, r.Reload(t.Context()))
	require.Zero(t, r.Staleness())
	require.Equal(t, "three", *r.Current())
}

func TestOpen_errors(t *testing.T) {
	folder := t.TempDir()
	parse := func(texts [][]byte) (*int, error) {
		if len(texts[0]) == 0 {
			return nil, errRhyme
		}
		return new(int), nil
	}
	open := func(path string) error {
		_, err := Open(Config[int]{Paths: []string{path}, Parse: parse})
		return err
	}
	path := filepath.Join(folder, "file")
	require.ErrorIs(t, open(path), os.ErrNotExist)
	require.ErrorContains(t, open(folder), folder+" is not a regular file")
	pipe := filepath.Join(folder, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.ErrorContains(t, open(pipe), "not a regular file", "it waits for no writer")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.ErrorIs(t, open(path), errRhyme)
	require.NoError(t, os.WriteFile(path, make([]byte, maxBytes), 0o600))
	require.NoError(t, open(path))
	require.NoError(t, os.WriteFile(path, make([]byte, maxBytes+1), 0o600))
	require.ErrorContains(t, open(path), "more than 1048576 bytes")
}
