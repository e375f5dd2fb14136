package testkit

import (
	"testing"

	"github.com/freshet-dev/freshet/store"
)

// Migrated creates a database with all of Freshet's migrations on the shared server and returns its
// URL; see Database. (Tests of package store itself that use the testkit live in package
// store_test.)
func Migrated(t testing.TB) string {
	t.Helper()
	return Postgres(t).Migrated(t)
}

// Migrated is Migrated on this server.
func (p *Server) Migrated(t testing.TB) string {
	t.Helper()
	return p.Template(t, "migrated", store.Migrate)
}
