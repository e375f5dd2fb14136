package store_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// guardedPool is a pool that Freshet hasn't made.
func guardedPool(t *testing.T, url string, change func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	config.MaxConns = 3
	if change != nil {
		change(config)
	}
	store.Guard(config)
	pool, err := pgxpool.NewWithConfig(testkit.Context(t), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func asking(t testing.TB, e freshet.Epoch) context.Context {
	t.Helper()
	return store.WithCall(testkit.Context(t), &store.Call{Epoch: e})
}

func askOf(ctx context.Context, pool *pgxpool.Pool) error {
	return pool.QueryRow(ctx, "select 1").Scan(new(int))
}

// fill opens all connections that a pool may have.
func fill(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(testkit.Context(t))
		require.NoError(t, err)
		defer conn.Release()
	}
}

// F86: a pool whose address leads to another primary from one moment on, one that
// was left behind, doesn't answer for a call of the epoch that it isn't of.
func TestGuard_F86_anotherDatabaseBehindTheAddress(t *testing.T) {
	t.Parallel()
	url, behind := migrated(t), migrated(t)
	setEpoch(t, url, epoch+1)
	other, err := pgx.ParseConfig(behind)
	require.NoError(t, err)
	var switched atomic.Bool
	pool := guardedPool(t, url, func(c *pgxpool.Config) {
		c.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
			if switched.Load() {
				config.Database = other.Database
			}
			return nil
		}
	})
	fill(t, pool)
	require.NoError(t, askOf(asking(t, epoch+1), pool))
	switched.Store(true)
	testkit.Exec(t, behind, "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
		one[string](t, testkit.Conn(t, url), "select current_database()"))
	pool.Reset() // as pings would have found out
	for range 5 {
		require.ErrorIs(t, askOf(asking(t, epoch+1), pool), store.ErrEpoch)
	}
	require.ErrorIs(t, askOf(asking(t, epoch+1), pool), store.ErrUnavailable)
	require.NoError(t, askOf(asking(t, epoch), pool), "its own epoch")
	require.NoError(t, askOf(testkit.Context(t), pool), "outside of a call")

	switched.Store(false)
	require.NoError(t, askOf(asking(t, epoch+1), pool), "the ones left over are replaced")
}

// A write has no epoch of its own to ask for; the node's is asked for in its place.
func TestGuard_writes(t *testing.T) {
	t.Parallel()
	pool := guardedPool(t, migrated(t), nil)
	writing := func(e freshet.Epoch) context.Context {
		return store.WithCall(testkit.Context(t), &store.Call{Guarded: e})
	}
	require.NoError(t, askOf(writing(epoch), pool))
	require.ErrorIs(t, askOf(writing(epoch+1), pool), store.ErrEpoch)
	require.ErrorIs(t, askOf(writing(epoch-1), pool), store.ErrEpoch)
}

// Two databases that were set up in the same second have the same epoch.
func TestGuard_anotherDatabaseOfTheSameEpoch(t *testing.T) {
	t.Parallel()
	url, twin := migrated(t), migrated(t)
	other, err := pgx.ParseConfig(twin)
	require.NoError(t, err)
	var switched atomic.Bool
	pool := guardedPool(t, url, func(c *pgxpool.Config) {
		c.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
			if switched.Load() {
				config.Database = other.Database
			}
			return nil
		}
	})
	require.NoError(t, askOf(asking(t, epoch), pool))
	switched.Store(true)
	pool.Reset()
	err = askOf(asking(t, epoch), pool)
	require.ErrorIs(t, err, store.ErrOtherDatabase)
	require.ErrorIs(t, err, store.ErrUnavailable)
	switched.Store(false)
	require.NoError(t, askOf(asking(t, epoch), pool))
}

// After a failover two nodes, each of which reaches one primary alone, may begin epochs
// in the same second. A pool isn't of both.
func TestGuard_twoPrimariesOfTheSameEpoch(t *testing.T) {
	t.Parallel()
	p := newPromotedPair(t)
	p.promote(t)
	setEpoch(t, p.promoted, epoch)
	other, err := pgx.ParseConfig(p.promoted)
	require.NoError(t, err)
	var switched atomic.Bool
	pool := guardedPool(t, p.way.URL(), func(c *pgxpool.Config) {
		c.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
			if switched.Load() {
				config.Host, config.Port, config.Fallbacks = other.Host, other.Port, nil
			}
			return nil
		}
	})
	require.NoError(t, askOf(asking(t, epoch), pool))
	switched.Store(true)
	pool.Reset()
	require.ErrorIs(t, askOf(asking(t, epoch), pool), store.ErrOtherDatabase)
	switched.Store(false)
	require.NoError(t, askOf(asking(t, epoch), pool))
}

func TestGuard_epoch(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	pool := guardedPool(t, url, nil)
	fill(t, pool)
	require.NoError(t, askOf(asking(t, epoch), pool))
	require.ErrorIs(t, askOf(asking(t, epoch-1), pool), store.ErrEpoch, "behind the database")
	setEpoch(t, url, epoch+1)
	require.NoError(t, askOf(asking(t, epoch+1), pool), "connections left over are replaced")
	require.ErrorIs(t, askOf(asking(t, epoch+2), pool), store.ErrEpoch, "ahead of the database")
	require.ErrorIs(t, askOf(asking(t, epoch), pool), store.ErrEpoch)
}

