package depths

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/conformance"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
)

// A service on connections of its own keeps the protocol: a write's stamp is at or above
// its commit there, and its answer names no topics.
func TestDepth_conformance(t *testing.T) {
	database := testkit.Migrated(t)
	s := overSQL(t, database)
	n := serve(t, database, func(*server.Node) storage { return s }, func(c *live.Config) { c.Heartbeat = time.Second })
	report, err := conformance.Server(testkit.Context(t), conformance.ServerConfig{
		URL: n.url, Service: conformance.Messages(), Patience: 30 * time.Second, Skip: []string{"mutation-topics"},
	})
	require.NoError(t, err)
	var text strings.Builder
	require.NoError(t, report.WriteText(&text))
	require.Empty(t, report.Failed(), text.String())
}
