package store_test

import (
	"context"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// promotedPair is a primary behind a proxy, first of the URL's hosts, and its standby,
// which promote makes a primary of epoch+1.
type promotedPair struct {
	url, old string
	way      *testkit.Proxy
	standby  *testkit.Standby
	promoted string
}

func newPromotedPair(t *testing.T) *promotedPair {
	t.Helper()
	server := testkit.NewServer(t, nil)
	old := server.URL("postgres")
	require.NoError(t, prepare(testkit.Context(t), old))
	p := &promotedPair{old: old, standby: server.Standby(t), way: testkit.NewProxy(t, old)}
	p.promoted = p.standby.URL(t, old)
	through, err := pgx.ParseConfig(p.way.URL())
	require.NoError(t, err)
	at, err := url.Parse(old)
	require.NoError(t, err)
	q := at.Query()
	q.Set("host", through.Host+","+p.standby.Host())
	q.Set("port", strconv.Itoa(int(through.Port))+","+p.standby.Port())
	q.Set("target_session_attrs", "read-write")
	at.Host, at.RawQuery = "", q.Encode()
	p.url = at.String()
	return p
}

func (p *promotedPair) promote(t *testing.T) {
	t.Helper()
	there := testkit.Conn(t, p.promoted)
	require.Eventually(t, func() bool {
		return one[bool](t, there, "select exists (select from pg_tables where schemaname = 'freshet')")
	}, time.Minute, 10*time.Millisecond)
	p.standby.Promote(t)
	testkit.Exec(t, p.promoted, `insert into freshet.incarnation (epoch, system_identifier, timeline, postmaster_start)
		values ($1, 'test', 2, pg_postmaster_start_time())`, int64(epoch+1))
}

// guard is a guarded pool, which the test closes.
func guard(t *testing.T, url string, conns int32) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	config.MaxConns = conns
	store.Guard(config)
	pool, err := pgxpool.NewWithConfig(testkit.Context(t), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// The primary is gone without a word while the pool has connections to it, all of which
// are idle. A call of the new epoch is served by the promoted standby in time; so is a
// pool that nobody calls.
func TestPool_primaryIsSilent(t *testing.T) {
	t.Parallel()
	p := newPromotedPair(t)
	ctx := testkit.Context(t)
	const conns = 6
	called, quiet := open(t, store.Config{URL: p.url, MaxConns: conns}), open(t, store.Config{URL: p.url, MaxConns: conns})
	for _, d := range []*store.DB{called, quiet} {
		var all sync.WaitGroup
		in, out := make(chan struct{}, conns), make(chan struct{})
		for range conns {
			all.Go(func() {
				_ = d.Read(store.WithCall(ctx, &store.Call{Epoch: epoch}), func(context.Context, pgx.Tx) error {
					in <- struct{}{}
					<-out
					return nil
				})
			})
		}
		for range conns {
			<-in
		}
		close(out)
		all.Wait()
	}
	guarded := guard(t, p.url, conns)
	var held []*pgxpool.Conn
	for range conns {
		conn, err := guarded.Acquire(store.WithCall(ctx, &store.Call{Guarded: epoch}))
		require.NoError(t, err)
		held = append(held, conn)
	}
	for _, conn := range held {
		conn.Release()
	}
	background, stop := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- quiet.Watch(background) }()
	defer func() {
		stop()
		require.NoError(t, <-watched)
	}()
	waitFor(t, "the pool is of use", func() bool { return quiet.Ready() == nil })

	p.way.Pause()
	waitFor(t, "the pool is of no use", func() bool { return quiet.Ready() != nil })
	p.promote(t)
	waitFor(t, "a read is served", func() bool {
		return called.Read(store.WithCall(ctx, &store.Call{Epoch: epoch + 1}), list) == nil
	})
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := guarded.Acquire(store.WithCall(bounded, &store.Call{Guarded: epoch + 1}))
	require.NoError(t, err)
	conn.Release()
	waitFor(t, "the pool is of use again", func() bool { return quiet.Ready() == nil })
}

// The primary is gone without a word while all of the pool's connections wait for it,
// reads and writes. Once the next epoch is known they are cut, and a call of it is served
// at once: not when each of them has waited for as long as it may, nor when pgx has
// asked a server that doesn't answer to cancel them.
func TestPool_primaryIsSilentInUse(t *testing.T) {
	t.Parallel()
	p := newPromotedPair(t)
	ctx := testkit.Context(t)
	const conns = 4
	d := open(t, store.Config{URL: p.url, MaxConns: conns})
	waits := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select pg_sleep(600)")
		return err
	}
	ended := make(chan error, conns)
	call := store.WithCall(ctx, &store.Call{Epoch: epoch})
	for n := range conns {
		go func() {
			if n == 0 {
				err := d.InTx(call, waits)
				ended <- err
				return
			}
			ended <- d.Read(call, waits)
		}()
	}
	old := testkit.Conn(t, p.old)
	waitFor(t, "all of them wait", func() bool {
		return one[int](t, old, "select count(*)::int from pg_stat_activity where query like '%pg_sleep(600)%' and state = 'active' and pid <> pg_backend_pid()") == conns
	})
	p.way.Pause()
	p.promote(t)

	began := time.Now()
	require.NoError(t, d.Read(store.WithCall(ctx, &store.Call{Epoch: epoch + 1}), list))
	for range conns {
		require.ErrorIs(t, <-ended, store.ErrUnavailable)
	}
	require.Less(t, time.Since(began), 4*time.Second, "less than any of their deadlines")
	err := d.InTx(store.WithCall(ctx, &store.Call{Epoch: epoch + 1}), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "insert into messages (conversation, author, body) values ('7', 'a', 'b')")
		return err
	})
	require.NoError(t, err)
}

