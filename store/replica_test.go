package store_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// replicated is a primary with a table, and a streaming standby of it.
type replicated struct {
	server  *testkit.Server
	standby *testkit.Standby
	primary string // URL of the database
	replica string // the same on the standby
	on      *pgx.Conn
	there   *pgx.Conn // on the standby
}

// newReplicated makes them of a PostgreSQL of this major version; zero: of the first one
// that this machine has.
func newReplicated(t *testing.T, major int) *replicated {
	t.Helper()
	r := &replicated{server: testkit.NewServerOf(t, major, map[string]string{"fsync": "off", "wal_keep_size": "256MB"})}
	r.primary = r.server.Database(t)
	require.NoError(t, testkit.Migrate(testkit.Context(t), r.primary))
	r.on = testkit.Conn(t, r.primary)
	exec(t, r.on, `insert into freshet.incarnation (epoch, system_identifier, timeline, postmaster_start)
		select $1, system_identifier, timeline_id, pg_postmaster_start_time() from pg_control_system(), pg_control_checkpoint()`, int64(epoch))
	exec(t, r.on, `insert into freshet.epoch (last) values ($1)`, int64(epoch))
	exec(t, r.on, `create table things (n bigint); insert into things values (0)`)
	r.standby = r.server.Standby(t)
	r.replica = r.standby.URL(t, r.primary)
	r.there = testkit.Conn(t, r.replica)
	return r
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(testkit.Context(t), sql, args...)
	require.NoError(t, err, sql)
}

