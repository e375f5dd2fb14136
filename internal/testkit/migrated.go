package testkit

import (
	"context"
	"testing"

	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/store/setup"
)

// Migrated creates a database with all of Freshet's migrations and the message service's on the
// shared server and returns its URL; see Database. (Tests of packages store and server/messages
// themselves that use the testkit live in packages store_test and messages_test.)
func Migrated(t testing.TB) string {
	t.Helper()
	return Postgres(t).Migrated(t)
}

// Migrated is Migrated on this server.
func (p *Server) Migrated(t testing.TB) string {
	t.Helper()
	return p.Template(t, "migrated", Migrate)
}

// Migrate runs Freshet's migrations and the message service's.
func Migrate(ctx context.Context, url string) error {
	if err := setup.Migrate(ctx, url); err != nil {
		return err
	}
	return messages.Migrate(ctx, url)
}