// The same of a guarded pool.
func TestGuard_primaryIsSilentInUse(t *testing.T) {
	t.Parallel()
	p := newPromotedPair(t)
	ctx := testkit.Context(t)
	const conns = 4
	pool := guard(t, p.url, conns)
	ended := make(chan error, conns)
	for range conns {
		go func() {
			_, err := pool.Exec(store.WithCall(ctx, &store.Call{Guarded: epoch}), "select pg_sleep(600)")
			ended <- err
		}()
	}
	old := testkit.Conn(t, p.old)
	waitFor(t, "all of them wait", func() bool {
		return one[int](t, old, "select count(*)::int from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'") == conns
	})
	p.way.Pause()
	p.promote(t)

	began := time.Now()
	_, err := pool.Exec(store.WithCall(ctx, &store.Call{Guarded: epoch + 1}), "select 1")
	require.NoError(t, err)
	for range conns {
		require.Error(t, <-ended)
	}
	require.Less(t, time.Since(began), 10*time.Second, "less than the 15 s that pgx tries to cancel for")
}

// What is being opened when the next epoch begins is cut, too: nobody knows yet where it
// leads, and it may wait for a server that was left behind. Of a pool, and of a guarded one.
func TestPool_cutsWhatIsBeingOpened(t *testing.T) {
	t.Parallel()
	for name, poolAt := range map[string]func(t *testing.T, url string) func(context.Context, freshet.Epoch) error{
		"store": func(t *testing.T, url string) func(context.Context, freshet.Epoch) error {
			d := open(t, store.Config{URL: url, MaxConns: 2})
			return func(ctx context.Context, epoch freshet.Epoch) error {
				return d.Read(store.WithCall(ctx, &store.Call{Epoch: epoch}), list)
			}
		},
		"guarded": func(t *testing.T, url string) func(context.Context, freshet.Epoch) error {
			pool := guard(t, url, 2)
			return func(ctx context.Context, epoch freshet.Epoch) error {
				_, err := pool.Exec(store.WithCall(ctx, &store.Call{Guarded: epoch}), "select 1")
				return err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, url := testkit.Context(t), migrated(t)
			ask := poolAt(t, url)
			holder, looker := testkit.Conn(t, url), testkit.Conn(t, url)
			_, err := holder.Exec(ctx, "begin; lock table freshet.incarnation in access exclusive mode")
			require.NoError(t, err)
			earlier, later := make(chan error, 1), make(chan error, 1)
			go func() { earlier <- ask(ctx, epoch) }()
			waitFor(t, "a connection is being opened", func() bool {
				return one[bool](t, looker, "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')")
			})
			go func() { later <- ask(ctx, epoch+1) }()
			err = <-earlier
			require.Error(t, err)
			require.NotErrorIs(t, err, store.ErrBusy, "not when its time is over")
			require.NotErrorIs(t, err, context.DeadlineExceeded)

			_, err = holder.Exec(ctx, "update freshet.incarnation set epoch = $1", int64(epoch+1))
			require.NoError(t, err)
			_, err = holder.Exec(ctx, "commit")
			require.NoError(t, err)
			require.NoError(t, <-later)
		})
	}
}

// A URL with several hosts, of which the first is a primary that was left behind: it is
// up, or it answers nobody. Connections lead to the one that was promoted, of the pool
// and of a guarded one.
func TestPool_oldPrimaryIsFirst(t *testing.T) {
	t.Parallel()
	ctx, p := testkit.Context(t), newPromotedPair(t)
	p.promote(t)

	serves := func() {
		t.Helper()
		ctx := store.WithCall(ctx, &store.Call{Epoch: epoch + 1})
		d := open(t, store.Config{URL: p.url})
		waitFor(t, "a read is served", func() bool { return d.Read(ctx, list) == nil })

		bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		require.NoError(t, guard(t, p.url, 2).Ping(bounded))
	}
	serves()
	p.way.Pause()
	serves()
}
