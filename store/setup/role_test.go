package setup_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// as is a database's URL for another role.
func as(t *testing.T, raw, role string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	u.User = url.User(role)
	return u.String()
}

// owned is a database whose owner is no superuser, migrated and set up by that
// owner, and a role capture that may log in and nothing more.
func owned(t *testing.T) (raw string) {
	t.Helper()
	server := testkit.NewServer(t, map[string]string{"fsync": "off"})
	raw = server.Database(t)
	testkit.Exec(t, raw, `create role owner login; create role capture login; create schema freshet authorization owner; grant create on schema public to owner`)
	require.NoError(t, testkit.Migrate(testkit.Context(t), as(t, raw, "owner")), "with a schema that was made for it, and no CREATE on the database")
	return raw
}

// TestCheck_F71_leastRole: a role that owns nothing is told all that it lacks at
// once, and by whom it can be had; with that capture runs.
func TestCheck_F71_leastRole(t *testing.T) {
	t.Parallel()
	raw := owned(t)
	ctx := testkit.Context(t)
	// An administrator who leaves nothing to PUBLIC. The function's arguments differ
	// between PostgreSQL's versions.
	testkit.Exec(t, raw, `revoke all on schema freshet from public; revoke all on all tables in schema freshet from public`)
	var emit string
	require.NoError(t, testkit.Conn(t, raw).QueryRow(ctx, `select oid::regprocedure::text from pg_proc
		where pronamespace = 'pg_catalog'::regnamespace and proname = 'pg_logical_emit_message' and 'text'::regtype = any(proargtypes)`).Scan(&emit))
	testkit.Exec(t, raw, `revoke execute on function `+emit+` from public`)

	// The owner may not create in the database: that is all that it lacks.
	conn := testkit.Conn(t, as(t, raw, "owner"))
	left, err := setup.Apply(ctx, conn, program(), "freshet")
	require.NoError(t, err, "what the role may not do isn't tried")
	text := (&setup.Error{Problems: left}).Error()
	require.Contains(t, text, "-- to be run by a role that may create in this database:\ncreate publication \"freshet\"")
	testkit.Exec(t, raw, `do $$ begin execute format('grant create on database %I to owner', current_database()); end $$`)
	left, err = setup.Apply(ctx, conn, program(), "freshet")
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Contains(t, left[0].Text, "may not call all the functions")

	// The capture role: all at once.
	captured := testkit.Conn(t, as(t, raw, "capture"))
	found := fatal(t, captured)
	slot, err := setup.CheckSlot(ctx, captured, slotOf(t, raw))
	require.NoError(t, err)
	found = append(found, slot...)
	text = (&setup.Error{Problems: found}).Error()
	require.Contains(t, text, "-- to be run by the owner of the schema freshet (owner):\ngrant usage on schema freshet to capture;\ngrant select, insert, update on freshet.incarnation to capture;\n")
	require.Contains(t, text, "-- to be run by a superuser (at a managed provider: in its console):\ngrant execute on function "+emit+" to capture;\nalter role capture with replication;")
	early := follow(t, raw, as(t, raw, "capture"))
	early.await(t, "the feed says it all at once", func() bool { return strings.Contains(fmt.Sprint(early.Ready()), text) })
	early.stop()
	for _, p := range found {
		role := "postgres"
		if strings.Contains(p.By, "(owner)") {
			role = "owner"
		}
		for _, sql := range p.SQL {
			testkit.Exec(t, as(t, raw, role), sql)
		}
	}
	require.Empty(t, fatal(t, captured))
	slot, err = setup.CheckSlot(ctx, captured, slotOf(t, raw))
	require.NoError(t, err)
	require.Empty(t, slot)

	feed := follow(t, raw, as(t, raw, "capture")).live(t)
	commits := feed.told(t, func() {
		testkit.Exec(t, as(t, raw, "owner"), `insert into messages (conversation, author, body) values ('7', 'a', 'b')`)
	})
	require.Len(t, commits, 1)
	require.Contains(t, commits[0].Topics, "conversations/7/messages")
	feed.await(t, "the watchdog has looked, under this role", func() bool { return feed.Stats().Looks > 1 })
	require.NoError(t, feed.Ready())
}

