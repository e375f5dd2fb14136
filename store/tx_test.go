package store_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/gen/messagesdb"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

func create(ctx context.Context, tx pgx.Tx) error {
	_, err := messagesdb.New(tx).CreateMessage(ctx, messagesdb.CreateMessageParams{Conversation: "7", Author: "ann", Body: "hi"})
	return err
}

func countMessages(t testing.TB, d *store.DB) (n int) {
	t.Helper()
	require.NoError(t, d.Read(testkit.Context(t), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := messagesdb.New(tx).ListAllMessages(ctx, messagesdb.ListAllMessagesParams{RowLimit: 1000})
		n = len(rows)
		return err
	}))
	return n
}

// onlyOutcome returns the call's single outcome, which must be of the epoch.
func onlyOutcome(t testing.TB, call *store.Call) store.Outcome {
	t.Helper()
	outcomes := call.Outcomes()
	require.Len(t, outcomes, 1)
	require.Equal(t, epoch, outcomes[0].Position.Epoch)
	return outcomes[0]
}

// The outcome names the transaction, and a position that its commit is below;
// BeforeCommit knows the id before others can see the commit.
func TestInTx_outcome(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d, conn := open(t, store.Config{URL: url}), testkit.Conn(t, url)
	var told uint64
	call := &store.Call{BeforeCommit: func(xid uint64) {
		told = xid
		require.Zero(t, one[int](t, conn, "select count(*) from messages"))
	}}
	floor := one[int64](t, conn, "select (pg_current_wal_insert_lsn() - '0/0')::bigint")
	require.NoError(t, d.InTx(store.WithCall(ctx, call), create))

	o := onlyOutcome(t, call)
	require.True(t, o.Committed)
	require.NotZero(t, o.Xid)
	require.Equal(t, told, o.Xid)
	require.Equal(t, strconv.FormatUint(o.Xid, 10), one[string](t, conn, "select xmin::text from messages"))
	require.Greater(t, o.Position.Position, uint64(floor))
	require.LessOrEqual(t, o.Position.Position, uint64(one[int64](t, conn, "select (pg_current_wal_insert_lsn() - '0/0')::bigint")))
}

// A transaction that wrote nothing, and one that failed, saw something too.
func TestInTx_outcomeWithoutCommit(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d := open(t, store.Config{URL: url})
	call := &store.Call{BeforeCommit: func(uint64) { t.Error("nothing was to be committed") }}
	require.NoError(t, d.InTx(store.WithCall(ctx, call), list))
	o := onlyOutcome(t, call)
	require.Zero(t, o.Xid)
	require.True(t, o.Committed)
	require.NotZero(t, o.Position.Position)

	for name, fn := range map[string]func(context.Context, pgx.Tx) error{
		"not found": get,
		"a failed statement": func(ctx context.Context, tx pgx.Tx) error {
			_, err := messagesdb.New(tx).CreateMessage(ctx, messagesdb.CreateMessageParams{Conversation: "-", Author: "ann", Body: "hi"})
			return err
		},
		"after a write": func(ctx context.Context, tx pgx.Tx) error {
			require.NoError(t, create(ctx, tx))
			return get(ctx, tx)
		},
		"a failed statement after a write, no error": func(ctx context.Context, tx pgx.Tx) error {
			require.NoError(t, create(ctx, tx))
			_, _ = messagesdb.New(tx).CreateMessage(ctx, messagesdb.CreateMessageParams{Conversation: "-", Author: "ann", Body: "hi"})
			return nil
		},
		"a failed statement, no error": func(ctx context.Context, tx pgx.Tx) error {
			_, _ = messagesdb.New(tx).CreateMessage(ctx, messagesdb.CreateMessageParams{Conversation: "-", Author: "ann", Body: "hi"})
			return nil
		},
	} {
		call := &store.Call{BeforeCommit: func(uint64) { t.Error("nothing was to be committed") }}
		require.Error(t, d.InTx(store.WithCall(ctx, call), fn), name)
		o := onlyOutcome(t, call)
		require.Zero(t, o.Xid, name)
		require.False(t, o.Committed, name)
		require.NotZero(t, o.Position.Position, name)
	}
	require.Zero(t, countMessages(t, d))
}

