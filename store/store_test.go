package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/gen/messagesdb"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

func list(ctx context.Context, tx pgx.Tx) error {
	_, err := messagesdb.New(tx).ListAllMessages(ctx, messagesdb.ListAllMessagesParams{RowLimit: 1})
	return err
}

func get(ctx context.Context, tx pgx.Tx) error {
	_, err := messagesdb.New(tx).GetMessage(ctx, messagesdb.GetMessageParams{Conversation: "7", ID: uuid.New()})
	return err
}

func TestOpen_badURL(t *testing.T) {
	t.Parallel()
	_, err := store.Open(testkit.Context(t), store.Config{URL: "postgres://user:secret@%zz"})
	require.ErrorContains(t, err, "database URL")
	require.NotContains(t, err.Error(), "secret")
}

// A pool opens, and fails call by call, while there is no database to use; once
// there is one, it works.
func TestRead_noEpochYet(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), testkit.Database(t)
	d := open(t, store.Config{URL: url})

	err := d.Read(ctx, list)
	require.ErrorIs(t, err, store.ErrNoEpoch, "not migrated")
	require.ErrorIs(t, err, store.ErrUnavailable)

	require.NoError(t, testkit.Migrate(ctx, url))
	require.ErrorIs(t, d.Read(ctx, list), store.ErrNoEpoch, "migrated")

	testkit.Exec(t, url, `insert into freshet.incarnation values (true, 5, 'test', 1, now())`)
	require.ErrorIs(t, d.Read(ctx, list), store.ErrNoEpoch, "of before the server's start")
	testkit.Exec(t, url, `update freshet.incarnation set postmaster_start = pg_postmaster_start_time()`)
	require.NoError(t, d.Read(ctx, list))
}

func TestRead_unreachable(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, migrated(t))
	d := open(t, store.Config{URL: p.URL(), MaxConns: 1})
	p.Refuse()
	require.ErrorIs(t, d.Read(testkit.Context(t), list), store.ErrUnavailable)
	p.Resume()
	require.NoError(t, d.Read(testkit.Context(t), list))
	for _, read := range []func(context.Context, func(context.Context, pgx.Tx) error) error{d.Read, d.ReadTx} {
		p.Cut()
		require.NoError(t, read(testkit.Context(t), list), "a pooled connection that has died unseen")
	}
}

func TestRead_notFound(t *testing.T) {
	t.Parallel()
	d := open(t, store.Config{URL: migrated(t)})
	require.ErrorIs(t, d.Read(testkit.Context(t), get), store.ErrNotFound)
	require.ErrorIs(t, d.ReadTx(testkit.Context(t), get), store.ErrNotFound)
}

// A call of one epoch never reads another's data: connections left over from an
// earlier epoch are replaced, and a call that is behind, or ahead of the
// database, is told so.
func TestRead_epoch(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d := open(t, store.Config{URL: url, MaxConns: 2})
	calling := func(later freshet.Epoch) context.Context {
		return store.WithCall(ctx, &store.Call{Epoch: epoch + later})
	}
	require.NoError(t, d.Read(calling(0), list))
	require.ErrorIs(t, d.Read(calling(1), list), store.ErrEpoch, "ahead of the database")

	setEpoch(t, url, epoch+1)
	require.NoError(t, d.Read(calling(1), list), "the old connection is replaced")
	require.ErrorIs(t, d.Read(calling(0), list), store.ErrEpoch, "behind the database")
	require.ErrorIs(t, d.ReadTx(calling(0), list), store.ErrEpoch)
	require.ErrorIs(t, d.InTx(calling(0), list), store.ErrEpoch)
	require.NoError(t, d.Read(ctx, list), "without an epoch any will do")
}

// A standby's connections are refused; so are the promoted server's, until a
// node has given it an epoch of its own. Should somebody have made the table a
// logged one, a standby can read it, and is refused all the same.
func TestRead_standby(t *testing.T) {
	t.Parallel()
	for _, persistence := range []string{"unlogged", "logged"} {
		t.Run(persistence, func(t *testing.T) {
			t.Parallel()
			server := testkit.NewServer(t, nil)
			ctx, url := testkit.Context(t), server.URL("postgres")
			require.NoError(t, prepare(ctx, url))
			testkit.Exec(t, url, "alter table freshet.incarnation set "+persistence)
			d := open(t, store.Config{URL: url})
			require.NoError(t, d.Read(ctx, list))

			dir := one[string](t, testkit.Conn(t, url), "show data_directory")
			require.NoError(t, os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o644))
			server.Restart(t)
			err := d.Read(ctx, list)
			require.ErrorIs(t, err, store.ErrStandby)
			require.ErrorIs(t, err, store.ErrUnavailable)
			if persistence == "logged" {
				return
			}
			require.True(t, one[bool](t, testkit.Conn(t, url), "select pg_promote()"))
			require.ErrorIs(t, d.Read(ctx, list), store.ErrNoEpoch)
		})
	}
}

// The statements of ReadTx have one snapshot; those of Read don't.
func TestReadTx_oneSnapshot(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d := open(t, store.Config{URL: url})
	const insert = "insert into messages (conversation, author, body) values ('7', 'ann', 'hi')"
	count := func(ctx context.Context, tx pgx.Tx) int {
		rows, err := messagesdb.New(tx).ListAllMessages(ctx, messagesdb.ListAllMessagesParams{RowLimit: 10})
		require.NoError(t, err)
		return len(rows)
	}
	require.NoError(t, d.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		require.Zero(t, count(ctx, tx))
		testkit.Exec(t, url, insert)
		require.Zero(t, count(ctx, tx))
		_, err := messagesdb.New(tx).CreateMessage(ctx, messagesdb.CreateMessageParams{Conversation: "7", Author: "ann", Body: "hi"})
		require.ErrorContains(t, err, "read-only")
		return nil
	}))
	require.NoError(t, d.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		require.Equal(t, 1, count(ctx, tx))
		return nil
	}))
}