// TestCheck_F71_othersTables: what only the tables' owner may do is neither tried
// nor printed as if the role could run it.
func TestCheck_F71_othersTables(t *testing.T) {
	t.Parallel()
	raw := owned(t)
	ctx := testkit.Context(t)
	testkit.Exec(t, raw, `alter table messages replica identity nothing;
do $$ begin execute format('grant create on database %I to capture', current_database()); end $$`)
	testkit.Exec(t, as(t, raw, "owner"), `grant select, insert, update, delete on all tables in schema freshet to capture`)
	conn := testkit.Conn(t, as(t, raw, "capture"))
	left, err := setup.Apply(ctx, conn, program(), "freshet")
	require.NoError(t, err)
	var found setup.Problem
	for _, p := range left {
		if p.Source != "" {
			found = p
		}
	}
	require.Equal(t, `the owner of "public"."messages"`, found.By)
	require.Contains(t, strings.Join(found.SQL, " "), "replica identity using index")

	// Neither the tables' owner nor the publication's may do it alone.
	testkit.Exec(t, raw, `create role third login`)
	third := fatal(t, testkit.Conn(t, as(t, raw, "third")))
	require.Equal(t, `the owner of "public"."messages", with the rights of the owner of the publication "freshet"`, third[len(third)-1].By)
}

// TestCheckSlot_F71_mayReplicate: the server is asked, not the role's attribute.
// What the session may and the current role may not (and the other way round) is
// refused: one opens the walsender, the other handles slots.
func TestCheckSlot_F71_mayReplicate(t *testing.T) {
	t.Parallel()
	raw := owned(t)
	ctx := testkit.Context(t)
	testkit.Exec(t, raw, `create role replicator login replication; create role second login replication; grant second to capture; grant capture to replicator`)
	may := func(raw string) string {
		problems, err := setup.CheckSlot(ctx, testkit.Conn(t, raw), "freshet")
		require.NoError(t, err)
		return (&setup.Error{Problems: problems}).Error()
	}
	require.Empty(t, may(as(t, raw, "replicator")))
	require.Contains(t, may(as(t, raw, "capture")), "the role capture may not replicate")
	require.Contains(t, may(testkit.WithParam(t, as(t, raw, "replicator"), "options", "-crole=capture")), "the role capture may not replicate")
	require.Contains(t, may(testkit.WithParam(t, as(t, raw, "capture"), "options", "-crole=second")), "the role second may not replicate")

	for role, want := range map[string]string{"replicator": "yes", "capture": "no"} {
		got := "no"
		if setup.TryReplication(ctx, testkit.Conn(t, as(t, raw, role))) {
			got = "yes"
		}
		require.Equal(t, want, got, role)
	}
}

// TestCheckSlot_F71_managed: what is printed can be run where it is run.
func TestCheckSlot_F71_managed(t *testing.T) {
	t.Parallel()
	raw := owned(t)
	conn := testkit.Conn(t, as(t, raw, "capture"))
	for _, c := range []struct{ role, want string }{
		{"", "-- to be run by a superuser (at a managed provider: in its console):\nalter role capture with replication;"},
		{"azure_pg_admin", "-- to be run by a member of azure_pg_admin:\nalter role capture with replication;"},
		{"cloudsqlsuperuser", "-- to be run by a member of cloudsqlsuperuser:\nalter role capture with replication;"},
		{"rds_replication", "-- to be run by a member of rds_superuser:\ngrant rds_replication to capture;"},
	} {
		if c.role != "" {
			testkit.Exec(t, raw, `create role `+c.role)
		}
		problems, err := setup.CheckSlot(testkit.Context(t), conn, "freshet")
		require.NoError(t, err)
		require.Contains(t, (&setup.Error{Problems: problems}).Error(), c.want)
	}
}
