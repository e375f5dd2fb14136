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
)

// The service keeps what Freshet promises (G1 to G6) while its clients and its database
// are disturbed. CHECK_DURATION has it judged for longer than the two rounds of
// a test.
func TestCheck_judgesTheService(t *testing.T) {
	duration, err := time.ParseDuration(cmp.Or(os.Getenv("CHECK_DURATION"), "6s"))
	require.NoError(t, err)
	url := start(t)
	w := workload.Boards()
	cfg := check.Config{
		URL: url, Workload: w, Run: check.RunName(), Duration: duration, Round: 3 * time.Second, Patience: time.Minute, Clients: 40, Places: 4, Rate: 30,
		Token:  func(context.Context) (string, error) { return workload.Tenant + ":checker", nil },
		Faults: []string{"cut-clients", "refuse-clients", "stall-clients", "delay-clients", "stop-reading", "freeze-clients", "long-transaction"},
	}
	for _, place := range cfg.PlaceNames() {
		execute(t, `insert into work.projects values ('`+workload.Tenant+`', '`+place+`', 'Checked')`)
	}
	database, err := check.OpenPostgres(t.Context(), owner, cfg.Run, w.Table)
	require.NoError(t, err)
	cfg.Database = database
	report, err := check.Run(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, database.Close(t.Context(), cfg.PlaceNames()))
	var text strings.Builder
	require.NoError(t, report.WriteText(&text))
	t.Log(text.String())
	for _, v := range report.Verdicts {
		require.Zero(t, v.Violations, v.Name)
	}
	require.Greater(t, report.Writes, 50)
	require.NotEmpty(t, report.Faults, "no fault was caused")
}
