package rig

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	// A name with everything that a naive reader trips over.
	const line = "4711 (post) gres: (x 1) S 42 4711 4711 0 -1 4194560 100 200 0 0 250 50 1000 24 20 0 1 0 12345 1 2 3\n"
	p, err := parseStat([]byte(line))
	require.NoError(t, err)
	require.Equal(t, process{parent: 42, own: 3 * time.Second, children: 10240 * time.Millisecond}, p)
	for _, bad := range []string{"", "1 (x", "1 (x) S 1", strings.Replace(line, "250", "many", 1)} {
		_, err := parseStat([]byte(bad))
		require.ErrorIs(t, err, errStat, bad)
	}
}

func TestRanFor(t *testing.T) {
	spent, err := RanFor(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, spent)
	_, err = RanFor(0)
	require.Error(t, err)
}

func TestCPUShare(t *testing.T) {
	before, after := time.Second, 4*time.Second
	share := CPUTimes{server: &before}.Until(CPUTimes{server: &after, driver: &after}, 2*time.Second)
	require.InDelta(t, 1.5, *share.Server, 1e-9)
	require.Nil(t, share.Driver, "not known at the start")
	require.Nil(t, share.Postgres)
	require.Nil(t, share.Others, "not known without all of ours")

	zero := time.Duration(0)
	share = CPUTimes{&zero, &zero, &zero, &zero}.Until(CPUTimes{&before, &before, &before, &after}, time.Second)
	require.InDelta(t, 1, *share.Others, 1e-9)
	share = CPUTimes{&zero, &zero, &zero, &zero}.Until(CPUTimes{&after, &after, &after, &after}, time.Second)
	require.Zero(t, *share.Others)
}

func TestCommand_hidesURLs(t *testing.T) {
	require.Equal(t, "make bench", Command("latency", "make bench", nil))
	require.Equal(t, "go run ./bench/latency --runs=1 --database-url=… --url=… --writers 2",
		Command("latency", "make bench", []string{"--runs=1", "--database-url=postgres://u:secret@h/d", "--url", "http://h", "--writers", "2"}))
}

func TestPrivatePostgres(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "postgres"), 0o700))
	file := filepath.Join(dir, "postgres", "postmaster.pid")
	require.NoError(t, os.WriteFile(file, []byte("123\n/data\n1700000000\n5432\n/run/my sockets\n\n 1 2\nready\n"), 0o600))
	url, pid, err := privatePostgres(dir)
	require.NoError(t, err)
	require.Equal(t, 123, pid)
	require.Equal(t, "postgres://postgres@/freshet?host=%2Frun%2Fmy+sockets&port=5432&sslmode=disable", url)

	require.NoError(t, os.WriteFile(file, []byte("123\n"), 0o600))
	_, _, err = privatePostgres(dir)
	require.Error(t, err)
}

// Only what the server made goes: a link of another name is left alone.
func TestRemoveData(t *testing.T) {
	elsewhere := t.TempDir()
	own, other := filepath.Join(elsewhere, "hash", "postgres"), filepath.Join(elsewhere, "other", "data")
	for _, target := range []string{own, other} {
		require.NoError(t, os.MkdirAll(target, 0o700))
		dir := filepath.Join(t.TempDir(), "dir")
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.Symlink(target, filepath.Join(dir, "postgres")))
		require.NoError(t, removeData(dir))
		require.NoDirExists(t, dir)
	}
	require.NoDirExists(t, filepath.Dir(own))
	require.DirExists(t, other)
}

func TestScan(t *testing.T) {
	ready := make(chan string, 1)
	log := strings.Repeat("{\"msg\":\"noise\"}\n", 20) + "not json\n" +
		"{\"msg\":\"ready\",\"url\":\"http://127.0.0.1:1\"}\n{\"msg\":\"ready\",\"url\":\"twice\"}\n"
	tail := scan(strings.NewReader(log), ready)
	require.Equal(t, "http://127.0.0.1:1", <-ready)
	require.Len(t, tail, 10)
	require.Contains(t, tail[9], "twice")

	// A line that is too long doesn't leave the rest unread: a pipe would fill.
	long := strings.NewReader(strings.Repeat("x", 1<<20) + "\nrest\n")
	scan(long, ready)
	require.Zero(t, long.Len())
}

// A program that ends before it is ready fails the start, with what it said,
// and leaves no folder.
func TestStart_endsEarly(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	program := filepath.Join(t.TempDir(), "freshet")
	script := "#!/bin/sh\ntest \"$1\" = --version && exit\necho 'no such database' >&2\nexit 3\n"
	require.NoError(t, os.WriteFile(program, []byte(script), 0o700))
	_, err := Start(t.Context(), program, "")
	require.ErrorContains(t, err, "before it was ready")
	require.ErrorContains(t, err, "no such database")
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, left)
}

// A program that is never ready is stopped when the caller has had enough.
func TestStart_cancelled(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	program := filepath.Join(t.TempDir(), "freshet")
	script := "#!/bin/sh\ntest \"$1\" = --version && exit\nexec sleep 60\n"
	require.NoError(t, os.WriteFile(program, []byte(script), 0o700))
	enough := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, enough)
	defer cancel()
	_, err := Start(ctx, program, "")
	require.Error(t, err)
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestParseTicks(t *testing.T) {
	busy, total, ok := parseTicks("cpu  10 1 5 100 20 2 3 4 50 60\ncpu0 1 2 3\n")
	require.True(t, ok)
	require.Equal(t, [2]float64{25, 145}, [2]float64{busy, total})
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8", "cpu 1 2 3 x 5 6 7 8"} {
		_, _, ok := parseTicks(bad)
		require.False(t, ok, bad)
	}
}

func TestMedian(t *testing.T) {
	require.Equal(t, 2.0, Median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, Median([]float64{4, 1, 3, 2}))
	require.True(t, math.IsNaN(Median[float64](nil)))
}

func TestParseOptions(t *testing.T) {
	require.Equal(t, []string{"/usr/bin/postgres", "-D", "/my data", "-c", "listen_addresses="},
		parseOptions("/usr/bin/postgres \"-D\" \"/my data\" \"-c\" \"listen_addresses=\"\n"))
	require.Equal(t, []string{"postgres"}, parseOptions("postgres\n"))
}

// A database that is somebody's isn't changed.
func TestStartWith_settingsOfAnothersDatabase(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, err := StartWith(t.Context(), "true", Options{DatabaseURL: "postgres:///", Settings: map[string]string{"fsync": "off"}})
	require.ErrorContains(t, err, "private")
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, left)
}
