package store_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// heldCommit is a COMMIT that has reached the server and waits there, in a
// deferred trigger, for a lock that the test holds.
type heldCommit struct {
	url    string
	proxy  *testkit.Proxy
	db     *store.DB
	call   *store.Call
	tries  atomic.Int32       // commits sent
	cancel context.CancelFunc // the caller's end
	holder *pgx.Conn
	result chan error
}

// holdCommit waits this long for the answer to COMMIT, and then for its fate.
func holdCommit(t *testing.T, commit, resolve time.Duration) *heldCommit {
	t.Helper()
	h := &heldCommit{url: migrated(t), result: make(chan error, 1)}
	h.call = &store.Call{BeforeCommit: func(uint64) { h.tries.Add(1) }}
	ctx := testkit.Context(t)
	testkit.Exec(t, h.url, `
		create function hold() returns trigger language plpgsql as
			$$ begin perform pg_advisory_xact_lock(1); return null; end $$;
		create constraint trigger hold after insert on messages deferrable initially deferred
			for each row execute function hold()`)
	h.proxy = testkit.NewProxy(t, h.url)
	h.db = open(t, store.Config{URL: h.proxy.URL(), MaxConns: 1})
	h.db.SetCommitTimeouts(commit, resolve)

	h.holder = testkit.Conn(t, h.url)
	_, err := h.holder.Exec(ctx, "select pg_advisory_lock(1)")
	require.NoError(t, err)
	calling, cancel := context.WithCancel(ctx)
	t.Cleanup(cancel)
	h.cancel = cancel
	go func() { h.result <- h.db.InTx(store.WithCall(calling, h.call), create) }()
	waitFor(t, "COMMIT is held", func() bool { return h.waiting(t) != 0 })
	return h
}

// waiting returns the process id of the session whose COMMIT is held; 0: none.
func (h *heldCommit) waiting(t *testing.T) (pid int32) {
	return one[int32](t, h.holder, `select coalesce(max(pid), 0) from pg_locks
		where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())`)
}

// requireHeld checks that it is still the first COMMIT that waits.
func (h *heldCommit) requireHeld(t *testing.T) {
	t.Helper()
	require.NotZero(t, h.waiting(t), "COMMIT was canceled")
	require.EqualValues(t, 1, h.tries.Load(), "COMMIT was canceled, and the transaction tried again")
}

func (h *heldCommit) release(t *testing.T) {
	t.Helper()
	_, err := h.holder.Exec(testkit.Context(t), "select pg_advisory_unlock(1)")
	require.NoError(t, err)
}

// The answer to COMMIT is lost, the commit is not: the call succeeds, on
// another connection, once others can see it.
func TestInTx_commitAnswerLost(t *testing.T) {
	t.Parallel()
	h := holdCommit(t, time.Minute, time.Minute)
	h.proxy.Cut()
	waitFor(t, "the status is asked for", func() bool {
		return one[bool](t, h.holder, "select count(*) = 2 from pg_stat_activity where application_name = 'freshet' and datname = current_database()")
	})
	h.requireHeld(t)
	require.Empty(t, h.result, "answered while the commit was under way")
	h.release(t)
	require.NoError(t, <-h.result)

	o := onlyOutcome(t, h.call)
	require.True(t, o.Committed)
	require.NotZero(t, o.Xid)
	require.NotZero(t, o.Position.Position)
	require.Equal(t, 1, countMessages(t, h.db))
}

// A COMMIT that fell with its session is known not to have happened, and is
// tried again.
func TestInTx_commitLostWithSession(t *testing.T) {
	t.Parallel()
	h := holdCommit(t, time.Minute, time.Minute)
	_, err := h.holder.Exec(testkit.Context(t), "select pg_terminate_backend($1)", h.waiting(t))
	require.NoError(t, err)
	h.release(t)
	require.NoError(t, <-h.result)
	require.EqualValues(t, 2, h.tries.Load())
	require.True(t, onlyOutcome(t, h.call).Committed)
	require.Equal(t, 1, countMessages(t, h.db))
}