// What can't be tagged isn't handed out.
func TestGuard_refuses(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	require.ErrorIs(t, askOf(ctx, guardedPool(t, testkit.NewPgBouncer(t, url, "session").URL(), nil)), store.ErrPooled)
	testkit.Exec(t, url, "delete from freshet.incarnation")
	require.ErrorIs(t, askOf(ctx, guardedPool(t, url, nil)), store.ErrNoEpoch)
}

// The hooks of the pool's owner are called on, and ours don't depend on them.
func TestGuard_hooks(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	testkit.Exec(t, url, "do $$ begin execute format('alter database %I set client_encoding = ''LATIN1''', current_database()); end $$")
	var connected, prepared atomic.Int32
	own := errors.New("own")
	hooks := func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			connected.Add(1)
			_, err := conn.Exec(ctx, "set search_path = public")
			return err
		}
		c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
			if prepared.Add(1) == 2 {
				return true, own
			}
			return true, nil
		}
	}
	pool := guardedPool(t, url, hooks)
	var encoding string
	require.NoError(t, pool.QueryRow(ctx, "show client_encoding").Scan(&encoding))
	require.Equal(t, "UTF8", encoding)
	require.ErrorIs(t, askOf(ctx, pool), own)
	require.ErrorIs(t, askOf(asking(t, epoch-1), pool), store.ErrEpoch)
	require.EqualValues(t, 1, connected.Load())
	require.EqualValues(t, 2, prepared.Load(), "not for a connection that is refused")

	pool = guardedPool(t, url, func(c *pgxpool.Config) {
		c.BeforeAcquire = func(context.Context, *pgx.Conn) bool { return prepared.Add(1) > 4 } //nolint:staticcheck // deprecated, but somebody may have set it
	})
	require.NoError(t, askOf(ctx, pool))
	require.Greater(t, prepared.Load(), int32(4))
}

// WhoSQL tells the database from others, and from others' runs of it, for any role
// and any client.
func TestCheckWho(t *testing.T) {
	t.Parallel()
	server := testkit.NewServer(t, map[string]string{"fsync": "off"})
	ctx, url := testkit.Context(t), server.URL("postgres")
	require.NoError(t, prepare(ctx, url))
	testkit.Exec(t, url, "insert into freshet.epoch (last) values (1700000000); create role nobody login")
	who := func(url string) string {
		conn, err := pgx.Connect(ctx, url)
		require.NoError(t, err)
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, "set timezone = 'Asia/Tokyo'; set datestyle = 'SQL'; set role nobody")
		require.NoError(t, err)
		return one[string](t, conn, store.WhoSQL)
	}
	own := one[string](t, testkit.Conn(t, url), store.WhoSQL)
	require.NoError(t, store.CheckWho(own, who(url)))

	testkit.Exec(t, url, "create database copy template template0")
	copied := server.URL("copy")
	require.NoError(t, prepare(ctx, copied))
	testkit.Exec(t, copied, "insert into freshet.epoch (last) values (1700000000)")
	require.ErrorIs(t, store.CheckWho(own, who(copied)), store.ErrOtherDatabase)
	require.ErrorContains(t, store.CheckWho(own, who(copied)), "database's oid")

	testkit.Exec(t, url, "update freshet.epoch set last = last + 1")
	require.ErrorIs(t, store.CheckWho(own, who(url)), store.ErrEpoch)
	testkit.Exec(t, url, "update freshet.epoch set last = last - 1")

	elsewhere := migrated(t)
	require.ErrorIs(t, store.CheckWho(own, one[string](t, testkit.Conn(t, elsewhere), store.WhoSQL)), store.ErrOtherDatabase, "another server")

	server.Restart(t)
	require.ErrorIs(t, store.CheckWho(own, who(url)), store.ErrEpoch, "another run")
	for _, answer := range []string{"", "5", "a b c d", own + " more"} {
		require.ErrorContains(t, store.CheckWho(own, answer), "not an answer to WhoSQL")
	}
}

// A standby of the same database is told from it, by its answer.
func TestCheckWho_standby(t *testing.T) {
	t.Parallel()
	server := testkit.NewServer(t, nil)
	ctx, url := testkit.Context(t), server.URL("postgres")
	require.NoError(t, prepare(ctx, url))
	testkit.Exec(t, url, "insert into freshet.epoch (last) values (1700000000)")
	own := one[string](t, testkit.Conn(t, url), store.WhoSQL)
	standby := server.Standby(t)
	behind := standby.URL(t, url)
	waitFor(t, "the epoch has come over", func() bool {
		return one[bool](t, testkit.Conn(t, behind), "select exists (select from freshet.epoch)")
	})
	err := store.CheckWho(own, one[string](t, testkit.Conn(t, behind), store.WhoSQL))
	require.ErrorIs(t, err, store.ErrStandby)
	require.ErrorIs(t, askOf(ctx, guardedPool(t, behind, nil)), store.ErrStandby)

	// Promoted, it is a server of its own that has all else in common.
	standby.Promote(t)
	err = store.CheckWho(own, one[string](t, testkit.Conn(t, behind), store.WhoSQL))
	require.ErrorIs(t, err, store.ErrEpoch)
	require.ErrorIs(t, askOf(ctx, guardedPool(t, behind, nil)), store.ErrNoEpoch)
}
