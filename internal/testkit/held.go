package testkit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// HoldCommits makes every commit of the server hang after its flush, for a synchronous standby that
// is absent; only those with synchronous_commit = local go on. It returns once one has hung, and has
// been let through: the setting holds when the checkpointer has read it, which is some time after a
// session shows it.
func HoldCommits(t testing.TB, url string) {
	t.Helper()
	setStandbys(t, url, "absent")
	ctx := Context(t)
	admin, probe := Conn(t, WithParam(t, url, "synchronous_commit", "local")), Conn(t, url)
	pid := probe.PgConn().PID()
	for held := false; !held; {
		committed := make(chan error, 1)
		go func() {
			_, err := probe.Exec(ctx, `select pg_logical_emit_message(true, 'testkit', '')`)
			committed <- err
		}()
		for done := false; !done; {
			select {
			case err := <-committed:
				require.NoError(t, err)
				done = true
			case <-time.After(time.Millisecond):
				err := admin.QueryRow(ctx, `select coalesce(bool_or(pg_cancel_backend(pid)), false)
					from pg_stat_activity where pid = $1 and wait_event = 'SyncRep'`, pid).Scan(&held)
				require.NoError(t, err)
				if held {
					require.NoError(t, <-committed)
					done = true
				}
			}
		}
	}
}

// ReleaseCommits lets through what HoldCommits holds.
func ReleaseCommits(t testing.TB, url string) {
	t.Helper()
	setStandbys(t, url, "")
}

func setStandbys(t testing.TB, url, names string) {
	t.Helper()
	url = WithParam(t, url, "synchronous_commit", "local")
	Exec(t, url, `alter system set synchronous_standby_names = '`+names+`'`)
	Exec(t, url, `select pg_reload_conf()`)
}
