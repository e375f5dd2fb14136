package server_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
)

// A database that the program doesn't fit is refused at the start: the node would
// say that it is ready, and every call would fail. Whether it migrates itself is
// no matter.
func TestRun_refusesADatabaseThatDoesNotFit(t *testing.T) {
	for name, c := range map[string]struct{ sql, want string }{
		"a newer migration": {`insert into freshet.goose_db_version (version_id, is_applied) values (1099, true)`, "the database has migration 1099"},
		"a lost column":     {`alter table messages drop column author cascade`, `column "author"`},
	} {
		for _, skip := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				database := testkit.Migrated(t)
				testkit.Exec(t, database, c.sql)
				require.ErrorContains(t, refused(t, server.Config{DatabaseURL: database, SkipMigrate: skip}), c.want)
			})
		}
	}
	t.Run("nothing migrated", func(t *testing.T) {
		require.ErrorContains(t, refused(t, server.Config{DatabaseURL: testkit.Database(t), SkipMigrate: true}), "run `freshet migrate up`")
	})
}
