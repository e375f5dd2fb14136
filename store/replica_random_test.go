package store_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

var replicaReads = flag.Int64("replica.reads", 4000, "reads while the replica's replay is paused and resumed at random")

// pauses stops replay and lets it go on at random, until ctx ends.
func (r *replicated) pauses(ctx context.Context, t *testing.T) {
	t.Helper()
	defer exec(t, r.there, `select pg_wal_replay_resume()`)
	for ctx.Err() == nil {
		exec(t, r.there, `select pg_wal_replay_pause()`)
		wait(ctx, rand.N(300*time.Millisecond))
		exec(t, r.there, `select pg_wal_replay_resume()`)
		wait(ctx, rand.N(700*time.Millisecond))
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// No read sees less than it asks for, nor less than it says that it has seen, however
// replay goes. (`make replicas` makes a million.)
func TestReplica_pausedAtRandom(t *testing.T) {
	t.Parallel()
	r := newReplicated(t, 0)
	d := r.open(t, store.Config{MaxConns: 8, ReplicaConns: 8, ReplicaWait: 20 * time.Millisecond})
	history := new(testkit.Commits)
	history.Add(r.write(t).Position)
	serves(t, d, r.now(t))

	ctx, cancel := context.WithCancel(testkit.Context(t))
	if *replicaReads > 10_000 { // as long as it takes
		ctx, cancel = context.WithCancel(t.Context())
	}
	var around, readers sync.WaitGroup
	around.Go(func() { r.pauses(ctx, t) })
	around.Go(func() {
		for ctx.Err() == nil {
			if _, err := r.on.Exec(context.WithoutCancel(ctx), `update things set n = n + 1`); err != nil {
				t.Errorf("write: %v", err)
				return
			}
			var position int64
			if err := r.on.QueryRow(context.WithoutCancel(ctx), `select (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&position); err != nil {
				t.Errorf("position: %v", err)
				return
			}
			history.Add(uint64(position))
			wait(ctx, time.Millisecond)
		}
	})
	var reads, onReplica atomic.Int64
	for range 8 {
		readers.Go(func() {
			for reads.Add(1) <= *replicaReads && !t.Failed() {
				asked := history.Recent(1)
				if rand.IntN(3) == 0 {
					asked = history.Recent(500)
				}
				c := came{call: &store.Call{Epoch: epoch, AtLeast: freshet.Revision{Epoch: epoch, Position: asked}}}
				if err := d.Read(store.WithCall(ctx, c.call), c.look); err != nil {
					t.Errorf("read: %v", err)
					return
				}
				reached := c.call.Reached()
				if want := int64(history.At(asked)); c.n < want {
					t.Errorf("a read at-least commit %d has seen %d (on the replica: %v)", want, c.n, c.replica)
				}
				if !c.replica {
					continue
				}
				onReplica.Add(1)
				if want := int64(history.At(reached.Position)); c.n < want {
					t.Errorf("a read that says it has seen commit %d has seen %d", want, c.n)
				}
				if reached.Position < asked {
					t.Errorf("at least %d was asked for, and %d was reached", asked, reached.Position)
				}
			}
		})
	}
	readers.Wait()
	cancel()
	around.Wait()
	t.Logf("%d reads, %d of them on the replica, %d commits; to the primary since it was behind: %d", *replicaReads, onReplica.Load(), history.Len(), d.Fallbacks(store.ReplicaBehind))
	require.Greater(t, onReplica.Load(), *replicaReads/20)
	require.NotZero(t, d.Fallbacks(store.ReplicaBehind))
}
