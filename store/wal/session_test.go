package wal

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
)

// sessionOn is a session that has not begun, with connections to a migrated
// database, and its feed's sink.
func sessionOn(t *testing.T, url string) *session {
	t.Helper()
	feed, err := New(Config{URL: url, Program: testProgram(t), Sink: hub.New(hub.Config{}), Logger: testkit.Logger(t)})
	require.NoError(t, err)
	s := &session{f: feed, log: slog.New(slog.DiscardHandler), dial: newDialer(), work: make(chan struct{}, 1)}
	t.Cleanup(s.close)
	ctx := testkit.Context(t)
	s.watchConn, err = s.openConn(ctx, nil)
	require.NoError(t, err)
	s.probeConn, err = s.openConn(ctx, nil)
	require.NoError(t, err)
	s.gateConn, err = s.openConn(ctx, glanceSettings)
	require.NoError(t, err)
	s.repl, err = s.openReplication(ctx)
	require.NoError(t, err)
	return s
}

// TestSession_notCompiled: no statement of a session is compiled by the server, which
// takes seconds, however dear it looks to the planner.
func TestSession_notCompiled(t *testing.T) {
	url := testkit.Migrated(t)
	testkit.Exec(t, url, `do $$ begin execute format('alter database %I set jit_above_cost = 0', current_database()); end $$`)
	s := sessionOn(t, url)
	for _, conn := range []*pgx.Conn{s.watchConn, s.gateConn} {
		rows, err := conn.Query(testkit.Context(t), "explain (analyze) "+catalogSQL, []string{"public"}, []string{"messages"}, "freshet")
		require.NoError(t, err)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.NotContains(t, strings.Join(plan, "\n"), "JIT:")
	}
}

// begun begins epoch 7, which s serves from then on.
func begun(t *testing.T, url string, s *session) {
	t.Helper()
	home, err := identifyBySQL(testkit.Context(t), s.probeConn)
	require.NoError(t, err)
	s.home, s.f.epoch = home, 7
	testkit.Exec(t, url, `insert into freshet.incarnation (epoch, system_identifier, timeline, postmaster_start, database) values ($1, $2, $3, $4, $5)`,
		history{7, home}.arguments()...)
}

// TestSession_F75_provenHere: what was proven visible is known of this database
// only; the row can travel with a dump.
func TestSession_F75_provenHere(t *testing.T) {
	ctx := testkit.Context(t)
	url := testkit.Migrated(t)
	s := sessionOn(t, url)
	lookUp := func() pglogrepl.LSN {
		lsn, err := s.lookUpProven(ctx)
		require.NoError(t, err)
		return lsn
	}
	require.Zero(t, lookUp())
	s.f.epoch = 7
	require.ErrorIs(t, s.recordProven(ctx, s.probeConn, 0x16b374d848), errOtherHistory, "of no epoch")
	begun(t, url, s)
	here := s.home
	for name, other := range map[string]func(i *incarnation){
		"system": func(i *incarnation) { i.systemIdentifier += "1" }, "timeline": func(i *incarnation) { i.timeline++ },
		"start": func(i *incarnation) { i.postmasterStart = i.postmasterStart.Add(time.Microsecond) }, "database": func(i *incarnation) { i.database++ },
	} {
		other(&s.home)
		require.ErrorIs(t, s.recordProven(ctx, s.probeConn, 0x16b374d848), errOtherHistory, "of another history of the same number: %s", name)
		s.home = here
	}
	s.f.epoch++
	require.ErrorIs(t, s.recordProven(ctx, s.probeConn, 0x16b374d848), errOtherHistory, "of another epoch")
	s.f.epoch--
	require.Zero(t, lookUp())
	require.NoError(t, s.recordProven(ctx, s.probeConn, 0x16b374d848))
	require.Equal(t, pglogrepl.LSN(0x16b374d848), lookUp())
	require.Equal(t, uint64(0x16b374d848), s.proven.Load())
	for _, by := range []pglogrepl.LSN{0x9ffffffff, 0x16b374d848} { // the first is lower, but for its text
		require.NoError(t, s.recordProven(ctx, s.gateConn, by))
		require.Equal(t, pglogrepl.LSN(0x16b374d848), lookUp(), "another node knew more")
	}
	for _, elsewhere := range []incarnation{
		{systemIdentifier: "8", database: here.database}, {systemIdentifier: here.systemIdentifier, database: here.database / 10},
		{systemIdentifier: here.systemIdentifier, database: here.database + 1},
	} {
		s.home = elsewhere
		require.Zero(t, lookUp())
	}
	s.home = here
	_, err := s.gateConn.Exec(ctx, `update freshet.fingerprint set value = $2 || ' nonsense' where source = $1`, provenKey, here.home())
	require.NoError(t, err)
	require.Zero(t, lookUp())
	require.NoError(t, s.recordProven(ctx, s.probeConn, 7))
	require.Equal(t, pglogrepl.LSN(7), lookUp(), "nonsense is written over")
}