// open opens a pool with the replicas, and has them looked after.
func (r *replicated) open(t *testing.T, c store.Config, before ...func(*store.DB)) *store.DB {
	t.Helper()
	c.URL = r.primary
	if c.Replicas == nil {
		c.Replicas = []string{r.replica}
	}
	d := open(t, c)
	for _, do := range before {
		do(d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { _ = d.Watch(ctx) })
	t.Cleanup(func() {
		cancel()
		watching.Wait()
	})
	return d
}

// write commits a row and returns a revision at or above it, which is as good as a
// frontier: whoever writes waits for the commit.
func (r *replicated) write(t testing.TB) freshet.Revision {
	t.Helper()
	exec(t, r.on, `update things set n = n + 1`)
	return r.now(t)
}

func (r *replicated) now(t testing.TB) freshet.Revision {
	t.Helper()
	return freshet.Revision{Epoch: epoch, Position: uint64(one[int64](t, r.on, "select (pg_current_wal_flush_lsn() - '0/0')::bigint"))}
}

// came is what a read has found, and where.
type came struct {
	n       int64
	replica bool
	call    *store.Call
}

// look is what a read does.
func (c *came) look(ctx context.Context, tx pgx.Tx) error {
	return tx.QueryRow(ctx, `select n, pg_is_in_recovery() from things`).Scan(&c.n, &c.replica)
}

// read reads at least a revision.
func read(t testing.TB, d *store.DB, atLeast freshet.Revision) came {
	t.Helper()
	c := came{call: &store.Call{Epoch: epoch, AtLeast: atLeast}}
	require.NoError(t, d.Read(store.WithCall(testkit.Context(t), c.call), c.look))
	require.Equal(t, c.replica, !c.call.Reached().IsZero(), "who ran on a replica says so")
	return c
}

// serves waits until reads run on a replica.
func serves(t testing.TB, d *store.DB, atLeast freshet.Revision) (c came) {
	t.Helper()
	waitFor(t, "a replica serves", func() bool {
		c = read(t, d, atLeast)
		return c.replica
	})
	return c
}

// tries returns a logger for a pool, and how many reads have been sent to a replica in vain.
func tries() (*slog.Logger, func() int) {
	log := new(testkit.Buffer)
	return slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		func() int { return strings.Count(log.String(), "a read goes to the primary") }
}

// is waits until the only replica is of no use, for this reason; empty: until it is of use.
func is(t testing.TB, d *store.DB, why store.ReplicaReason) {
	t.Helper()
	waitFor(t, "the replica is "+string(why), func() bool {
		err := d.Replicas()[0].Err
		var e *store.ReplicaError
		return why == "" && err == nil || errors.As(err, &e) && e.Why == why
	})
}

// A read runs on the replica when that has replayed what it asks for, else on the
// primary, also while replay is paused.
func TestReplica(t *testing.T) {
	t.Parallel()
	r := newReplicated(t, 0)
	ctx := testkit.Context(t)
	d := r.open(t, store.Config{ReplicaWait: 5 * time.Second})
	first := r.write(t)
	c := serves(t, d, first)
	require.Equal(t, int64(1), c.n)
	require.LessOrEqual(t, first.Position, c.call.Reached().Position)
	require.Equal(t, epoch, c.call.Reached().Epoch)

	t.Run("strong", func(t *testing.T) {
		require.False(t, read(t, d, freshet.Revision{}).replica)
		reads := d.Replicas()[0].Reads
		require.True(t, read(t, d, first).replica)
		require.Equal(t, reads+1, d.Replicas()[0].Reads)
	})
	t.Run("an epoch of its own", func(t *testing.T) {
		other := came{call: &store.Call{Epoch: epoch, AtLeast: freshet.Revision{Epoch: epoch - 1, Position: 1}}}
		require.NoError(t, d.Read(store.WithCall(ctx, other.call), other.look))
		require.False(t, other.replica)
	})
	t.Run("waits", func(t *testing.T) {
		for i := range 20 {
			c := read(t, d, r.write(t))
			require.True(t, c.replica)
			require.Equal(t, int64(i+2), c.n)
		}
	})
	t.Run("after a write", func(t *testing.T) {
		c := came{call: &store.Call{Epoch: epoch, AtLeast: first}}
		with := store.WithCall(ctx, c.call)
		require.NoError(t, d.Read(with, c.look))
		require.True(t, c.replica)
		require.NoError(t, d.InTx(with, c.look))
		require.NoError(t, d.Read(with, c.look))
		require.False(t, c.replica, "it may not see the call's own write")
		require.False(t, c.call.Reached().IsZero())
	})
	t.Run("several statements", func(t *testing.T) {
		c := came{call: &store.Call{Epoch: epoch, AtLeast: first}}
		require.NoError(t, d.ReadTx(store.WithCall(ctx, c.call), func(ctx context.Context, tx pgx.Tx) error {
			var before, after int64
			if err := tx.QueryRow(ctx, `select n from things`).Scan(&before); err != nil {
				return err
			}
			want := r.write(t)
			waitFor(t, "it is replayed", func() bool {
				return uint64(one[int64](t, r.there, "select (pg_last_wal_replay_lsn() - '0/0')::bigint")) >= want.Position
			})
			if err := tx.QueryRow(ctx, `select n from things`).Scan(&after); err != nil {
				return err
			}
			require.Equal(t, before, after)
			return c.look(ctx, tx)
		}))
		require.True(t, c.replica)
	})
	t.Run("not found", func(t *testing.T) {
		call := &store.Call{Epoch: epoch, AtLeast: first}
		err := d.Read(store.WithCall(ctx, call), func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `select n from things where n < 0`).Scan(new(int64))
		})
		require.ErrorIs(t, err, store.ErrNotFound)
		require.False(t, call.Reached().IsZero(), "that there is none is an answer")
	})
	t.Run("what a standby refuses", func(t *testing.T) {
		call := &store.Call{Epoch: epoch, AtLeast: first}
		var id int64
		require.NoError(t, d.Read(store.WithCall(ctx, call), func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `select txid_current()`).Scan(&id)
		}))
		require.True(t, call.Reached().IsZero())
		// Also where the function doesn't tell.
		runs := 0
		call = &store.Call{Epoch: epoch, AtLeast: first}
		require.NoError(t, d.Read(store.WithCall(ctx, call), func(ctx context.Context, tx pgx.Tx) error {
			runs++
			_ = tx.QueryRow(ctx, `select txid_current()`).Scan(&id)
			return nil
		}))
		require.Equal(t, 2, runs)
		require.True(t, call.Reached().IsZero())
		// Nor where a savepoint takes it back.
		require.NoError(t, d.ReadTx(store.WithCall(ctx, &store.Call{Epoch: epoch, AtLeast: first}), func(ctx context.Context, tx pgx.Tx) error {
			return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				return tx.QueryRow(ctx, `select txid_current()`).Scan(&id)
			})
		}))
		require.Equal(t, uint64(3), d.Fallbacks(store.ReplicaFailed))
	})
	t.Run("slow", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
		defer cancel()
		c := came{call: &store.Call{Epoch: epoch, AtLeast: first}}
		require.NoError(t, d.Read(store.WithCall(ctx, c.call), func(ctx context.Context, tx pgx.Tx) error {
			if err := c.look(ctx, tx); err != nil || !c.replica {
				return err
			}
			_, err := tx.Exec(ctx, `select pg_sleep(60)`)
			return err
		}))
		require.False(t, c.replica, "half of its time was left")
		require.Equal(t, uint64(1), d.Fallbacks(store.ReplicaSlow))
	})
	t.Run("detached", func(t *testing.T) {
		from := one[string](t, r.there, `select current_setting('primary_conninfo')`)
		exec(t, r.there, `alter system set primary_conninfo = ''`)
		exec(t, r.there, `select pg_reload_conf()`)
		is(t, d, store.ReplicaDetached)
		require.False(t, read(t, d, first).replica, "for all that it shows it may be on another timeline by now")
		exec(t, r.there, `alter system set primary_conninfo = '`+strings.ReplaceAll(from, "'", "''")+`'`)
		exec(t, r.there, `select pg_reload_conf()`)
		serves(t, d, first)
	})
	t.Run("paused", func(t *testing.T) {
		const wait = 100 * time.Millisecond
		logger, tried := tries()
		d := r.open(t, store.Config{ReplicaWait: wait, Logger: logger})
		serves(t, d, first)
		exec(t, r.there, `select pg_wal_replay_pause()`)
		defer exec(t, r.there, `select pg_wal_replay_resume()`)
		waitFor(t, "it pauses", func() bool { return one[string](t, r.there, "select pg_get_wal_replay_pause_state()") == "paused" })
		rev, before := r.write(t), one[int64](t, r.on, "select n from things")
		c := read(t, d, rev)
		require.False(t, c.replica)
		require.Equal(t, before, c.n)
		require.Equal(t, uint64(1), d.Fallbacks(store.ReplicaBehind))
		c = read(t, d, first)
		require.True(t, c.replica, "what it has will do for others")
		require.Equal(t, before-1, c.n)
		require.Less(t, c.call.Reached().Position, rev.Position)
		// Behind by minutes: nobody waits for it again and again.
		began, before100 := time.Now(), tried()
		for range 100 {
			require.False(t, read(t, d, rev).replica)
		}
		require.LessOrEqual(t, tried()-before100, 2+int(time.Since(began)/(10*wait)))
		waitFor(t, "it is seen to lag", func() bool { return d.Replicas()[0].Lag > 0 })
		exec(t, r.there, `select pg_wal_replay_resume()`)
		require.Equal(t, before, serves(t, d, rev).n)
	})
	t.Run("sessions", func(t *testing.T) { testReplicaSessions(t, r) })
	t.Run("of another", func(t *testing.T) { testReplicaOfAnother(t, r) })
	t.Run("conflict", func(t *testing.T) { testReplicaConflict(t, r) })
	t.Run("epoch", func(t *testing.T) { testReplicaEpoch(t, r) }) // the last one: it begins another
}

