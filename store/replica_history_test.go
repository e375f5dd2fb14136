package store_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// What isn't a standby of the primary's history is of no use, whatever position it
// shows: another server, another database, the primary itself.
func testReplicaOfAnother(t *testing.T, r *replicated) {
	t.Helper()
	rev := r.write(t)
	other := newReplicated(t, 0)
	for range 1000 { // its positions are higher
		exec(t, other.on, `update things set n = n + 1`)
	}
	none, another := r.server.Database(t), r.server.Database(t)
	require.NoError(t, testkit.Migrate(testkit.Context(t), another))
	testkit.Exec(t, another, `insert into freshet.epoch (last) values ($1)`, int64(epoch))
	testkit.Exec(t, another, `create table things (n bigint)`)
	there := testkit.Conn(t, r.standby.URL(t, r.primary))
	waitFor(t, "the replica has it", func() bool {
		return uint64(one[int64](t, there, "select (pg_last_wal_replay_lsn() - '0/0')::bigint")) >= r.now(t).Position
	})
	for url, why := range map[string]store.ReplicaReason{
		other.replica:                 store.ReplicaHistory,
		r.standby.URL(t, another):     store.ReplicaHistory,
		r.standby.URL(t, none):        store.ReplicaHistory,
		r.primary:                     store.ReplicaPrimary,
		"postgres://127.0.0.1:1/none": store.ReplicaDown,
	} {
		d := r.open(t, store.Config{Replicas: []string{url}})
		is(t, d, why)
		waitFor(t, "reads fall back", func() bool {
			require.False(t, read(t, d, rev).replica)
			return d.Fallbacks(why) > 0
		})
	}
}

// Two standbys, on each version of PostgreSQL that this machine has: what tells of a
// timeline is theirs.
func TestReplica_two(t *testing.T) {
	t.Parallel()
	for _, major := range testkit.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			r := newReplicated(t, major)
			second := r.server.Standby(t)
			testReplicaCallsGoForward(t, r, second.URL(t, r.primary))
			testReplicaPromoted(t, r, second)
		})
	}
}

// What one read of a call has seen, the next one does too, also on another replica.
func testReplicaCallsGoForward(t *testing.T, r *replicated, behind string) {
	t.Helper()
	on := testkit.Conn(t, behind)
	d := r.open(t, store.Config{Replicas: []string{r.replica, behind}, ReplicaWait: time.Second})
	first := r.write(t)
	waitFor(t, "both serve", func() bool {
		read(t, d, first)
		both := d.Replicas()
		return both[0].Reads > 0 && both[1].Reads > 0
	})
	exec(t, on, `select pg_wal_replay_pause()`)
	waitFor(t, "it pauses", func() bool { return one[string](t, on, "select pg_get_wal_replay_pause_state()") == "paused" })
	second := r.write(t)
	serves(t, d, second)
	var before, after bool // whether a call has begun there
	waitFor(t, "calls begin on both", func() bool {
		c := came{call: &store.Call{Epoch: epoch, AtLeast: first}}
		var seen []int64
		for range 3 {
			require.NoError(t, d.Read(store.WithCall(testkit.Context(t), c.call), c.look))
			seen = append(seen, c.n)
		}
		require.IsNonDecreasing(t, seen)
		if reached := c.call.Reached(); seen[0] == 1 {
			before = true
			require.Less(t, reached.Position, second.Position, "the least of them counts")
		} else if !reached.IsZero() {
			after = true
			require.LessOrEqual(t, second.Position, reached.Position)
		}
		return before && after
	})
	exec(t, on, `select pg_wal_replay_resume()`)
}

