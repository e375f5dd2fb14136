package systemtest_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// writer writes by SQL until stop, and counts.
type writer struct {
	written atomic.Int64
	changed chan struct{} // capacity 1
	ended   chan struct{} // closed when there is no more
	stop    func() error
}

// write runs one at a time of next until it says that there is no more.
func write(t testing.TB, ctx context.Context, url string, next func(ctx context.Context, conn *pgx.Conn) (more bool, err error)) *writer {
	t.Helper()
	conn := testkit.Conn(t, url)
	ctx, cancel := context.WithCancel(ctx)
	w := &writer{changed: make(chan struct{}, 1), ended: make(chan struct{})}
	quit := make(chan struct{})
	var result error
	go func() {
		defer close(w.ended)
		for {
			select {
			case <-quit:
				return
			default:
			}
			more, err := next(ctx, conn)
			if err != nil || !more {
				result = err
				return
			}
			w.written.Add(1)
			select {
			case w.changed <- struct{}{}:
			default:
			}
		}
	}()
	var once sync.Once
	w.stop = func() error {
		once.Do(func() { close(quit) })
		<-w.ended
		return result
	}
	t.Cleanup(func() {
		cancel()
		_ = w.stop()
	})
	return w
}

// more waits until so many more have been written, or there is no more: where a program
// takes long to start, all may be written meanwhile.
func (w *writer) more(t testing.TB, ctx context.Context, n int64) {
	t.Helper()
	for goal := w.written.Load() + n; w.written.Load() < goal; {
		select {
		case <-w.changed:
		case <-w.ended:
			require.NoError(t, w.stop())
			return
		case <-ctx.Done():
			require.FailNow(t, "the writer is stuck", "%v", w.stop())
		}
	}
}

// end waits until there is no more to write.
func (w *writer) end(t testing.TB, ctx context.Context) {
	t.Helper()
	select {
	case <-w.ended:
	case <-ctx.Done():
	}
	require.NoError(t, ctx.Err(), "the writer is stuck")
	require.NoError(t, w.stop())
}

// F7, G2, G3: the program is killed with SIGKILL, at moments when it has told
// what it has not confirmed and the other way round, while writers write and
// clients follow. Nothing is lost: every topic that was written is told, without
// a reset, nothing is told that was not written, and every client ends equal to
// Postgres.
func TestRestart_F7_killedWhileWriting(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	database := testkit.Migrated(t)
	server := serveChild(t, program(t), database, "f7")
	settled(t, server)
	c := newClients(t, server.url)
	conn := testkit.Conn(t, database)

	// Each row's topic is known beforehand, and each second row is never written.
	const writes, conversations = 1600, 4
	type row struct{ id, conversation string }
	var written []row
	var listeners []*listener
	var topics []string
	for i := range 2 * writes {
		r := row{uuid.NewString(), fmt.Sprint("c", i%conversations)}
		if i/conversations%2 == 0 {
			written = append(written, r)
		}
		if topics = append(topics, topicOf(r.conversation)+"/"+r.id); len(topics) == 800 {
			listeners = append(listeners, c.listen(t, topics, nil))
			topics = nil
		}
	}
	var mirrors []*mirror
	for i := range conversations {
		mirrors = append(mirrors, c.mirror(t, fmt.Sprint("mirror ", i), fmt.Sprint("c", i)))
	}
	for _, l := range listeners {
		l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
	}
	next := 0
	w := write(t, ctx, database, func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		if next == len(written) {
			return false, nil
		}
		r := written[next]
		next++
		_, err := conn.Exec(ctx, `insert into messages (id, conversation, author, body) values ($1, $2, 'sql', 'hi')`, r.id, r.conversation)
		// A bounded rate, so that writes fall on both sides of each kill.
		_, sleepErr := conn.Exec(ctx, `select pg_sleep(0.005)`)
		if err == nil {
			err = sleepErr
		}
		return true, err
	})
	for range 3 {
		w.more(t, ctx, 250)
		server.kill()
		w.more(t, ctx, 100)
		server.start(t)
	}
	w.end(t, ctx)

	want := map[string]bool{}
	for _, r := range written {
		want[topicOf(r.conversation)+"/"+r.id] = true
	}
	told := 0
	for _, l := range listeners {
		mine := 400
		// The last of them may come in a catch-up, before that stream's ready.
		l.await(t, ctx, "every topic that was written, and that it reconnected", func() bool { return len(l.told) >= mine && len(l.ready) > 1 })
		heard := l.now()
		require.Empty(t, heard.resets, "the history went on")
		for topic := range heard.told {
			require.True(t, want[topic], "%s was told and not written", topic)
			told++
		}
	}
	require.Equal(t, writes, told)
	requireConverged(t, ctx, conn, mirrors)
}

