package testkit_test

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestDatabase_isEmptyAndDropped(t *testing.T) {
	ctx := testkit.Context(t)
	var name string
	t.Run("inner", func(t *testing.T) {
		url := testkit.Database(t)
		testkit.Exec(t, url, "create table messages (id int); insert into messages values (1)")
		conn := testkit.Conn(t, url)
		require.NoError(t, conn.QueryRow(ctx, "select current_database()").Scan(&name))

		// All that makes DROP DATABASE fail: a slot in use, one at rest, a prepared transaction, a
		// session.
		testkit.Exec(t, url, "select pg_create_logical_replication_slot('idle_'||$1::text, 'pgoutput')", name)
		walsender, err := pgx.Connect(ctx, testkit.WithParam(t, url, "replication", "database"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = walsender.Close(context.Background()) })
		_, err = walsender.PgConn().Exec(ctx, "CREATE_REPLICATION_SLOT busy TEMPORARY LOGICAL pgoutput").ReadAll()
		require.NoError(t, err)
		testkit.Exec(t, url, "begin; insert into messages values (3); prepare transaction 'open'")
	})
	var left int
	err := testkit.Conn(t, testkit.Postgres(t).URL("postgres")).QueryRow(ctx,
		"select (select count(*) from pg_database where datname = $1) + (select count(*) from pg_replication_slots where database = $1)",
		name).Scan(&left)
	require.NoError(t, err)
	require.Zero(t, left)
}

func TestTemplate_isPreparedOnce(t *testing.T) {
	ctx := testkit.Context(t)
	prepared := 0
	prepare := func(ctx context.Context, url string) error {
		prepared++
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "create table t (id int)")
		return err
	}
	for range 2 {
		conn := testkit.Conn(t, testkit.Template(t, "once", prepare))
		var rows int
		require.NoError(t, conn.QueryRow(ctx, "select count(*) from t").Scan(&rows))
		require.Zero(t, rows)
		_, err := conn.Exec(ctx, "insert into t values (1)")
		require.NoError(t, err)
	}
	require.Equal(t, 1, prepared)
}

func TestServer_crashAndRestart(t *testing.T) {
	server := testkit.NewServer(t, map[string]string{"max_connections": "33", "max_wal_senders": "4"})
	url := server.Database(t)
	testkit.Exec(t, url, "create table t (id int); create unlogged table u (id int); insert into t values (1); insert into u values (1)")
	server.Kill()
	server.Restart(t)
	var connections string
	var logged, unlogged int
	conn := testkit.Conn(t, url)
	require.NoError(t, conn.QueryRow(testkit.Context(t),
		"select current_setting('max_connections'), (select count(*) from t), (select count(*) from u)").Scan(&connections, &logged, &unlogged))
	require.Equal(t, "33", connections)
	require.Equal(t, 1, logged)
	require.Zero(t, unlogged, "a crash empties unlogged tables")
}

func TestProxy(t *testing.T) {
	ctx := testkit.Context(t)
	proxy := testkit.NewProxy(t, testkit.Database(t))

	first, err := pgx.Connect(ctx, proxy.URL())
	require.NoError(t, err)
	require.NoError(t, first.Ping(ctx))
	proxy.Cut()
	require.Error(t, first.Ping(ctx), "cut")

	second, err := pgx.Connect(ctx, proxy.URL())
	require.NoError(t, err, "a cut isn't a refusal")
	proxy.Pause()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	require.Error(t, second.Ping(short), "paused")

	third := make(chan error, 1)
	go func() {
		conn, err := pgx.Connect(ctx, proxy.URL())
		if err == nil {
			err = conn.Close(ctx)
		}
		third <- err
	}()
	proxy.Resume()
	require.NoError(t, <-third)

	proxy.Refuse()
	_, err = pgx.Connect(ctx, proxy.URL())
	require.Error(t, err)
	proxy.Resume()
	proxy.Delay(30 * time.Millisecond)
	slow, err := pgx.Connect(ctx, proxy.URL())
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, slow.Ping(ctx))
	require.GreaterOrEqual(t, time.Since(began), 60*time.Millisecond, "both ways")
	require.NoError(t, slow.Close(ctx))
}

func TestProxy_tcp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	}()
	proxy := testkit.NewProxy(t, listener.Addr().String())
	conn, err := net.Dial("tcp", proxy.Addr())
	require.NoError(t, err)
	_, err = io.WriteString(conn, "hello")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite(), "a half-close goes through")
	echo, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "hello", string(echo))
	require.NoError(t, conn.Close())
	require.NoError(t, listener.Close())
	<-served
}

func TestMajors(t *testing.T) {
	for _, major := range testkit.Majors(t) {
		server := testkit.NewServerOf(t, major, map[string]string{"fsync": "off"})
		require.True(t, strings.HasPrefix(server.Version(), strconv.Itoa(major)), server.Version())
	}
}

func TestLogger_afterTheTest(t *testing.T) {
	var log interface{ Info(string, ...any) }
	t.Run("inner", func(t *testing.T) { log = testkit.Logger(t) })
	log.Info("dropped, no panic")
}

func TestMigrated(t *testing.T) {
	for range 2 {
		conn := testkit.Conn(t, testkit.Migrated(t))
		var found bool
		err := conn.QueryRow(testkit.Context(t), "select to_regclass('freshet.incarnation') is not null").Scan(&found)
		require.NoError(t, err)
		require.True(t, found)
	}
}
