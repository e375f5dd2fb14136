package setup_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

var parts = setup.Roles{Owner: "freshet owner", Capture: "freshet_capture", App: "freshet_app"}

// grant runs what is lacking, each statement as the role that it is for, and the
// superuser's as admin; it returns how many there were, and the notes.
func grant(t *testing.T, raw, admin string, roles setup.Roles) (statements []string, notes string) {
	t.Helper()
	ctx := testkit.Context(t)
	grants, said, err := setup.GrantsFor(ctx, testkit.Conn(t, raw), program(), "freshet", roles)
	require.NoError(t, err)
	for _, g := range grants {
		role := g.By
		if strings.HasPrefix(role, "a superuser") {
			role = admin
		}
		conn := testkit.Conn(t, as(t, raw, role))
		for _, sql := range g.SQL {
			_, err := conn.Exec(ctx, sql)
			require.NoError(t, err, "%s: %s", role, sql)
			statements = append(statements, sql)
		}
	}
	return statements, strings.Join(said, "\n")
}

// setUpAs migrates and sets up as the owner does, and returns what is left.
func setUpAs(t *testing.T, raw, owner string) {
	t.Helper()
	ctx := testkit.Context(t)
	require.NoError(t, testkit.Migrate(ctx, as(t, raw, owner)))
	left, err := setup.Apply(ctx, testkit.Conn(t, as(t, raw, owner)), program(), "freshet")
	require.NoError(t, err)
	require.Empty(t, setup.Fatal(left))
}

// refusedTo checks that a role may not run a statement, for want of a right.
func refusedTo(t *testing.T, raw, role, sql string) {
	t.Helper()
	_, err := testkit.Conn(t, as(t, raw, role)).Exec(testkit.Context(t), sql)
	require.Equal(t, "42501", setup.SQLState(err), "%s: %s: %v", role, sql, err)
}

// TestGrantsFor_F71: from an empty database to one in which three roles do their parts,
// each with what is printed and nothing more. What is printed twice lacks nothing.
func TestGrantsFor_F71(t *testing.T) {
	t.Parallel()
	server := testkit.NewServer(t, map[string]string{"fsync": "off"})
	raw := server.Database(t)
	_, notes := grant(t, raw, "postgres", parts)
	require.Contains(t, notes, "`freshet migrate up` as \"freshet owner\", and then this again")
	setUpAs(t, raw, parts.Owner)
	more, _ := grant(t, raw, "postgres", parts)
	require.NotEmpty(t, more)
	more, notes = grant(t, raw, "postgres", parts)
	require.Empty(t, more)
	require.Empty(t, notes)

	captured := testkit.Conn(t, as(t, raw, parts.Capture))
	require.Empty(t, fatal(t, captured))
	slot, err := setup.CheckSlot(testkit.Context(t), captured, slotOf(t, raw))
	require.NoError(t, err)
	require.Empty(t, slot)
	feed := follow(t, raw, as(t, raw, parts.Capture)).live(t)
	commits := feed.told(t, func() {
		testkit.Exec(t, as(t, raw, parts.App), `insert into messages (conversation, author, body) values ('7', 'a', 'b')`)
	})
	require.Len(t, commits, 1)
	testkit.Exec(t, as(t, raw, parts.App), `update messages set body = 'c'; delete from messages; select epoch from freshet.incarnation`)

	for role, statements := range map[string][]string{
		parts.Capture: {"select from messages", "delete from messages", "create table mine ()", "create table freshet.mine ()", "drop publication freshet", "select from freshet.goose_db_version for update"},
		parts.App: {"truncate messages", "alter table messages disable trigger all", "create table mine ()", "update freshet.incarnation set epoch = 1",
			"insert into freshet.fingerprint values ('x', 'y')", "select pg_create_logical_replication_slot('mine', 'pgoutput')"},
	} {
		for _, sql := range statements {
			refusedTo(t, raw, role, sql)
		}
	}
}

// Roles for callers: the services' role takes them and has none of their rights by
// itself, but for what shared reads need.
func TestGrantsFor_callers(t *testing.T) {
	t.Parallel()
	for _, major := range testkit.Majors(t) {
		server := testkit.NewServerOf(t, major, map[string]string{"fsync": "off"})
		raw := server.Database(t)
		roles := parts
		roles.Callers, roles.Replicas = []string{"member", "guest"}, true
		grant(t, raw, "postgres", roles)
		setUpAs(t, raw, roles.Owner)
		grant(t, raw, "postgres", roles)
		more, notes := grant(t, raw, "postgres", roles)
		require.Empty(t, more, "PostgreSQL %d", major)
		require.Empty(t, notes)

		app := as(t, raw, roles.App)
		testkit.Exec(t, app, "select from messages")
		refusedTo(t, raw, roles.App, "insert into messages (conversation, author, body) values ('7', 'a', 'b')")
		testkit.Exec(t, app, "begin; set local role member; insert into messages (conversation, author, body) values ('7', 'a', 'b'); commit")
		refusedTo(t, raw, roles.App, "set role freshet_capture")
		// Which timeline a standby follows is seen by who takes that role, and no other.
		testkit.Exec(t, app, "begin; set local role pg_read_all_stats; select received_tli from pg_stat_wal_receiver; commit")
		testkit.Exec(t, app, "do $$ begin assert not pg_has_role('pg_read_all_stats', 'usage'); end $$")
	}
}

// What is there already and goes past policies, or replicates, is taken back; a table
// and a schema of others are told of.
func TestGrantsFor_whatIsThere(t *testing.T) {
	t.Parallel()
	raw := owned(t)
	testkit.Exec(t, raw, `create role freshet_app login superuser replication bypassrls; create role bob nologin`)
	sql, notes := grant(t, raw, "postgres", parts)
	text := strings.Join(sql, "\n")
	for _, want := range []string{"nosuperuser", "noreplication", "nobypassrls"} {
		require.Contains(t, text, `alter role "freshet_app" with `+want+";")
	}
	require.Contains(t, text, `grant select, insert, update, delete on "public"."messages" to "freshet_app";`)
	require.Contains(t, notes, `the table "public"."messages" belongs to "owner"`)
	require.Contains(t, notes, `the schema freshet belongs to "owner"`)
	sql, _ = grant(t, raw, "postgres", parts)
	require.Empty(t, sql)
}

// TestGrantsFor_F71_managed: whoever administers at a provider is no superuser. All that
// is printed can be run by such a role, but for the attribute where replication is one.
func TestGrantsFor_F71_managed(t *testing.T) {
	t.Parallel()
	for _, major := range testkit.Majors(t) {
		server := testkit.NewServerOf(t, major, map[string]string{"fsync": "off"})
		raw := server.Database(t)
		testkit.Exec(t, raw, `create role master login createrole createdb; create role rds_replication; grant rds_replication to master with admin option;
do $$ begin execute format('alter database %I owner to master', current_database()); end $$; alter schema public owner to master`)
		roles := parts
		roles.Callers = []string{"member"}
		grant(t, raw, "master", roles)
		setUpAs(t, raw, roles.Owner)
		grant(t, raw, "master", roles)
		more, _ := grant(t, raw, "master", roles)
		require.Empty(t, more, "PostgreSQL %d", major)
		var may bool
		require.NoError(t, testkit.Conn(t, raw).QueryRow(testkit.Context(t), "select pg_has_role('freshet_capture', 'rds_replication', 'member')").Scan(&may))
		require.True(t, may)
	}
}
