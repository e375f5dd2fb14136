package messages_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/store/setup"
)

func value[T any](t *testing.T, url, sql string) (v T) {
	t.Helper()
	require.NoError(t, testkit.Conn(t, url).QueryRow(testkit.Context(t), sql).Scan(&v), sql)
	return v
}

func up(t *testing.T, url string) {
	t.Helper()
	require.NoError(t, testkit.Migrate(testkit.Context(t), url))
	require.NoError(t, setup.Verify(testkit.Context(t), url))
	require.NoError(t, messages.Verify(testkit.Context(t), url))
}

// applied counts the migrations of both records that are in the database.
func applied(t *testing.T, url string) (n int) {
	t.Helper()
	core, err := setup.MigrateStatus(testkit.Context(t), url)
	require.NoError(t, err)
	own, err := messages.MigrateStatus(testkit.Context(t), url)
	require.NoError(t, err)
	for _, m := range append(core, own...) {
		if !m.Applied.IsZero() {
			n++
		}
	}
	return n
}

const record = "select array_agg(version_id order by version_id) from freshet.goose_db_version"

// A database that has the table from Freshet's own migrations is taken over
// with its data, and taken down again.
func TestMigrate_fromOneRecord(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]int64{"the latest version": 3, "the version before": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, url := testkit.Context(t), testkit.Database(t)
			testkit.OneRecord(t, url, version)
			testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('a', 'ann', 'kept')`)
			made := value[time.Time](t, url, `select tstamp from freshet.goose_db_version where version_id = 2`)
			require.NoError(t, messages.Verify(ctx, url), "with --no-migrate it is served as it is")
			own, err := messages.MigrateStatus(ctx, url)
			require.NoError(t, err)
			require.Len(t, own, 1)
			require.WithinDuration(t, made, own[0].Applied, 0)
			require.False(t, value[bool](t, url, `select to_regclass('messages_goose_db_version') is not null`), "who looks makes no record")

			up(t, url)
			up(t, url)
			require.Equal(t, "kept", value[string](t, url, `select body from messages`))
			require.Equal(t, []int64{0, 1, 2, 3, 4}, value[[]int64](t, url, record), "a node of the version before still finds what it knows")
			own, err = messages.MigrateStatus(ctx, url)
			require.NoError(t, err)
			require.Len(t, own, 1)
			require.WithinDuration(t, made, own[0].Applied, 0)

			require.NoError(t, messages.MigrateDown(ctx, url))
			require.Equal(t, []int64{0, 1, 3, 4}, value[[]int64](t, url, record), "which shows it that the table is gone")
			var pending *setup.PendingError
			require.ErrorAs(t, messages.Verify(ctx, url), &pending)
			require.ErrorContains(t, pending, "the database lacks migration 1 (00001_messages.sql)")
			up(t, url)
			require.Equal(t, int64(0), value[int64](t, url, `select count(*) from messages`), "made anew")

			require.Equal(t, 4, applied(t, url))
			require.NoError(t, messages.MigrateDown(ctx, url))
			require.NoError(t, messages.MigrateDown(ctx, url), "with none left")
			for range 3 {
				require.NoError(t, setup.MigrateDown(ctx, url))
			}
			require.Zero(t, applied(t, url))
			up(t, url)
		})
	}
}

// Freshet's own migrations go down over what the earlier version recorded.
func TestMigrate_fromOneRecordWithoutTheService(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Database(t)
	testkit.OneRecord(t, url, 3)
	testkit.Exec(t, url, `drop table messages; drop function messages_insert, messages_update, message_request_hash`)
	require.NoError(t, setup.Migrate(ctx, url))
	require.NoError(t, setup.Verify(ctx, url))
	for range 3 {
		require.NoError(t, setup.MigrateDown(ctx, url))
	}
	require.NoError(t, setup.MigrateDown(ctx, url), "with none left")
	up(t, url)
	require.Equal(t, int64(0), value[int64](t, url, `select count(*) from messages`), "a record without its table is not believed")
}

// Ids have their default from the schema freshet: it goes with that, and comes back with it.
func TestMigrate_schemaDropped(t *testing.T) {
	t.Parallel()
	url := testkit.Migrated(t)
	const insert = `insert into messages (conversation, author, body) values ('a', 'ann', 'hi')`
	testkit.Exec(t, url, `drop schema freshet cascade`)
	_, err := testkit.Conn(t, url).Exec(testkit.Context(t), insert)
	require.ErrorContains(t, err, `null value in column "id"`)
	up(t, url)
	testkit.Exec(t, url, insert)

	testkit.Exec(t, url, `alter table messages alter column id drop default; insert into messages_goose_db_version (version_id, is_applied) values (2, true)`)
	require.NoError(t, messages.Migrate(testkit.Context(t), url))
	_, err = testkit.Conn(t, url).Exec(testkit.Context(t), insert)
	require.Error(t, err, "which a newer version may have done")
}

// What stops half way, or is newer, is told for this record as for the other.
func TestMigrate_newer(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Migrated(t)
	testkit.Exec(t, url, `insert into messages_goose_db_version (version_id, is_applied) values (7, true)`)
	require.NoError(t, messages.Verify(ctx, url), "of a version that is being rolled out, or was taken back")
	require.NoError(t, messages.Migrate(ctx, url))
	var query *setup.QueryError
	testkit.Exec(t, url, `alter table messages rename author to writer`)
	require.ErrorAs(t, messages.Verify(ctx, url), &query, "unless the queries don't fit any more")
	testkit.Exec(t, url, `alter table messages rename writer to author; insert into messages_goose_db_version (version_id, is_applied) values (1007, true)`)
	var newer *setup.NewerError
	require.ErrorAs(t, messages.Verify(ctx, url), &newer)
	require.ErrorContains(t, newer, "the database has migration 1007, and this program knows those up to 1 (public.messages_goose_db_version)")
	require.ErrorAs(t, messages.Migrate(ctx, url), &newer)
	require.NoError(t, setup.Verify(ctx, url), "which is the other record's business")
}

// Freshet itself leaves nothing in public.
func TestMigrate_public(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	require.NoError(t, setup.Migrate(testkit.Context(t), url))
	require.Zero(t, value[int64](t, url, `select count(*) from pg_class where relnamespace = 'public'::regnamespace`))
	require.Zero(t, value[int64](t, url, `select count(*) from pg_proc where pronamespace = 'public'::regnamespace`))
}