// A standby that is promoted goes on in another history: what it has replayed counts
// for nothing then, also for a read that it has begun before. So does one that follows
// it, which still is a standby, has the same epoch and the same system identifier, and
// reaches every position: there is its timeline.
func testReplicaPromoted(t *testing.T, r *replicated, below *testkit.Standby) {
	t.Helper()
	belowURL := below.URL(t, r.primary)
	on := testkit.Conn(t, belowURL)
	below.Follow(t, r.standby)
	// Who looks while it changes over finds it detached, and here nobody looks again.
	waitFor(t, "it follows", func() bool {
		return one[bool](t, on, `select exists (select from pg_stat_wal_receiver where status = 'streaming' and sender_host = '`+r.standby.Host()+`')`)
	})
	rev, n := r.write(t), one[int64](t, r.on, `select n from things`)
	// Nobody but the reads themselves finds out: a look would cut them off.
	promoted := r.open(t, store.Config{}, (*store.DB).LookSeldom)
	cascaded := r.open(t, store.Config{Replicas: []string{belowURL}}, (*store.DB).LookSeldom)
	serves(t, promoted, rev)
	serves(t, cascaded, rev)

	began, goOn := make(chan struct{}, 2), make(chan struct{})
	type end struct {
		came
		runs int
		err  error
	}
	hold := func(d *store.DB) <-chan end {
		ended := make(chan end, 1)
		go func() {
			e := end{came: came{call: &store.Call{Epoch: epoch, AtLeast: rev}}}
			runs := 0
			e.err = d.Read(store.WithCall(testkit.Context(t), e.call), func(ctx context.Context, tx pgx.Tx) error {
				if runs++; runs == 1 { // its snapshot is still to be taken
					began <- struct{}{}
					<-goOn
				}
				return e.look(ctx, tx)
			})
			e.runs = runs
			ended <- e
		}()
		return ended
	}
	held, heldBelow := hold(promoted), hold(cascaded)
	<-began
	<-began
	// What is committed here never comes to the standbys.
	exec(t, on, `select pg_wal_replay_pause()`)
	r.standby.Promote(t)
	exec(t, on, `select pg_wal_replay_resume()`)
	lost := r.write(t)
	other := testkit.Conn(t, r.replica)
	for range 1000 {
		exec(t, other, `update things set n = -1`)
	}
	waitFor(t, "the one below has what the other one wrote", func() bool {
		return one[int64](t, on, `select n from things`) == -1 &&
			uint64(one[int64](t, on, "select (pg_last_wal_replay_lsn() - '0/0')::bigint")) > lost.Position
	})
	require.True(t, one[bool](t, on, `select pg_is_in_recovery() and (select last from freshet.epoch) = `+"1700000000"))
	close(goOn)
	for _, ended := range []<-chan end{held, heldBelow} {
		e := <-ended
		require.NoError(t, e.err)
		require.Equal(t, 2, e.runs, "the first one was the replica's")
		require.True(t, e.call.Reached().IsZero())
		require.Equal(t, n+1, e.n, "the primary's; the replica's is -1")
	}
	// The last look may have been during the promotion.
	promoted.LookNow()
	cascaded.LookNow()
	is(t, promoted, store.ReplicaPromoted)
	is(t, cascaded, store.ReplicaHistory)
	for range 20 {
		for _, d := range []*store.DB{promoted, cascaded} {
			c := read(t, d, lost)
			require.False(t, c.replica)
			require.Equal(t, n+1, c.n)
		}
	}
}

