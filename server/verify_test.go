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
		"a newer migration": {`insert into freshet.goose_db_version (version_id, is_applied) values (99, true)`, "the database has migration 99"},
		"a lost column":     {`alter table messages drop column author cascade`, `column "author"`},
	} {
		for _, skip := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				database := testkit.Migrated(t)
				testkit.Exec(t, database, c.sql)
				s, err := server.New(server.Config{DatabaseURL: database, Addr: "127.0.0.1:0", SkipMigrate: skip, Logger: testkit.Logger(t)}, messageService)
				require.NoError(t, err)
				require.ErrorContains(t, s.Run(testkit.Context(t)), c.want)
			})
		}
	}
	t.Run("nothing migrated", func(t *testing.T) {
		s, err := server.New(server.Config{DatabaseURL: testkit.Database(t), Addr: "127.0.0.1:0", SkipMigrate: true, Logger: testkit.Logger(t)}, messageService)
		require.NoError(t, err)
		require.ErrorContains(t, s.Run(testkit.Context(t)), "run `freshet migrate up`")
	})
}
