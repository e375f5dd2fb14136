package setup_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/store/setup"
)

// A program serves a database only if it fits: otherwise every call would fail,
// on a node that says that it is ready.
func TestVerify(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Database(t)
	var pending *setup.PendingError
	require.ErrorAs(t, setup.Verify(ctx, url), &pending)
	require.ErrorContains(t, pending, "the database lacks migration 1 (00001_freshet.sql): run `freshet migrate up`")
	var made bool
	require.NoError(t, testkit.Conn(t, url).QueryRow(ctx, `select exists (select from pg_namespace where nspname = 'freshet')`).Scan(&made))
	require.False(t, made, "it only looks")

	require.NoError(t, testkit.Migrate(ctx, url))
	require.NoError(t, setup.Verify(ctx, url))

	testkit.Exec(t, url, `alter table messages rename author to writer`)
	var query *setup.QueryError
	require.ErrorAs(t, messages.Verify(ctx, url), &query)
	require.ErrorContains(t, query, `column "author"`)
	testkit.Exec(t, url, `alter table messages rename writer to author`)
	testkit.Exec(t, url, `drop function freshet.uuidv7 cascade`)
	require.NoError(t, messages.Verify(ctx, url), "what no query names")

	testkit.Exec(t, url, `insert into freshet.goose_db_version (version_id, is_applied) values (7, true)`)
	require.NoError(t, setup.Verify(ctx, url), "a version that is being rolled out, or was taken back, has brought it")
	require.NoError(t, setup.Migrate(ctx, url))
	testkit.Exec(t, url, `insert into freshet.goose_db_version (version_id, is_applied) values (1007, true)`)
	var newer *setup.NewerError
	require.ErrorAs(t, setup.Verify(ctx, url), &newer)
	require.ErrorContains(t, newer, "the database has migration 1007, and this program knows those up to")
	require.ErrorAs(t, setup.Migrate(ctx, url), &newer, "what migrates refuses it as well")
}

// F71: where all is made, a role needs no right to make it; where something is
// missing, it is told what.
func TestMigrate_F71_roles(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	server := testkit.NewServer(t, map[string]string{"fsync": "off"})
	raw := server.Database(t)
	testkit.Exec(t, raw, `create role app login; create role reader login`)
	as := func(role string) string {
		u, err := url.Parse(raw)
		require.NoError(t, err)
		u.User = url.User(role)
		return u.String()
	}
	err := setup.Migrate(ctx, as("app"))
	require.ErrorContains(t, err, "create schema freshet authorization ROLE")

	testkit.Exec(t, raw, `create schema freshet authorization app`)
	require.NoError(t, setup.Migrate(ctx, as("app")), "no CREATE on the database")
	require.NoError(t, setup.Migrate(ctx, as("reader")), "nothing to do")
	require.NoError(t, setup.Verify(ctx, as("reader")))
	err = messages.Migrate(ctx, as("app"))
	require.ErrorContains(t, err, "grant create on schema public to ROLE")

	testkit.Exec(t, raw, `grant create on schema public to app`)
	require.NoError(t, messages.Migrate(ctx, as("app")))
	require.NoError(t, messages.Migrate(ctx, as("reader")), "nothing to do")
	require.NoError(t, messages.Verify(ctx, as("reader")))

	testkit.Exec(t, raw, `revoke all on freshet.goose_db_version from public; revoke all on schema freshet from public`)
	err = setup.Verify(ctx, as("reader"))
	require.ErrorContains(t, err, "grant usage on schema freshet to ROLE; grant select on freshet.goose_db_version to ROLE;")
}
