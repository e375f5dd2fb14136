package setup_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// What doctor says of a standby that the URL names: nothing, what it lacks, that it
// can't be reached, and that it was promoted beside the primary, which is then the one
// that was left behind.
func TestCheckHosts(t *testing.T) {
	t.Parallel()
	ctx, server := testkit.Context(t), testkit.NewServer(t, nil)
	primary := server.URL("postgres")
	standby := server.Standby(t)
	at, err := url.Parse(primary)
	require.NoError(t, err)
	both := testkit.WithParam(t, testkit.WithParam(t, primary, "host", at.Query().Get("host")+","+standby.Host()),
		"port", at.Query().Get("port")+","+standby.Port())
	found := func() []string {
		t.Helper()
		problems, err := setup.CheckHosts(ctx, both)
		require.NoError(t, err)
		var texts []string
		for _, p := range problems {
			require.True(t, p.Warning)
			texts = append(texts, p.Text)
		}
		return texts
	}
	require.Empty(t, found())
	problems, err := setup.CheckHosts(ctx, primary)
	require.NoError(t, err)
	require.Empty(t, problems, "there is one host")

	there := standby.URL(t, primary)
	testkit.Exec(t, there, `alter system set wal_level = 'replica'`)
	testkit.Exec(t, there, `alter system set max_replication_slots = 3`)
	standby.Stop(t)
	texts := found()
	require.Len(t, texts, 1)
	require.Contains(t, texts[0], "can't be looked at")
	standby.Start(t)
	texts = found()
	require.Len(t, texts, 2)
	require.Contains(t, texts[0], "has wal_level = replica")
	require.Contains(t, texts[1], "has max_replication_slots = 3")

	standby.Promote(t)
	texts = found()
	require.Len(t, texts, 1)
	require.Contains(t, texts[0], "is a primary too")
	require.Contains(t, texts[0], at.Query().Get("port"), "the one that was left behind")
}
