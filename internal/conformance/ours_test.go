package conformance_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/conformance"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// TestServer_ours: the server passes all cases, on a real Postgres.
func TestServer_ours(t *testing.T) {
	s := live.Start(t, testkit.Migrated(t), func(c *live.Config) { c.Heartbeat, c.Explain = time.Second, true })
	report, err := conformance.Server(testkit.Context(t), conformance.ServerConfig{URL: s.URL, Service: conformance.Messages(), Patience: 30 * time.Second})
	require.NoError(t, err)
	requirePassed(t, report)
}

func requirePassed(t *testing.T, report *conformance.Report) {
	t.Helper()
	var text strings.Builder
	require.NoError(t, report.WriteText(&text))
	t.Log(text.String())
	require.Empty(t, report.Failed())
}