func TestInTx_constraintErrors(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	url := migrated(t)
	testkit.Exec(t, url, "create unique index one_body on messages (body)")
	d := open(t, store.Config{URL: url})
	require.NoError(t, d.InTx(ctx, create))
	for _, test := range []struct {
		params     messagesdb.CreateMessageParams
		kind       store.ConstraintKind
		constraint string
	}{
		{messagesdb.CreateMessageParams{Conversation: "-", Author: "ann", Body: "x"}, store.Check, "messages_conversation_check"},
		{messagesdb.CreateMessageParams{Conversation: "7", Author: "ann", Body: "hi"}, store.Unique, "one_body"},
		{messagesdb.CreateMessageParams{Conversation: "7", Author: "ann", Body: "a\x00b"}, store.Value, ""},
	} {
		err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := messagesdb.New(tx).CreateMessage(ctx, test.params)
			return err
		})
		var constraint *store.ConstraintError
		require.ErrorAs(t, err, &constraint)
		require.Equal(t, test.kind, constraint.Kind)
		require.Equal(t, test.constraint, constraint.Constraint)
		require.NotEmpty(t, constraint.Error())
	}
}

// A database that takes no writes isn't there for them; a read that writes is at fault
// itself.
func TestInTx_readOnly(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	testkit.Exec(t, url, `do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$`)
	d := open(t, store.Config{URL: url})
	require.ErrorIs(t, d.InTx(ctx, create), store.ErrReadOnly)
	require.ErrorIs(t, store.ErrReadOnly, store.ErrUnavailable)
	err := d.ReadTx(ctx, create)
	require.ErrorContains(t, err, "read-only transaction")
	require.NotErrorIs(t, err, store.ErrUnavailable)
}

// A constraint that is checked at COMMIT fails the call, and nothing is tried
// again or resolved.
func TestInTx_deferredConstraint(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	testkit.Exec(t, url, "alter table messages add constraint one_body unique (body) deferrable initially deferred")
	d := open(t, store.Config{URL: url})
	require.NoError(t, d.InTx(ctx, create))
	call := new(store.Call)
	var constraint *store.ConstraintError
	require.ErrorAs(t, d.InTx(store.WithCall(ctx, call), create), &constraint)
	require.Equal(t, "one_body", constraint.Constraint)
	require.False(t, onlyOutcome(t, call).Committed)
	require.Equal(t, 1, countMessages(t, d))
}

// Two transactions that lock two rows in opposite orders: the one that Postgres
// picks is tried again, and both succeed.
func TestInTx_deadlock(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d := open(t, store.Config{URL: testkit.WithParam(t, url, "options", "-cdeadlock_timeout=20ms")})
	ids := []uuid.UUID{uuid.New(), uuid.New()}
	testkit.Exec(t, url, "insert into messages (id, conversation, author, body) values ($1, '7', 'a', 'b'), ($2, '7', 'a', 'b')", ids[0], ids[1])

	met := make(chan struct{}) // each has its first row
	ready := make(chan struct{}, 2)
	go func() { <-ready; <-ready; close(met) }()
	run := func(first, second uuid.UUID, call *store.Call) error {
		attempt := 0
		return d.InTx(store.WithCall(ctx, call), func(ctx context.Context, tx pgx.Tx) error {
			attempt++
			set := func(id uuid.UUID) error {
				_, err := messagesdb.New(tx).UpdateMessage(ctx, messagesdb.UpdateMessageParams{Conversation: "7", ID: id, Body: "new"})
				return err
			}
			if err := set(first); err != nil {
				return err
			}
			if attempt == 1 {
				ready <- struct{}{}
				<-met
			}
			return set(second)
		})
	}
	calls := []*store.Call{new(store.Call), new(store.Call)}
	errs := make(chan error, 1)
	go func() { errs <- run(ids[0], ids[1], calls[0]) }()
	require.NoError(t, run(ids[1], ids[0], calls[1]))
	require.NoError(t, <-errs)
	require.Len(t, append(calls[0].Outcomes(), calls[1].Outcomes()...), 3, "the loser's first attempt is an outcome too")
}

// A conflict that doesn't go away is given up, with an error that says so.
func TestInTx_conflictGivesUp(t *testing.T) {
	t.Parallel()
	d := open(t, store.Config{URL: migrated(t)})
	tries := 0
	err := d.InTx(testkit.Context(t), func(context.Context, pgx.Tx) error {
		tries++
		return store.ErrConflict
	})
	require.ErrorIs(t, err, store.ErrConflict)
	require.Equal(t, 3, tries)
}