// Where the fate of a COMMIT can't be learned, that is what is said.
func TestInTx_commitUnknown(t *testing.T) {
	t.Parallel()
	t.Run("unreachable", func(t *testing.T) {
		h := holdCommit(t, time.Minute, 100*time.Millisecond)
		h.proxy.Refuse()
		requireUnknown(t, h)
		h.release(t)
	})
	t.Run("in progress", func(t *testing.T) {
		h := holdCommit(t, time.Minute, 100*time.Millisecond)
		h.proxy.Cut()
		requireUnknown(t, h)
		h.release(t)
	})
	t.Run("another epoch", func(t *testing.T) {
		h := holdCommit(t, time.Minute, time.Minute)
		setEpoch(t, h.url, epoch+1)
		h.proxy.Cut()
		requireUnknown(t, h) // at once, not after a minute
		h.release(t)
	})
}

func requireUnknown(t *testing.T, h *heldCommit) {
	t.Helper()
	err := <-h.result
	require.ErrorIs(t, err, store.ErrCommitUnknown)
	require.NotErrorIs(t, err, store.ErrUnavailable, "trying again may do the work twice")
	require.Empty(t, h.call.Outcomes())
}

// Our impatience doesn't cancel a COMMIT: one that isn't answered in time is
// resolved.
func TestInTx_commitTimeout(t *testing.T) {
	t.Parallel()
	h := holdCommit(t, 100*time.Millisecond, time.Minute)
	waitFor(t, "the status is asked for", func() bool {
		return one[bool](t, h.holder, "select count(*) = 2 from pg_stat_activity where application_name = 'freshet' and datname = current_database()")
	})
	h.requireHeld(t)
	h.release(t)
	require.NoError(t, <-h.result)
	require.True(t, onlyOutcome(t, h.call).Committed)
	require.Equal(t, 1, countMessages(t, h.db))
}

// F78: a caller whose time is over gets its answer, which doesn't say that the
// commit failed; the commit goes on, and the pool is closed after it.
func TestInTx_F78_callerLeavesDuringCommit(t *testing.T) {
	t.Parallel()
	h := holdCommit(t, time.Minute, time.Minute)
	h.cancel()
	err := <-h.result
	require.ErrorIs(t, err, store.ErrCommitUnknown)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, store.ErrUnavailable, "trying again may do the work twice")
	h.requireHeld(t)
	closed := make(chan struct{})
	go func() { h.db.Close(); close(closed) }()
	h.release(t)
	<-closed
	require.True(t, onlyOutcome(t, h.call).Committed)
	require.Equal(t, 1, one[int](t, h.holder, "select count(*) from messages"))
}

// A commit that waits for a standby goes on waiting when its client is lost
// (pgx's cancel request would release it before the standby has it), is in
// progress for everyone, and resolved once it is released.
func TestInTx_commitHeldByStandby(t *testing.T) {
	t.Parallel()
	server := testkit.NewServer(t, nil)
	ctx, url := testkit.Context(t), server.URL("postgres")
	require.NoError(t, prepare(ctx, url))
	p := testkit.NewProxy(t, url)
	d := open(t, store.Config{URL: p.URL(), MaxConns: 1})
	d.SetCommitTimeouts(time.Minute, time.Minute)
	admin := testkit.Conn(t, url)
	setStandbys := func(names string) {
		for _, sql := range []string{"set synchronous_commit = local", "alter system set synchronous_standby_names = '" + names + "'", "select pg_reload_conf()"} {
			_, err := admin.Exec(ctx, sql)
			require.NoError(t, err)
		}
	}
	held := func() bool {
		return one[bool](t, admin, "select count(*) > 0 from pg_stat_activity where wait_event = 'SyncRep'")
	}

	setStandbys("absent")
	var call *store.Call
	var result chan error
	for answered := true; answered; { // the setting takes effect some time after the reload
		call, result = new(store.Call), make(chan error, 1)
		go func() { result <- d.InTx(store.WithCall(ctx, call), create) }()
		waitFor(t, "COMMIT is answered or held", func() bool {
			answered = len(call.Outcomes()) > 0
			return answered || held()
		})
		if answered {
			require.NoError(t, <-result)
		}
	}
	visible := one[int](t, admin, "select count(*) from messages")

	p.Cut()
	waitFor(t, "the status is asked for", func() bool {
		return one[bool](t, admin, "select count(*) = 2 from pg_stat_activity where application_name = 'freshet'")
	})
	require.True(t, held(), "the lost client released the commit")
	setStandbys("")
	require.NoError(t, <-result)
	require.True(t, onlyOutcome(t, call).Committed)
	require.Equal(t, visible+1, one[int](t, admin, "select count(*) from messages"))
}
