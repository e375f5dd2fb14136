package systemtest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// at has the server listen there.
func at(addr string) func(*live.Config) {
	return func(c *live.Config) { c.Front.Addr = addr }
}

// counted counts the server's statements with pg_stat_statements.
type counted struct{ conn *pgx.Conn }

func countStatements(t testing.TB, database string) counted {
	t.Helper()
	testkit.Exec(t, database, `create extension pg_stat_statements`)
	return counted{testkit.Conn(t, database)}
}

// selects is how many reads of messages have run in this database.
func (c counted) selects(t testing.TB, ctx context.Context) int {
	t.Helper()
	var calls int
	err := c.conn.QueryRow(ctx, `select coalesce(sum(calls), 0)::int from pg_stat_statements(true) s join pg_database d on d.oid = s.dbid
		where d.datname = current_database() and s.query ~ 'from messages' and s.query ~ '\mselect\M' and s.query !~ 'delete from'`).Scan(&calls)
	require.NoError(t, err)
	return calls
}

// countedServer is a server on a Postgres of its own that counts statements.
func countedServer(t *testing.T, slot string, change func(*live.Config)) (database string, statements counted, n *node) {
	t.Helper()
	// Commits don't wait for the disk: the writer is to be faster than the readers.
	postgres := testkit.NewServer(t, map[string]string{"shared_preload_libraries": "pg_stat_statements", "fsync": "off"})
	database = postgres.Migrated(t)
	return database, countStatements(t, database), serve(t, database, slot, change)
}

// G7: 2,000 readers at-least the revision of one write cause one statement; and
// as many that come later, none.
func TestCount_aWriteAndTwoThousandReaders(t *testing.T) {
	ctx := testkit.Context(t)
	database, statements, n := countedServer(t, "readers", nil)
	c := newClients(t, n.url)
	conn := testkit.Conn(t, database)
	l := c.listen(t, []string{topicOf("7")}, nil, client.WithThrottle(0))
	l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
	read := func(rev freshet.Revision, rows int) {
		began := time.Now()
		defer func() { t.Logf("%d answers in %v", 2000/slowdown, time.Since(began).Round(time.Millisecond)) }()
		var readers errgroup.Group
		for range 2000 / slowdown {
			readers.Go(func() error {
				resp, err := c.list(ctx, "7", rev)
				if err != nil {
					return err
				}
				if got := len(resp.Msg.GetMessages()); got != rows {
					return fmt.Errorf("%d rows of %d", got, rows)
				}
				return nil
			})
		}
		require.NoError(t, readers.Wait())
	}
	for round := range 3 {
		before := statements.selects(t, ctx)
		_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ('7', 'sql', 'hi')`)
		require.NoError(t, err)
		l.await(t, ctx, "the write", func() bool { return l.notices > round })
		read(l.now().last, round+1)
		require.Equal(t, 1, statements.selects(t, ctx)-before)
		read(l.now().last, round+1)
		require.Equal(t, 1, statements.selects(t, ctx)-before, "the answer was kept")
	}
}

// G7: nothing that they show has changed: clients that come, that come back
// and that ask again cost no statement, however much is written elsewhere.
func TestCount_nothingChanges(t *testing.T) {
	ctx := testkit.Context(t)
	database, statements, n := countedServer(t, "nothing", func(c *live.Config) { c.Heartbeat = 200 * time.Millisecond })
	c := newClients(t, n.url)
	conn := testkit.Conn(t, database)
	_, err := conn.Exec(ctx, `create table elsewhere (id int); insert into messages (conversation, author, body) values ('7', 'sql', 'hi')`)
	require.NoError(t, err)
	first := c.mirror(t, "the first", "7")
	requireConverged(t, ctx, conn, []*mirror{first})
	// The first may have read the message before it was told of it: once the node
	// has that behind it, this is the last query.
	_, stamp, err := c.create(ctx, "8", "after it")
	require.NoError(t, err)
	_, err = c.list(ctx, "7", stamp.Revision)
	require.NoError(t, err)
	before := statements.selects(t, ctx)
	var mirrors []*mirror
	for i := range 100 {
		mirrors = append(mirrors, c.mirror(t, fmt.Sprint("mirror ", i), "7"))
		_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ('8', 'sql', 'hi')`)
		require.NoError(t, err)
		_, err = conn.Exec(ctx, `insert into elsewhere values (1)`)
		require.NoError(t, err)
	}
	requireConverged(t, ctx, conn, mirrors)
	l := c.listen(t, []string{topicOf("7")}, nil)
	l.await(t, ctx, "heartbeats", func() bool { return len(l.lags) >= 3 })
	for range 100 {
		_, err := c.list(ctx, "7", l.now().last)
		require.NoError(t, err)
	}
	require.Zero(t, statements.selects(t, ctx)-before)
}

// G7: a stream of writes to one topic, as fast as Postgres takes them, with 500
// clients that refetch by the client rule: a client refetches at the throttle's
// rate whatever is written, all of them together cost Postgres no more
// statements than one client alone would; and all end current.
func TestCount_aStreamOfWrites(t *testing.T) {
	ctx := testkit.Context(t)
	database, statements, n := countedServer(t, "stream", nil)
	c := newClients(t, n.url)
	conn := testkit.Conn(t, database)
	_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ('7', 'sql', '0')`)
	require.NoError(t, err)
	mirrors := make([]*mirror, 500/slowdown)
	for i := range mirrors {
		mirrors[i] = c.mirror(t, fmt.Sprint("mirror ", i), "7")
	}
	requireConverged(t, ctx, conn, mirrors)

	before, began := statements.selects(t, ctx), time.Now()
	c.asked.reset()
	w := write(t, ctx, database, func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		_, err := conn.Exec(ctx, `update messages set body = (body::int + 1)::text where conversation = '7'`)
		return time.Since(began) < 4*time.Second, err
	})
	w.end(t, ctx)
	requireConverged(t, ctx, conn, mirrors)
	seconds := time.Since(began).Seconds()
	queries := statements.selects(t, ctx) - before
	requests, different := c.asked.counts()
	t.Logf("in %.1f s %d writes (%.0f/s), %d refetches (%.1f/s and client), %d of them different: %d statements (%.0f/s)",
		seconds, w.written.Load(), float64(w.written.Load())/seconds,
		requests, float64(requests)/seconds/float64(len(mirrors)), different, queries, float64(queries)/seconds)
	const throttle = 10 // notices a second, and the one at the start
	require.LessOrEqual(t, requests, int(throttle*(seconds+1))*len(mirrors))
	// Of one distinct read; the pace lets ten run ahead at the start.
	require.LessOrEqual(t, queries, 10+int(throttle*(seconds+1)), "more statements than throttle rate × distinct reads")
}