// TestSession_F70_provenIsNotWritten: a database that refuses, and somebody who
// holds the table, cost the next start a wait, and this session nothing.
func TestSession_F70_provenIsNotWritten(t *testing.T) {
	url := testkit.Migrated(t)
	ctx := testkit.Context(t)
	s := sessionOn(t, url)
	begun(t, url, s)
	_, err := s.probeConn.Exec(ctx, `set default_transaction_read_only = on`)
	require.NoError(t, err)
	require.NoError(t, s.recordProven(ctx, s.probeConn, 7))
	holder := testkit.Conn(t, url)
	_, err = holder.Exec(ctx, `begin; lock table freshet.fingerprint`)
	require.NoError(t, err)
	_, err = s.probeConn.Exec(ctx, `set default_transaction_read_only = off`)
	require.NoError(t, err)
	require.NoError(t, s.recordProven(ctx, s.probeConn, 7))
	require.Zero(t, s.proven.Load())
}

// TestSession_identify (F77): a session whose connections have reached different
// databases serves none of them.
func TestSession_identify(t *testing.T) {
	ctx := testkit.Context(t)
	s := sessionOn(t, testkit.Migrated(t))
	now, err := s.identify(ctx)
	require.NoError(t, err)
	require.NotZero(t, now.database)
	require.WithinDuration(t, time.Now(), now.postmasterStart, time.Hour)
	for _, conn := range []**pgx.Conn{&s.watchConn, &s.gateConn, &s.probeConn} {
		ours := *conn
		*conn = testkit.Conn(t, testkit.Migrated(t))
		_, err = s.identify(ctx)
		require.ErrorContains(t, err, "different servers or databases")
		*conn = ours
	}
}

// TestSession_provesTheEpoch (G6): the snapshot that lets commits through, and the
// positions that others wait for, are of the epoch that the session serves, and
// of the primary.
func TestSession_provesTheEpoch(t *testing.T) {
	url := testkit.Migrated(t)
	ctx := testkit.Context(t)
	s := sessionOn(t, url)
	now, err := s.identify(ctx)
	require.NoError(t, err)
	s.f.epoch, _, err = resolveEpoch(ctx, s.watchConn, now, history{}, 0)
	require.NoError(t, err)
	require.NoError(t, s.lookUp(ctx))
	_, err = s.takeSnapshot(ctx)
	require.NoError(t, err)
	_, _, err = s.readPositions(ctx)
	require.NoError(t, err)

	testkit.Exec(t, url, `update freshet.incarnation set epoch = epoch + 1`)
	_, err = s.takeSnapshot(ctx)
	require.ErrorContains(t, err, "epoch")
	_, _, err = s.readPositions(ctx)
	require.ErrorContains(t, err, "epoch")
	testkit.Exec(t, url, `delete from freshet.incarnation`)
	_, err = s.takeSnapshot(ctx)
	require.ErrorContains(t, err, "epoch")
	_, _, err = s.readPositions(ctx)
	require.ErrorContains(t, err, "epoch")
}

// TestSession_provesThePrimary: a standby's snapshot says that a transaction still
// open on the primary is over. That it can't read an unlogged table is not what
// this rests on.
func TestSession_provesThePrimary(t *testing.T) {
	url := testkit.Migrated(t)
	ctx := testkit.Context(t)
	s := sessionOn(t, url)
	now, err := s.identify(ctx)
	require.NoError(t, err)
	s.f.epoch, _, err = resolveEpoch(ctx, s.watchConn, now, history{}, 0)
	require.NoError(t, err)
	require.NoError(t, s.lookUp(ctx))
	testkit.Exec(t, url, `create schema standby; create function standby.pg_is_in_recovery() returns bool return true`)
	for _, conn := range []*pgx.Conn{s.gateConn, s.probeConn} {
		_, err := conn.Exec(ctx, `set search_path = standby, pg_catalog`)
		require.NoError(t, err)
	}
	_, err = s.takeSnapshot(ctx)
	require.ErrorContains(t, err, "not the primary")
	_, _, err = s.readPositions(ctx)
	require.Error(t, err)
}

// A move that rereads much is remembered with what it took, by which the keeper rests.
func TestKeeper_remembersTheCost(t *testing.T) {
	ctx, url := testkit.Context(t), testkit.Migrated(t)
	s := sessionOn(t, url)
	s.f.cfg.Slot = "dear"
	begun(t, url, s)
	require.NoError(t, s.openKeep(ctx, history{s.f.epoch, s.home}))
	testkit.Exec(t, url, `select pg_create_logical_replication_slot('dear', 'pgoutput')`)
	t.Cleanup(func() { testkit.Exec(t, url, `select pg_drop_replication_slot('dear')`) })
	testkit.Exec(t, url, `insert into messages (conversation, author, body) select '7', 'a', repeat('x', 1000) from generate_series(1, 1000)`)
	var edge pglogrepl.LSN
	require.NoError(t, s.probeConn.QueryRow(ctx, `select pg_current_wal_flush_lsn()`).Scan(&edge))
	s.proven.Store(uint64(edge))

	k := &keeper{s: s}
	w, _, err := k.look(ctx)
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, k.move(ctx, w, edge))
	require.Positive(t, k.cost)
	require.LessOrEqual(t, k.cost, time.Since(began))
	require.Equal(t, uint64(1), s.f.stats.moves.Load())
}