// The context's end cancels the statement, not the connection.
func TestRead_cancel(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d := open(t, store.Config{URL: url, MaxConns: 1})
	watch := testkit.Conn(t, url)
	backend := func() (pid int32) {
		return one[int32](t, watch, "select pid from pg_stat_activity where application_name = 'freshet' and datname = current_database()")
	}
	require.NoError(t, d.Read(ctx, list))
	pid := backend()

	locker := testkit.Conn(t, url)
	_, err := locker.Exec(ctx, "begin; lock table messages")
	require.NoError(t, err)
	for name, run := range map[string]func(context.Context, func(context.Context, pgx.Tx) error) error{
		"Read": d.Read, "ReadTx": d.ReadTx, "InTx": d.InTx,
	} {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		err := run(short, list)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		require.NotErrorIs(t, err, store.ErrUnavailable, name)
	}
	_, err = locker.Exec(ctx, "rollback")
	require.NoError(t, err)
	for range 20 {
		require.NoError(t, d.Read(ctx, list))
	}
	require.Equal(t, pid, backend(), "the connection was thrown away")
}

func TestRead_ownErrorPasses(t *testing.T) {
	t.Parallel()
	d := open(t, store.Config{URL: migrated(t)})
	own := errors.New("own")
	fail := func(context.Context, pgx.Tx) error { return own }
	require.Equal(t, own, d.Read(testkit.Context(t), fail))
	require.Equal(t, own, d.ReadTx(testkit.Context(t), fail))
	require.Equal(t, own, d.InTx(testkit.Context(t), fail))
}

// A panic passes, and its transaction doesn't reach the next caller.
func TestInTx_panic(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	d := open(t, store.Config{URL: migrated(t), MaxConns: 1})
	require.PanicsWithValue(t, "boom", func() {
		_ = d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			require.NoError(t, create(ctx, tx))
			panic("boom")
		})
	})
	require.PanicsWithValue(t, "boom", func() { _ = d.ReadTx(ctx, func(context.Context, pgx.Tx) error { panic("boom") }) })
	require.Zero(t, countMessages(t, d))
}

// F52: Call.Audit tells which tables a read looked into, through views and
// functions, also when it found nothing.
func TestRead_audit(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	testkit.Exec(t, url, `
		create table other (id int); create table idle (id int);
		create table parted (id int) partition by list (id);
		create table leaf partition of parted for values in (1);
		alter table messages rename to real_messages;
		create view messages as select m.* from real_messages as m
			where not exists (select from other) and not exists (select from parted)
			and (m.body <> 'never' or exists (select from idle))`)
	d := open(t, store.Config{URL: url, MaxConns: 1})
	scanned := func(run func(context.Context, func(context.Context, pgx.Tx) error) error, fn func(context.Context, pgx.Tx) error) []string {
		call := &store.Call{Audit: true}
		require.NoError(t, run(store.WithCall(ctx, call), fn))
		return tables(t, call.Scanned)
	}
	want := []string{"public.other", "public.parted", "public.real_messages"}
	require.Equal(t, want, scanned(d.Read, list))
	require.Equal(t, want, scanned(d.ReadTx, list))
	require.Empty(t, scanned(d.Read, func(context.Context, pgx.Tx) error { return nil }), "an earlier read's counts")

	call := &store.Call{Audit: true}
	err := d.Read(store.WithCall(ctx, call), get)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.Contains(t, tables(t, call.Scanned), "public.real_messages", "not_found depends on the table too")
}

func tables(t *testing.T, of func() ([]string, error)) []string {
	t.Helper()
	list, err := of()
	require.NoError(t, err)
	return list
}

func TestInTx_audit(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	testkit.Exec(t, url, `
		create table other (id int);
		create function other() returns trigger language plpgsql as $$ begin insert into other values (1); return new; end $$;
		create trigger other after insert on messages for each row execute function other()`)
	d := open(t, store.Config{URL: url, MaxConns: 1})
	call := &store.Call{Audit: true}
	require.NoError(t, d.InTx(store.WithCall(ctx, call), create))
	require.Equal(t, []string{"public.messages", "public.other"}, tables(t, call.Written))
	require.Equal(t, 1, countMessages(t, d))
}

// Without statistics nobody can tell what a call uses: it is served all the
// same, and says so.
func TestCall_auditNeedsCounts(t *testing.T) {
	t.Parallel()
	url := testkit.WithParam(t, migrated(t), "options", "-ctrack_counts=off")
	d := open(t, store.Config{URL: url})
	for name, run := range map[string]func(context.Context, func(context.Context, pgx.Tx) error) error{"Read": d.Read, "InTx": d.InTx} {
		call := &store.Call{Audit: true}
		fn := list
		if name == "InTx" {
			fn = create
		}
		require.NoError(t, run(store.WithCall(testkit.Context(t), call), fn), name)
		_, err := call.Scanned()
		require.ErrorContains(t, err, "track_counts is off")
		_, err = call.Written()
		require.ErrorContains(t, err, "track_counts is off")
	}
}