// F14, F13, G7: the server restarts with 1,000 clients connected, while 10 of
// 100 conversations change. Each client comes back with its last id; no
// revision is used twice; those whose conversation changed are told, at once,
// the others nothing; no one is reset; and the refetches of all take one
// statement for each conversation and revision.
func TestRestart_F14_aThousandClients(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	postgres := testkit.NewServer(t, map[string]string{"shared_preload_libraries": "pg_stat_statements"})
	database := postgres.Migrated(t)
	statements := countStatements(t, database)
	addr := live.FreeAddr(t)
	first := serve(t, database, "f14", at(addr))
	c := newClients(t, first.url)
	conn := testkit.Conn(t, database)

	var mu sync.Mutex
	asked := map[string]bool{} // conversation and revision
	var failed error
	var fetches sync.WaitGroup
	t.Cleanup(fetches.Wait)
	conversation := func(i int) string { return fmt.Sprint("c", i%100) }
	listeners := make([]*listener, 1000)
	for i := range listeners {
		listeners[i] = c.listen(t, []string{topicOf(conversation(i))}, func(ctx context.Context, e client.Invalidate) {
			fetches.Go(func() {
				_, err := c.list(ctx, conversation(i), e.Revision)
				mu.Lock()
				defer mu.Unlock()
				asked[conversation(i)+" "+e.Revision.String()] = true
				if err != nil {
					failed = err
				}
			})
		})
	}
	for _, l := range listeners {
		l.await(t, ctx, "ready", func() bool { return len(l.ready) == 1 })
	}
	insert := func(i int) {
		_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ($1, 'sql', 'hi')`, conversation(i))
		require.NoError(t, err)
	}
	for i := range 100 {
		insert(i)
	}
	for _, l := range listeners {
		l.await(t, ctx, "the write before", func() bool { return l.notices > 0 })
	}
	fetches.Wait()
	require.NoError(t, failed)
	before := statements.selects(t, ctx)
	require.LessOrEqual(t, before, len(asked))
	clear(asked)
	before = statements.selects(t, ctx)
	var highest freshet.Revision
	notices := make([]int, len(listeners))
	for i, l := range listeners {
		heard := l.now()
		highest, notices[i] = highest.Max(heard.last), heard.notices
	}

	first.stop()
	for i := range 10 {
		insert(i)
	}
	began := time.Now()
	serve(t, database, "f14", at(addr))
	for _, l := range listeners {
		l.await(t, ctx, "ready again", func() bool { return len(l.ready) == 2 })
	}
	t.Logf("1,000 clients were back %v after the start", time.Since(began).Round(time.Millisecond))
	fetches.Wait()
	require.NoError(t, failed)
	for i, l := range listeners {
		heard, changed := l.now(), i%100 < 10
		require.Empty(t, heard.resets)
		require.Equal(t, changed, heard.notices > notices[i], "client %d of %s was told %d times", i, conversation(i), heard.notices-notices[i])
		if changed {
			require.True(t, highest.Less(heard.told[topicOf(conversation(i))]), "a revision was used again")
		}
	}
	queries := statements.selects(t, ctx) - before
	t.Logf("%d statements for %d different requests", queries, len(asked))
	require.LessOrEqual(t, queries, len(asked))
	require.Len(t, asked, 10)
}
