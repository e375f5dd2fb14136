package systemtest_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// written is a write that was acknowledged.
type written struct {
	name  string
	stamp client.Stamp
}

// readBack reads what was written at-least its stamp.
func (w written) readBack(t testing.TB, ctx context.Context, at *clients, conversation string) {
	t.Helper()
	found, err := at.holds(ctx, conversation, w.name, w.stamp)
	require.NoError(t, err, "%s, stamped %s", w.name, w.stamp.Revision)
	require.True(t, found, "%s, stamped %s", w.name, w.stamp.Revision)
}

// F42, G5, G6: Postgres is shut down and started again in order, which keeps the row
// that names the epoch, and nodes start after it. What they are first asked is to
// write, before anybody reads. Each write is stamped with the epoch that is served,
// so whoever reads at-least that, at any node, finds it.
func TestCleanRestart_F42_onlyWrites(t *testing.T) {
	t.Parallel()
	binary, ctx := program(t), testkit.Context(t)
	postgres := testkit.NewServer(t, nil)
	database := postgres.Migrated(t)
	nodes := startNodes(t, binary, database, 2)
	last := freshet.Epoch(0)
	for round := range 3 {
		if round > 0 {
			for _, n := range nodes {
				n.kill()
			}
			postgres.Restart(t)
			nodes = startNodes(t, binary, database, 2)
		}
		var all []*clients
		for _, n := range nodes {
			all = append(all, newClients(t, n.url))
		}
		conversation := fmt.Sprint("c", round)
		var writes []written
		for i := range 4 {
			name, stamp, err := all[i%2].create(ctx, conversation, "hi")
			require.NoError(t, err)
			require.Greater(t, stamp.Revision.Epoch, last, "of the epoch that ended before write %d of round %d", i, round)
			writes = append(writes, written{name, stamp})
		}
		for i, w := range writes {
			require.Equal(t, writes[0].stamp.Revision.Epoch, w.stamp.Revision.Epoch)
			w.readBack(t, ctx, all[(i+1)%2], conversation)
		}
		last = writes[0].stamp.Revision.Epoch
	}
}

// F42, G5, G6: the nodes run through such a restart, and so do writers, who do nothing
// but write, all the time. What is acknowledged after it is stamped with the next
// epoch, which is one, and is read back at the other node.
func TestCleanRestart_F42_nodesRunThrough(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	postgres := testkit.NewServer(t, nil)
	database := postgres.Migrated(t)
	nodes := startNodes(t, program(t), database, 2)
	const conversation = "7"
	var restarted atomic.Bool
	enough, stop := make(chan struct{}, 2*4), make(chan struct{})
	writers, working := errgroup.WithContext(ctx)
	after := make([][]written, cap(enough)) // by writer
	for i := range after {
		at := newClients(t, nodes[i%2].url)
		writers.Go(func() error {
			for {
				select {
				case <-stop:
					return nil
				case <-working.Done():
					return working.Err()
				default:
				}
				late := restarted.Load()
				calling, cancel := context.WithTimeout(ctx, 5*time.Second)
				name, stamp, err := at.create(calling, conversation, "hi")
				cancel()
				switch {
				case err != nil: // nobody may know what became of it
					wait(ctx, 5*time.Millisecond)
				case !late: // what was under way may have lost its stamp with its connection
				case stamp.Revision.IsZero():
					return errors.New("acknowledged without a stamp")
				default:
					after[i] = append(after[i], written{name, stamp})
					if len(after[i]) == 20 {
						enough <- struct{}{}
					}
				}
			}
		})
	}
	_, stamp, err := newClients(t, nodes[0].url).create(ctx, conversation, "hi")
	require.NoError(t, err)
	before := stamp.Revision.Epoch
	postgres.Restart(t)
	restarted.Store(true)
	for range after {
		select {
		case <-enough:
		case <-working.Done():
			require.FailNow(t, "the writers are stuck", "%v", writers.Wait())
		}
	}
	close(stop)
	require.NoError(t, writers.Wait())

	next := after[0][len(after[0])-1].stamp.Revision.Epoch
	require.Greater(t, next, before)
	for i, mine := range after {
		other := newClients(t, nodes[(i+1)%2].url)
		for k, w := range mine {
			require.Equal(t, next, w.stamp.Revision.Epoch, "write %d of writer %d after the restart", k, i)
			if k%10 == 0 {
				w.readBack(t, ctx, other, conversation)
			}
		}
	}
}
