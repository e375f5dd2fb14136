package main

import (
	"cmp"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/tasks/workload"

	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/server/intercept"
)

// The service keeps what Freshet promises (G1 to G6) while its clients and its database
// are disturbed: as one whose rows are tasks, and as one whose rows are what is said
// about them, of which a board's request knows nothing (response_topics).
// CHECK_DURATION has each judged for longer than the two rounds of a test.
func TestCheck_judgesTheService(t *testing.T) {
	url := start(t)
	for name, w := range map[string]check.Workload{"tasks": workload.Boards(), "comments": workload.Comments()} {
		t.Run(name, func(t *testing.T) {
			report := judge(t.Context(), t, url, w, func(cfg *check.Config) {
				cfg.Faults = []string{"cut-clients", "refuse-clients", "stall-clients", "delay-clients", "stop-reading", "freeze-clients", "long-transaction"}
			})
			for _, v := range report.Verdicts {
				require.Zero(t, v.Violations, v.Name)
			}
			require.Greater(t, report.Writes, 50)
			require.NotEmpty(t, report.Faults, "no fault was caused")
		})
	}
}

// A board whose contract has no topics of its answer's is answered from what the server
// keeps, though somebody has said something: it would be stale at every client that
// hears of it otherwise, and the checker's do (G6).
func TestCheck_F52_forgottenTopicOfTheAnswer(t *testing.T) {
	url := startForgetful(t, "/comments", intercept.AuditOff)
	for range 10 {
		// Not until clients agree: they never will.
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		report := judge(ctx, t, url, workload.Comments(), nil)
		cancel()
		for _, v := range report.Verdicts {
			if v.Rule == "G6" && v.Violations > 0 {
				require.NotNil(t, v.Shortest)
				return
			}
		}
	}
	require.FailNow(t, "not caught")
}

// judge has the service judged.
func judge(ctx context.Context, t *testing.T, url string, w check.Workload, change func(*check.Config)) *check.Report {
	t.Helper()
	duration, err := time.ParseDuration(cmp.Or(os.Getenv("CHECK_DURATION"), "6s"))
	require.NoError(t, err)
	cfg := check.Config{
		URL: url, Workload: w, Run: check.RunName(), Duration: duration, Round: 3 * time.Second, Patience: time.Minute, Clients: 40, Places: 4, Rate: 30,
		Token: func(context.Context) (string, error) { return workload.Tenant + ":checker", nil }, TokenOf: workload.TokenOf,
	}
	if change != nil {
		change(&cfg)
	}
	for _, place := range cfg.PlaceNames() {
		execute(t, `insert into work.projects values ('`+workload.Tenant+`', '`+place+`', 'Checked')`)
	}
	execute(t, workload.CommentsSQL)
	database, err := check.OpenPostgres(t.Context(), owner, cfg.Run, w.Table)
	require.NoError(t, err)
	cfg.Database = database
	report, err := check.Run(ctx, cfg)
	require.NoError(t, err)
	require.NoError(t, database.Close(t.Context(), cfg.PlaceNames()))
	var text strings.Builder
	require.NoError(t, report.WriteText(&text))
	t.Log(text.String())
	return report
}