// A pooled connection that has died unseen costs a try, not the call: nothing
// had been done on it.
func TestInTx_deadConnection(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, migrated(t))
	d := open(t, store.Config{URL: p.URL(), MaxConns: 1})
	require.NoError(t, d.InTx(testkit.Context(t), create))
	p.Cut()
	require.NoError(t, d.InTx(testkit.Context(t), create))
	require.Equal(t, 2, countMessages(t, d))
}

// So does one that breaks on the way: without COMMIT nothing is done, and what
// it had written is written once.
func TestInTx_connectionBreaks(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, migrated(t))
	d := open(t, store.Config{URL: p.URL()})
	call, tries := new(store.Call), 0
	require.NoError(t, d.InTx(store.WithCall(testkit.Context(t), call), func(ctx context.Context, tx pgx.Tx) error {
		if err := create(ctx, tx); err != nil {
			return err
		}
		if tries++; tries == 1 {
			p.Cut()
		}
		return create(ctx, tx)
	}))
	require.Equal(t, 2, tries)
	require.True(t, onlyOutcome(t, call).Committed)
	require.Equal(t, 2, countMessages(t, d))
}

// A function that asks nothing leaves nothing to wait for.
func TestInTx_nothingAsked(t *testing.T) {
	t.Parallel()
	d := open(t, store.Config{URL: migrated(t)})
	call := new(store.Call)
	require.NoError(t, d.InTx(store.WithCall(testkit.Context(t), call), func(context.Context, pgx.Tx) error { return nil }))
	require.Empty(t, call.Outcomes())
}

// A list that fails half-way is an error, not a short list.
func TestInTx_rowsFail(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	testkit.Exec(t, url, `
		insert into messages (conversation, author, body) select '7', 'ann', i::text from generate_series(1, 2000) as i;
		alter table messages rename to real_messages;
		create view messages as select id, conversation, author, (1 / (body::int - 1))::text as body, create_time, update_time, etag from real_messages`)
	d := open(t, store.Config{URL: url})
	all := func(ctx context.Context, tx pgx.Tx) error {
		_, err := messagesdb.New(tx).ListAllMessages(ctx, messagesdb.ListAllMessagesParams{RowLimit: 5000})
		return err
	}
	require.ErrorContains(t, d.InTx(ctx, all), "division by zero")
	require.ErrorContains(t, d.Read(ctx, all), "division by zero")
	require.ErrorContains(t, d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_ = all(ctx, tx)
		return nil
	}), "aborted")
}

// Several statements of every kind, one transaction.
func TestInTx_severalStatements(t *testing.T) {
	t.Parallel()
	ctx, url := testkit.Context(t), migrated(t)
	d, conn := open(t, store.Config{URL: url}), testkit.Conn(t, url)
	call := new(store.Call)
	require.NoError(t, d.InTx(store.WithCall(ctx, call), func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, list(ctx, tx))
		require.ErrorIs(t, get(ctx, tx), store.ErrNotFound, "no failure of the transaction")
		require.NoError(t, create(ctx, tx))
		rows, err := messagesdb.New(tx).ListAllMessages(ctx, messagesdb.ListAllMessagesParams{RowLimit: 10})
		require.NoError(t, err)
		require.Len(t, rows, 1)
		n, err := messagesdb.New(tx).DeleteMessage(ctx, messagesdb.DeleteMessageParams{Conversation: "7", ID: rows[0].ID})
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
		require.NoError(t, create(ctx, tx))
		require.Zero(t, one[int](t, conn, "select count(*) from messages"), "seen before COMMIT")
		require.NoError(t, list(ctx, tx))
		require.ErrorIs(t, get(ctx, tx), store.ErrNotFound)
		return nil
	}))
	o := onlyOutcome(t, call)
	require.Equal(t, strconv.FormatUint(o.Xid, 10), one[string](t, conn, "select xmin::text from messages"))
}

// A caller that goes away before COMMIT leaves nothing behind.
func TestInTx_canceledBeforeCommit(t *testing.T) {
	t.Parallel()
	d := open(t, store.Config{URL: migrated(t)})
	ctx, cancel := context.WithCancel(testkit.Context(t))
	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		defer cancel()
		return create(ctx, tx)
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, countMessages(t, d))
}

// waitFor polls the condition: nothing signals what another session of the
// server waits for.
func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	require.Eventually(t, done, 20*time.Second, 2*time.Millisecond, "waiting: %s", strings.TrimSpace(what))
}
