package setup_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// policies returns what is found, as a role.
func policies(t *testing.T, raw string) (problems, warnings string) {
	t.Helper()
	config, err := pgx.ParseConfig(raw)
	require.NoError(t, err)
	found, err := setup.CheckPolicies(testkit.Context(t), config, program())
	require.NoError(t, err)
	var told, warned []string
	for _, p := range found {
		require.Equal(t, "public.messages", p.Source)
		if p.Warning {
			warned = append(warned, p.Text)
		} else {
			told = append(told, p.Text)
		}
	}
	return strings.Join(told, "\n"), strings.Join(warned, "\n")
}

// F24: a shared read of a table that has row security is a problem, also where only a
// partition has it; for Check too, which the watchdog goes by.
func TestCheckPolicies_F24_shared(t *testing.T) {
	t.Parallel()
	raw := database(t)
	conn := testkit.Conn(t, raw)
	found, _ := policies(t, raw)
	require.Empty(t, found)
	require.Empty(t, fatal(t, conn))
	testkit.Exec(t, raw, `alter table messages enable row level security`)
	found, _ = policies(t, raw)
	require.Contains(t, found, `the table public.messages has row security`)
	for _, read := range []string{"GetMessage", "ListMessages", "ListConversations"} {
		require.Contains(t, found, "/messages.v1.MessageService/"+read)
	}
	problems := fatal(t, conn)
	require.Len(t, problems, 1)
	require.Equal(t, found, problems[0].Text)

	testkit.Exec(t, raw, `alter table messages disable row level security`)
	require.Empty(t, fatal(t, conn))
	testkit.Exec(t, raw, `create table child () inherits (messages); alter table child enable row level security`)
	found, _ = policies(t, raw)
	require.Contains(t, found, `the table public.child has row security`)
}

// Policies that don't bind the services' role are told of, and why.
func TestCheckPolicies_unbound(t *testing.T) {
	t.Parallel()
	raw := owned(t)
	testkit.Exec(t, raw, `create role bypass login bypassrls; create role plain login; alter table messages enable row level security`)
	for role, want := range map[string]string{
		"postgres": "it is a superuser", "owner": "it owns the table", "bypass": "it has BYPASSRLS", "plain": "",
	} {
		_, got := policies(t, as(t, raw, role))
		require.Equal(t, want != "", strings.Contains(got, "doesn't bind the role "+role+" ("+want+")"), "%s: %s", role, got)
		require.Equal(t, want == "", got == "")
	}
	testkit.Exec(t, raw, `alter table messages force row level security`)
	_, got := policies(t, as(t, raw, "owner"))
	require.Empty(t, got)
}
