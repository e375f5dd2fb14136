package store_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/gen/messagesdb"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// F78: more writes than the pool has connections wait for the lock of one row:
// reads go on, and the writes end in time, with an error that says that nothing
// was done.
func TestInTx_F78_writesThatWaitLeaveReadsAlone(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d := open(t, store.Config{URL: testkit.WithParam(t, url, "options", "-clock_timeout=2s"), MaxConns: 4})
	id := uuid.New()
	testkit.Exec(t, url, "insert into messages (id, conversation, author, body) values ($1, '7', 'a', 'b')", id)
	locker := testkit.Conn(t, url)
	_, err := locker.Exec(ctx, "begin; update messages set body = 'locked'")
	require.NoError(t, err)

	const writers = 6
	var all sync.WaitGroup
	errs := make(chan error, writers)
	for range writers {
		all.Go(func() {
			errs <- d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				_, err := messagesdb.New(tx).UpdateMessage(ctx, messagesdb.UpdateMessageParams{Conversation: "7", ID: id, Body: "new"})
				return err
			})
		})
	}
	waitFor(t, "writes wait for the lock", func() bool { s := d.Stats(); return s.Writing == 3 && s.InUse == 3 && s.Waiting == writers-3 })
	stats := d.Stats()
	require.Equal(t, 3, stats.MaxWriting)
	for range 20 {
		require.NoError(t, d.Read(ctx, list))
	}
	require.Empty(t, errs, "no write has ended yet: the reads didn't wait for them")
	all.Wait()
	for range writers {
		err := <-errs
		require.ErrorIs(t, err, store.ErrBusy)
		require.ErrorIs(t, err, store.ErrUnavailable)
	}
	require.Zero(t, d.Stats().InUse)
	require.Zero(t, d.Stats().Writing)
	require.NotZero(t, d.Stats().Acquires)
}

// F78: who has hundreds of writes waiting doesn't keep others from theirs: callers have
// their turns.
func TestInTx_F78_callersHaveTheirTurns(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d := open(t, store.Config{URL: testkit.WithParam(t, url, "options", "-clock_timeout=1min"), MaxConns: 2}) // one of them for writes
	d.SetAcquireTimeout(time.Minute)
	locker := testkit.Conn(t, url)
	_, err := locker.Exec(ctx, "begin; lock table messages in share row exclusive mode")
	require.NoError(t, err)
	const many = 20
	ended := make(chan error, many+1)
	var mu sync.Mutex // guards order
	var order []string
	write := func(caller string) {
		go func() {
			ended <- d.InTx(store.WithCall(ctx, &store.Call{Caller: caller}), func(ctx context.Context, tx pgx.Tx) error {
				mu.Lock()
				order = append(order, caller)
				mu.Unlock()
				return create(ctx, tx)
			})
		}()
	}
	for range many {
		write("many")
	}
	waitFor(t, "they wait", func() bool { return d.Stats().Waiting == many-1 })
	write("one")
	waitFor(t, "the other waits, too", func() bool { return d.Stats().Waiting == many })
	_, err = locker.Exec(ctx, "rollback")
	require.NoError(t, err)
	for range many + 1 {
		require.NoError(t, <-ended)
	}
	require.Len(t, order, many+1)
	at := slices.Index(order, "one")
	require.GreaterOrEqual(t, at, 0, "%v", order)
	require.LessOrEqual(t, at, 2, "behind the one that had the connection, and one in turn: %v", order)
	require.Zero(t, d.Stats().Writing)
}

// F78: a write is bounded also where no lock timeout helps, and so is the wait
// for a connection; a session's lock timeout is ours unless somebody has set one.
func TestInTx_F78_bounds(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d := open(t, store.Config{URL: url, MaxConns: 1, MaxWrite: 4 * time.Second})
	require.NoError(t, d.Read(ctx, list)) // connected
	d.SetAcquireTimeout(300 * time.Millisecond)
	testkit.Exec(t, url, "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return new; end $$;"+
		"create trigger slow before insert on messages for each row execute function slow()")
	slow := make(chan error, 1)
	go func() { slow <- d.InTx(ctx, create) }()
	waitFor(t, "the slow write runs", func() bool { return d.Stats().InUse == 1 })
	require.ErrorIs(t, d.Read(ctx, list), store.ErrBusy)
	require.ErrorIs(t, d.InTx(ctx, list), store.ErrBusy)
	require.ErrorIs(t, <-slow, context.DeadlineExceeded)
	require.NoError(t, d.Read(ctx, list))

	timeout := func(url string) string {
		d := open(t, store.Config{URL: url, MaxConns: 1})
		require.NoError(t, d.Read(ctx, list))
		var timeout string
		require.NoError(t, d.Ask(ctx, "show lock_timeout", &timeout))
		return timeout
	}
	require.Equal(t, "5s", timeout(url))
	require.Equal(t, "7s", timeout(testkit.WithParam(t, url, "options", "-clock_timeout=7s")))
}

// F61: a migration changes what prepared statements return. No caller sees it,
// on any of the pool's connections, in any kind of call.
func TestRead_F61_stalePlans(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d := open(t, store.Config{URL: url, MaxConns: 3})
	// all runs a call on every connection of the pool at once.
	all := func(what string, run func(context.Context, func(context.Context, pgx.Tx) error) error, n int, fn func(context.Context, pgx.Tx) error) {
		t.Helper()
		var met, done sync.WaitGroup
		met.Add(n)
		for range n {
			done.Go(func() {
				first := true
				err := run(ctx, func(ctx context.Context, tx pgx.Tx) error {
					if first {
						first = false
						met.Done()
					}
					met.Wait()
					return fn(ctx, tx)
				})
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		done.Wait()
	}
	several := func(ctx context.Context, tx pgx.Tx) error {
		if err := create(ctx, tx); err != nil {
			return err
		}
		return list(ctx, tx)
	}
	burst := func() {
		all("Read", d.Read, 3, list)
		all("ReadTx", d.ReadTx, 3, list)
		all("InTx", d.InTx, 2, several) // the third is for reads
	}
	burst()
	for _, size := range []string{"201", "202"} {
		testkit.Exec(t, url, "alter table messages alter column author type varchar("+size+")")
		burst()
	}
	require.Equal(t, 6, countMessages(t, d))
}

// F55: neither the database's nor anybody's client_encoding decides how our
// bytes are taken.
func TestOpen_F55_encoding(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	testkit.Exec(t, url, "do $$ begin execute format('alter database %I set client_encoding = ''LATIN1''', current_database()); end $$")
	for _, url := range []string{url, testkit.WithParam(t, url, "client_encoding", "LATIN1")} {
		d := open(t, store.Config{URL: url})
		require.NoError(t, d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := messagesdb.New(tx).CreateMessage(ctx, messagesdb.CreateMessageParams{Conversation: "7", Author: "ann", Body: "café"})
			return err
		}))
	}
	conn := testkit.Conn(t, testkit.WithParam(t, url, "client_encoding", "UTF8"))
	require.Equal(t, 2, one[int](t, conn, "select count(*) from messages where body = convert_from('caf\\303\\251', 'UTF8')"))
}