// Claims, roles and policies hold on a replica, and an audit sees what a read looks
// into; a role that may not see the WAL receiver's state is of no use, and says so.
func testReplicaSessions(t *testing.T, r *replicated) {
	t.Helper()
	exec(t, r.on, `
create role app login noinherit; create role blue; create role stranger; grant blue to app;
create table notes (tenant text, body text); insert into notes values ('a', 'a1'), ('a', 'a2'), ('b', 'b1');
alter table notes enable row level security;
create policy mine on notes using (tenant = current_setting('request.jwt.claims', true)::json ->> 'tenant');
create policy odd on notes as restrictive for select to blue using (body like '%1');
grant select on notes to app, blue; grant select on things to app`)
	asApp := testkit.WithParam(t, r.replica, "user", "app")
	waitFor(t, "the role is there", func() bool { return one[bool](t, r.there, `select to_regrole('app') is not null`) })
	log := new(testkit.Buffer)
	d := r.open(t, store.Config{Replicas: []string{asApp}, ReplicaWait: 5 * time.Second, Session: func(ctx context.Context) (*store.Session, error) {
		s, _ := ctx.Value(sessionKey{}).(*store.Session)
		return s, nil
	}, Logger: slog.New(slog.NewTextHandler(log, nil))}, (*store.DB).LookOften)
	is(t, d, store.ReplicaPrivilege)
	var why *store.ReplicaError
	require.ErrorAs(t, store.CheckReplica(testkit.Context(t), r.primary, asApp), &why)
	require.Equal(t, store.ReplicaPrivilege, why.Why)
	require.ErrorContains(t, d.Replicas()[0].Err, "grant pg_read_all_stats")
	const sessions = `select sessions from pg_stat_database where datname = current_database()`
	looks := one[int64](t, r.there, sessions)
	waitFor(t, "it is looked at again and again", func() bool { return one[int64](t, r.there, sessions) > looks+5 })
	require.Equal(t, 1, strings.Count(log.String(), "a replica serves no reads"), "that is told once: %s", log)
	exec(t, r.on, `grant pg_read_all_stats to app`)
	rev := r.write(t)
	is(t, d, "")
	serves(t, d, rev)
	require.NoError(t, store.CheckReplica(testkit.Context(t), r.primary, asApp))
	for _, tt := range []struct {
		as   *store.Session
		want string
	}{{tenantA, "a1 a2"}, {blueA, "a1"}, {tenantB, "b1"}, {nobody, ""}, {tenantA, "a1 a2"}} {
		call := &store.Call{Epoch: epoch, AtLeast: rev, Audit: true}
		var seen string
		require.NoError(t, d.Read(store.WithCall(as(testkit.Context(t), tt.as), call), func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `select coalesce(string_agg(body, ' ' order by body), '') from notes`).Scan(&seen)
		}))
		require.Equal(t, tt.want, seen)
		require.False(t, call.Reached().IsZero(), "on the replica")
		scanned, err := call.Scanned()
		require.NoError(t, err)
		require.Equal(t, []string{"public.notes"}, scanned)
	}
	call := &store.Call{Epoch: epoch, AtLeast: rev}
	err := d.Read(store.WithCall(as(testkit.Context(t), stranger), call), (&came{}).look)
	require.Error(t, err)
	require.True(t, call.Reached().IsZero(), "the primary has the last word")
}

