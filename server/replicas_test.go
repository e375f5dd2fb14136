package server_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/store"
)

var replicaReads = flag.Int64("replica.reads", 1500, "reads by RPC while the replica's replay is paused and resumed at random")

// A node with a replica whose replay is paused and resumed at random: no answer holds
// less than was asked for, nor less than its stamp says, whether it is a query's own,
// shared or kept.
func TestReplicas(t *testing.T) {
	t.Parallel()
	own := testkit.NewServer(t, map[string]string{"fsync": "off", "wal_keep_size": "256MB"})
	database := own.Migrated(t)
	standby := own.Standby(t)
	r := start(t, database, func(c *live.Config) {
		c.ReplicaURLs = []string{standby.URL(t, database)}
		c.ReplicaWait = 20 * time.Millisecond
		c.ReadInterval = -1
		c.AuditReads = intercept.AuditSample
	})
	ctx := r.ctx
	if *replicaReads > 10_000 { // as long as it takes
		ctx = t.Context()
	}
	writer, there := testkit.Conn(t, database), testkit.Conn(t, standby.URL(t, database))
	name := insert(t, r.ctx, writer, "7")
	history := new(testkit.Commits) // of a message whose body counts them
	write := func() {
		var position int64
		_, err := writer.Exec(context.WithoutCancel(ctx), `update messages set body = $1`, strconv.Itoa(history.Len()+1))
		if err == nil {
			err = writer.QueryRow(context.WithoutCancel(ctx), `select (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&position)
		}
		if err != nil {
			t.Errorf("write: %v", err)
			return
		}
		history.Add(uint64(position)) //nolint:gosec // a position
	}
	write()
	list, err := r.client().GetMessage(r.ctx, request(&messagesv1.GetMessageRequest{Name: name}, freshet.Revision{}))
	require.NoError(t, err)
	epoch := stamp(t, list.Header()).Epoch
	replica := func() store.ReplicaStats { return r.node.DB().Replicas()[0] }
	require.Zero(t, replica().Reads, "a strong read is the primary's")
	require.Eventually(t, func() bool { return replica().Err == nil }, 20*time.Second, 5*time.Millisecond)

	ctx, cancel := context.WithCancel(ctx)
	var around, readers sync.WaitGroup
	around.Go(func() {
		pause := func(ctx context.Context, d time.Duration) {
			select {
			case <-ctx.Done():
			case <-time.After(d):
			}
		}
		for ctx.Err() == nil {
			for _, sql := range []string{`select pg_wal_replay_pause()`, `select pg_wal_replay_resume()`} {
				if _, err := there.Exec(context.WithoutCancel(ctx), sql); err != nil {
					t.Errorf("%s: %v", sql, err)
				}
				pause(ctx, rand.N(300*time.Millisecond))
			}
		}
	})
	around.Go(func() {
		for ctx.Err() == nil && !t.Failed() {
			write()
			select {
			case <-ctx.Done():
			case <-time.After(rand.N(10 * time.Millisecond)):
			}
		}
	})
	var reads atomic.Int64
	// A quick machine answers so many from a few queries, before replay goes on.
	both := func() bool { return replica().Reads > 0 && r.node.DB().Fallbacks(store.ReplicaBehind) > 0 }
	for range 8 {
		c := r.client()
		readers.Go(func() {
			for (reads.Add(1) <= *replicaReads || !both()) && !t.Failed() {
				asked := history.Recent(30)
				got, err := c.GetMessage(ctx, request(&messagesv1.GetMessageRequest{Name: name}, freshet.Revision{Epoch: epoch, Position: asked}))
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				is, _ := strconv.Atoi(got.Msg.GetMessage().GetBody())
				rev, _ := freshet.ParseRevision(got.Header().Get(intercept.HeaderRevision))
				if want := history.At(asked); is < want {
					t.Errorf("a read at-least commit %d has got %d, from %s", want, is, got.Header().Get(intercept.HeaderCache))
				}
				if want := history.At(rev.Position); is < want || rev.Epoch != epoch || rev.Position < asked {
					t.Errorf("an answer stamped %s, which is at least commit %d, holds %d; asked for was %d", rev, want, is, asked)
				}
			}
		})
	}
	readers.Wait()
	cancel()
	around.Wait()
	s := replica()
	t.Logf("%d reads; %d queries ran on the replica, %d on the primary since it was behind", *replicaReads, s.Reads, r.node.DB().Fallbacks(store.ReplicaBehind))
	require.NotZero(t, s.Reads)
	require.NotZero(t, r.node.DB().Fallbacks(store.ReplicaBehind))
}
