package check_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/check"
)

// What is told of a violation stands by itself, with the faults before it.
func TestReport_violation(t *testing.T) {
	h := read(t, "testdata/bad/g5-strong.txt")
	report := &check.Report{
		Verdicts: check.Judge(h),
		Faults: []check.Caused{
			{Name: "crash-postgres", At: 5 * time.Millisecond, Took: 3 * time.Millisecond},
			{Name: "cut-clients", At: time.Minute},
			{Name: "kill-server", Node: 1, At: time.Minute},
			{Name: "kill-server", Node: 3, At: time.Minute},
			{Name: "cut-feed", Node: 2, At: 4 * time.Millisecond},
		},
	}
	var b strings.Builder
	require.NoError(t, report.WriteText(&b))
	text := b.String()
	require.Contains(t, text, "5 faults: kill-server 1+0+1, crash-postgres 1, cut-clients 1, cut-feed 0+1+0")
	require.Contains(t, text, "G5, read your writes, is broken: a read of a doesn't show r1@2 of sql-1, though it is strong and began after the write's answer\n")
	require.Contains(t, text, "\n  after crash-postgres from 5 to 8\n  after cut-feed 2 from 4 to 4\n")
	require.NotContains(t, text, "after cut-clients")
	require.Contains(t, text, "\n1 violations in ")
}