// Replay cancels what stands in its way: the primary answers.
func testReplicaConflict(t *testing.T, r *replicated) {
	t.Helper()
	exec(t, r.there, `alter system set max_standby_streaming_delay = 0`)
	exec(t, r.there, `select pg_reload_conf()`)
	d := r.open(t, store.Config{ReplicaWait: 5 * time.Second})
	rev := r.write(t)
	serves(t, d, rev)
	runs, c := 0, came{call: &store.Call{Epoch: epoch, AtLeast: rev}}
	var change sync.WaitGroup
	require.NoError(t, d.ReadTx(store.WithCall(testkit.Context(t), c.call), func(ctx context.Context, tx pgx.Tx) error {
		runs++
		if err := c.look(ctx, tx); err != nil {
			return err
		}
		if !c.replica {
			return nil
		}
		// Once the statement runs: a session that is idle is ended, which shows as a
		// connection that broke.
		change.Go(func() {
			waitFor(t, "it runs", func() bool {
				return one[bool](t, r.there, `select exists (select from pg_stat_activity where query = 'select pg_sleep(61)' and wait_event = 'PgSleep')`)
			})
			for i := range 5 {
				exec(t, r.on, `update things set n = `+strconv.Itoa(100+i))
			}
			exec(t, r.on, `vacuum things`)
		})
		_, err := tx.Exec(ctx, `select pg_sleep(61)`)
		change.Wait()
		return err
	}))
	require.Equal(t, 2, runs)
	require.False(t, c.replica)
	require.Equal(t, int64(104), c.n)
	require.Equal(t, uint64(1), d.Fallbacks(store.ReplicaConflict))
	require.NoError(t, d.Replicas()[0].Err, "it is well")
	serves(t, d, r.now(t))
}
