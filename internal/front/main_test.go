package front_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// running is a server, and a client of it.
type running struct {
	*live.Server
	ctx  context.Context
	http *http.Client // HTTP/2 without TLS
}

func start(t *testing.T, change func(*live.Config)) *running {
	t.Helper()
	return startOn(t, testkit.Migrated(t), change)
}

func startOn(t *testing.T, database string, change func(*live.Config)) *running {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	s := live.Start(t, database, change)
	t.Cleanup(transport.CloseIdleConnections)
	return &running{Server: s, ctx: testkit.Context(t), http: &http.Client{Transport: transport}}
}