// A new epoch is the replica's only once it has replayed that.
func testReplicaEpoch(t *testing.T, r *replicated) {
	t.Helper()
	d := r.open(t, store.Config{ReplicaWait: 5 * time.Second})
	rev := r.write(t)
	serves(t, d, rev)
	exec(t, r.there, `select pg_wal_replay_pause()`)
	waitFor(t, "it pauses", func() bool { return one[string](t, r.there, "select pg_get_wal_replay_pause_state()") == "paused" })
	exec(t, r.on, `update freshet.epoch set last = last + 1`)
	exec(t, r.on, `update freshet.incarnation set epoch = epoch + 1`)
	next := func() came {
		now := r.now(t)
		now.Epoch, now.Position = epoch+1, rev.Position
		c := came{call: &store.Call{Epoch: epoch + 1, AtLeast: now}}
		require.NoError(t, d.Read(store.WithCall(testkit.Context(t), c.call), c.look))
		return c
	}
	require.False(t, next().replica, "its connections to the primary are of the new epoch now")
	is(t, d, store.ReplicaHistory)
	for range 10 {
		require.False(t, next().replica)
	}
	exec(t, r.there, `select pg_wal_replay_resume()`)
	waitFor(t, "it serves the new epoch", func() bool { return next().replica })
	call := &store.Call{Epoch: epoch, AtLeast: rev}
	require.ErrorIs(t, d.Read(store.WithCall(testkit.Context(t), call), (&came{}).look), store.ErrEpoch, "the old one is over there, too")
}

// A replica that stops, is cut off without a word, or has no connection left costs a
// moment; it serves again when it is back.
func TestReplica_down(t *testing.T) {
	t.Parallel()
	r := newReplicated(t, 0)
	proxy := testkit.NewProxy(t, r.replica)
	logger, tried := tries()
	d := r.open(t, store.Config{Replicas: []string{proxy.URL()}, ReplicaConns: 2, ReplicaWait: 200 * time.Millisecond, Logger: logger})
	rev := r.write(t)
	serves(t, d, rev)

	t.Run("partitioned", func(t *testing.T) {
		held, goOn := make(chan struct{}), make(chan struct{})
		release := sync.OnceFunc(func() { close(goOn) })
		defer release() // or nobody could close the pool
		ended := make(chan came, 1)
		began := time.Now()
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			c := came{call: &store.Call{Epoch: epoch, AtLeast: rev}}
			_ = d.Read(store.WithCall(ctx, c.call), func(ctx context.Context, tx pgx.Tx) error {
				select {
				case held <- struct{}{}:
					<-goOn
				default: // again, on the primary
				}
				return c.look(ctx, tx)
			})
			ended <- c
		}()
		<-held
		proxy.Pause()
		release()
		c := read(t, d, rev)
		require.False(t, c.replica)
		c = <-ended
		require.False(t, c.replica)
		require.Equal(t, int64(1), c.n)
		require.Less(t, time.Since(began), 25*time.Second, "a look found out before half of the caller's time was over")
		is(t, d, store.ReplicaDown)
		before := tried()
		for range 20 {
			require.False(t, read(t, d, rev).replica)
		}
		require.Equal(t, before, tried(), "nobody tries it")
		proxy.Resume()
		serves(t, d, rev)
	})
	t.Run("busy", func(t *testing.T) {
		held, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 2)
		release := sync.OnceFunc(func() { close(goOn) })
		defer release()
		for range 2 {
			go func() {
				call := &store.Call{Epoch: epoch, AtLeast: rev}
				ended <- d.Read(store.WithCall(testkit.Context(t), call), func(ctx context.Context, tx pgx.Tx) error {
					held <- struct{}{}
					<-goOn
					return (&came{}).look(ctx, tx)
				})
			}()
			<-held
		}
		if s := d.Replicas()[0]; s.InUse == s.Max {
			busy := d.Fallbacks(store.ReplicaBusy)
			require.False(t, read(t, d, rev).replica)
			require.Greater(t, d.Fallbacks(store.ReplicaBusy), busy)
		} else {
			require.Failf(t, "both should run on the replica", "%+v", s)
		}
		release()
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
		serves(t, d, rev)
	})
	t.Run("stopped", func(t *testing.T) {
		r.standby.Stop(t)
		require.False(t, read(t, d, rev).replica)
		is(t, d, store.ReplicaDown)
		rev = r.write(t)
		require.Equal(t, int64(2), read(t, d, rev).n)
		r.standby.Start(t)
		require.Equal(t, int64(2), serves(t, d, rev).n)
	})
}
