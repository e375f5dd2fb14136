package systemtest_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// errEnough ends a stream from within.
var errEnough = errors.New("enough")

// TestJoin_F15_F16_writesAroundReady: a write races with a subscription, 5,000 times, or comes
// right after `ready`, 5,000 times; by SQL, in a real Postgres. Either `ready`
// already covers it, so that the fetch which follows finds it, or it is told
// (G2). None is missed.
func TestJoin_F15_F16_writesAroundReady(t *testing.T) {
	ctx := testkit.Context(t)
	database := testkit.Migrated(t)
	c := newClients(t, serve(t, database, "join", nil).url)
	const workers = 4
	repeats := 10_000 / slowdown / workers
	var told, covered atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for worker := range workers {
		conn, reader := testkit.Conn(t, database), testkit.Conn(t, database)
		conversation := string(rune('a' + worker))
		group.Go(func() error {
			write := func(ctx context.Context) error {
				_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ($1, 'sql', 'hi')`, conversation)
				return err
			}
			for i := range repeats {
				// A notice at or below it is of an earlier write: one that was found
				// after ready was perhaps not told by then.
				var before uint64
				if err := conn.QueryRow(ctx, `select (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&before); err != nil {
					return err
				}
				wrote := make(chan error, 1)
				writing := i%2 == 0 // while it subscribes, or else when it is ready
				if writing {
					go func() { wrote <- write(ctx) }()
				}
				patient, cancel := context.WithTimeout(ctx, 20*time.Second)
				err := c.freshet.Stream(patient, []string{topicOf(conversation)}, func(e client.Event) error {
					switch e := e.(type) {
					case client.Ready:
						if !writing {
							writing = true
							wrote <- write(patient)
							return nil
						}
						// What the client's fetch after ready finds.
						var n int
						if err := reader.QueryRow(patient, `select count(*) from messages where conversation = $1`, conversation).Scan(&n); err != nil {
							return err
						}
						if n == i+1 {
							covered.Add(1)
							return errEnough
						}
					case client.Invalidate:
						if e.Revision.Position > before {
							told.Add(1)
							return errEnough
						}
					}
					return nil
				}, client.WithThrottle(0))
				cancel()
				if !errors.Is(err, errEnough) {
					return err
				}
				if err := <-wrote; err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	t.Logf("%d writes were told; %d raced with a subscription and were there when it was ready", told.Load(), covered.Load())
	require.EqualValues(t, workers*repeats, told.Load()+covered.Load())
}

// TestJoin_F12_tenThousandWritesAreFewEvents: 10,000 writes to one topic as fast as Postgres takes them. Each
// client gets a bounded number of events, and always the last revision.
func TestJoin_F12_tenThousandWritesAreFewEvents(t *testing.T) {
	ctx := testkit.Context(t)
	database := testkit.Migrated(t)
	c := newClients(t, serve(t, database, "many", nil).url)
	listeners := make([]*listener, 20)
	for i := range listeners {
		listeners[i] = c.listen(t, []string{topicOf("7")}, nil)
		listeners[i].await(t, ctx, "ready", func() bool { return len(listeners[i].ready) > 0 })
	}
	began := time.Now()
	group, writing := errgroup.WithContext(ctx)
	for range 4 {
		conn := testkit.Conn(t, testkit.WithParam(t, database, "synchronous_commit", "off"))
		group.Go(func() error {
			for range 10_000 / slowdown / 4 {
				if _, err := conn.Exec(writing, `insert into messages (conversation, author, body) values ('7', 'sql', 'hi')`); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	_, stamp, err := c.create(ctx, "7", "the last")
	require.NoError(t, err)
	for _, l := range listeners {
		l.await(t, ctx, "the last revision", func() bool { return !l.told[topicOf("7")].Less(stamp.Revision) })
		most := int(time.Since(began)/(100*time.Millisecond)) + 3
		require.LessOrEqual(t, l.now().notices, most)
	}
	t.Logf("%d writes in %v were %d notices to the first client", 10_000/slowdown, time.Since(began).Round(time.Millisecond), listeners[0].now().notices)
}
