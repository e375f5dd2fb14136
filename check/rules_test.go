package check_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/check"
)

func read(t *testing.T, path string) *check.History {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	h, err := check.ParseHistory(file)
	require.NoError(t, err, path)
	return h
}

func verdict(t *testing.T, h *check.History, rule string) check.Verdict {
	t.Helper()
	for _, v := range check.Judge(h) {
		if v.Rule == rule {
			return v
		}
	}
	require.FailNow(t, "no rule is called "+rule)
	return check.Verdict{}
}

// TestGolden holds each rule on both verdicts: the good histories break none,
// the bad ones the one they are named for, and what is told of the violation
// shows it by itself.
func TestGolden(t *testing.T) {
	for _, rule := range check.Rules {
		for _, kind := range []string{"good", "bad"} {
			files, err := filepath.Glob(filepath.Join("testdata", kind, strings.ToLower(rule.ID)+"*.txt"))
			require.NoError(t, err)
			require.NotEmpty(t, files, "%s has no %s history", rule.ID, kind)
			for _, path := range files {
				t.Run(kind+"/"+filepath.Base(path), func(t *testing.T) {
					h := read(t, path)
					if kind == "good" {
						requireClean(t, h, rule.ID)
						return
					}
					v := verdict(t, h, rule.ID)
					require.Equal(t, 1, v.Violations)
					require.NotNil(t, v.Shortest)
					require.NotEmpty(t, v.Shortest.What)
					excerpt := parse(t, v.Shortest.Excerpt.String())
					require.Equal(t, 1, verdict(t, excerpt, rule.ID).Violations, "the excerpt shows nothing:\n%s", v.Shortest.Excerpt)
				})
			}
		}
	}
}

func requireClean(t *testing.T, h *check.History, rule string) {
	t.Helper()
	for _, v := range check.Judge(h) {
		if v.Shortest != nil {
			require.Failf(t, v.Rule+" accuses", "%s\n%s", v.Shortest.What, v.Shortest.Excerpt)
		}
		if v.Rule == rule {
			require.Positive(t, v.Observations)
		}
	}
}

func parse(t *testing.T, text string) *check.History {
	t.Helper()
	h, err := check.ParseHistory(strings.NewReader(text))
	require.NoError(t, err, text)
	return h
}

func TestHistory_text(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txt")
	require.NoError(t, err)
	for _, path := range files {
		text := read(t, path).String()
		require.Equal(t, text, parse(t, text).String(), path)
	}
	for _, bad := range []string{
		"10 client-1", "x client-1 ready 1-5", "1 client-1 jumps", "1 client-1 ready", "1 client-1 ready 5", "1 client-1 ready 1-5 more",
		"1 sql-1 write done r1@1:>a", "1 sql-1 write committed r1@1", "1 sql-1 write committed 1:>a", "1 client-1 read a shows r1",
	} {
		_, err := check.ParseHistory(strings.NewReader(bad))
		require.Error(t, err, bad)
	}
}

// F42: a write whose answer names an epoch that had ended is somewhere, and nobody knows
// where: no other rule goes by its bounds.
func TestJudge_F42_endedEpoch(t *testing.T) {
	h := parse(t, `1 client-1 subscribe since=1-20 a
2..3 rpc-1 write committed r1@1:>a after=2-30 upto=1-40 stamp=1-40
4 client-1 frontier 1-50
`)
	for _, v := range check.Judge(h) {
		want := 0
		if v.Rule == "G5" {
			want = 1
		}
		require.Equal(t, want, v.Violations, v.Rule)
	}
}
