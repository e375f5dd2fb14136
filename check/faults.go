package check

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/internal/badnet"
)

// fault is one thing that goes wrong, and is right again when run, or each, returns.
// An error means that the run can't go on.
type fault struct {
	name  string
	does  string
	needs need
	most  time.Duration // how long it lasts
	run   func(ctx context.Context, r *run, length time.Duration, rng *rand.Rand) error
	// each is in the place of run where it happens to one node.
	each func(ctx context.Context, r *run, n *Node, length time.Duration) error
}

// faults are all there are. A name is what --faults takes.
var faults = []fault{
	{name: "kill-server", does: "a server's process is killed, and started again", needs: stage, most: time.Second,
		each: func(ctx context.Context, r *run, n *Node, length time.Duration) error {
			n.Kill()
			pass(ctx, length)
			return r.start(ctx, n)
		}},
	{name: "kill-all-servers", does: "all of them are killed at once, and started again", needs: several, most: time.Second,
		run: func(ctx context.Context, r *run, length time.Duration, _ *rand.Rand) error {
			for _, n := range r.cfg.Stage.Nodes {
				n.Kill()
			}
			pass(ctx, length)
			var all errgroup.Group
			for i := range r.cfg.Stage.Nodes {
				all.Go(func() error { return r.start(ctx, &r.cfg.Stage.Nodes[i]) })
			}
			return all.Wait()
		}},
	{name: "freeze-server", does: "a server's process does nothing at all, and goes on as if no time had passed", needs: stage, most: 8 * time.Second,
		each: func(ctx context.Context, _ *run, n *Node, length time.Duration) error {
			n.Freeze(true)
			pass(ctx, length)
			n.Freeze(false)
			return nil
		}},
	{name: "restart-postgres", does: "Postgres is stopped in order, and started again", needs: postgres,
		run: func(ctx context.Context, r *run, _ time.Duration, _ *rand.Rand) error {
			return r.endEpoch(ctx, r.cfg.Stage.RestartPostgres)
		}},
	{name: "crash-postgres", does: "every process of Postgres is killed; what committed asynchronously may be gone", needs: postgres,
		run: func(ctx context.Context, r *run, _ time.Duration, _ *rand.Rand) error {
			return r.endEpoch(ctx, r.cfg.Stage.CrashPostgres)
		}},
	{name: "cut-clients", does: "all connections to the server break",
		run: func(_ context.Context, r *run, _ time.Duration, _ *rand.Rand) error { r.front.Cut(); return nil }},
	{name: "refuse-clients", does: "all break, and new ones are refused", most: 2 * time.Second,
		run: onClients((*badnet.Proxy).Refuse)},
	{name: "stall-clients", does: "nothing passes between clients and server, and connections stay open", most: 4 * time.Second,
		run: onClients((*badnet.Proxy).Pause)},
	{name: "delay-clients", does: "whatever passes between clients and server takes 50 ms", most: 3 * time.Second,
		run: onClients(func(p *badnet.Proxy) { slow(p) })},
	{name: "cut-node", does: "the connections between the balancer and a server break", needs: fronts,
		each: func(_ context.Context, _ *run, n *Node, _ time.Duration) error { n.Front.Cut(); return nil }},
	{name: "stall-node", does: "nothing passes between the balancer and a server", needs: fronts, most: 6 * time.Second,
		each: onNode(Connections.Pause, (*Node).front)},
	{name: "cut-pool", does: "a server's connections for queries break", needs: proxies,
		each: func(_ context.Context, _ *run, n *Node, _ time.Duration) error { n.Pool.Cut(); return nil }},
	{name: "cut-feed", does: "the feed's connections break", needs: proxies,
		each: func(_ context.Context, _ *run, n *Node, _ time.Duration) error { n.Feed.Cut(); return nil }},
	{name: "stall-feed", does: "nothing passes between the feed and Postgres", needs: proxies, most: 6 * time.Second,
		each: onNode(Connections.Pause, (*Node).feed)},
	{name: "partition-server", does: "nothing passes between a server and Postgres", needs: proxies, most: 8 * time.Second,
		each: onNode(Connections.Pause, (*Node).pool, (*Node).feed)},
	{name: "delay-database", does: "whatever passes between a server and Postgres takes 50 ms", needs: proxies, most: 3 * time.Second,
		each: onNode(slow, (*Node).pool, (*Node).feed)},
	{name: "stop-reading", does: "every tenth client stops reading its stream", most: 4 * time.Second,
		run: func(ctx context.Context, r *run, length time.Duration, rng *rand.Rand) error {
			return r.tenth(ctx, length, rng, func(s *subject, until chan struct{}) { s.deaf.Store(&until) })
		}},
	{name: "freeze-clients", does: "every tenth client does nothing at all", most: 4 * time.Second,
		run: func(ctx context.Context, r *run, length time.Duration, rng *rand.Rand) error {
			return r.tenth(ctx, length, rng, func(s *subject, until chan struct{}) { s.frozen.Store(&until) })
		}},
	{name: "hold-commits", does: "commits are flushed and stay invisible, waiting for a synchronous standby", needs: commits, most: 3 * time.Second,
		run: func(ctx context.Context, r *run, length time.Duration, _ *rand.Rand) error {
			err := r.cfg.Stage.HoldCommits(ctx, true)
			pass(ctx, length)
			return errors.Join(err, r.cfg.Stage.HoldCommits(context.WithoutCancel(ctx), false))
		}},
	{name: "long-transaction", does: "a transaction writes early and ends late", needs: database, most: 4 * time.Second,
		run: func(ctx context.Context, r *run, length time.Duration, rng *rand.Rand) error {
			r.long.bySQL(ctx, r.longSession, r.readers[byPost], Manner{After: length, Rollback: rng.IntN(4) == 0})
			return nil
		}},
	{name: "lose-slot", does: "the server's replication slot is dropped under it, and its copies with it", needs: slots,
		run: func(ctx context.Context, r *run, _ time.Duration, _ *rand.Rand) error {
			return r.cfg.Stage.DropSlot(ctx)
		}},
	{name: "pause-replay", does: "the standby receives what is committed and doesn't replay it", needs: standby, most: 5 * time.Second,
		run: func(ctx context.Context, r *run, length time.Duration, _ *rand.Rand) error {
			err := r.cfg.Stage.Standby.Pause(ctx, true)
			pass(ctx, length)
			return errors.Join(err, r.cfg.Stage.Standby.Pause(context.WithoutCancel(ctx), false))
		}},
	{name: "cancel-replica", does: "the standby's replay cancels what reads there, again and again", needs: standby, most: 2 * time.Second,
		run: func(ctx context.Context, r *run, length time.Duration, _ *rand.Rand) error {
			return r.cfg.Stage.Standby.Conflict(ctx, length)
		}},
	{name: "kill-standby", does: "every process of the standby is killed, and it is started again", needs: standby, most: time.Second,
		run: func(ctx context.Context, r *run, length time.Duration, _ *rand.Rand) error {
			r.cfg.Stage.Standby.Kill()
			pass(ctx, length)
			return r.cfg.Stage.Standby.Start(ctx)
		}},
	{name: "stall-replica", does: "nothing passes between a server and the standby", needs: replicas, most: 6 * time.Second,
		each: onNode(Connections.Pause, (*Node).replica)},
	{name: "kill-nats", does: "a server of NATS is killed, and started again", needs: nats, most: 2 * time.Second,
		run: func(ctx context.Context, r *run, length time.Duration, rng *rand.Rand) error {
			server := r.cfg.Stage.NATS[rng.IntN(len(r.cfg.Stage.NATS))]
			server.Kill()
			pass(ctx, length)
			return server.Start(ctx)
		}},
	{name: "kill-all-nats", does: "all of them are killed, and started again", needs: nats, most: 8 * time.Second,
		run: func(ctx context.Context, r *run, length time.Duration, _ *rand.Rand) error {
			for _, server := range r.cfg.Stage.NATS {
				server.Kill()
			}
			pass(ctx, length)
			var all errgroup.Group
			for _, server := range r.cfg.Stage.NATS {
				all.Go(func() error { return server.Start(ctx) })
			}
			return all.Wait()
		}},
	{name: "freeze-nats", does: "a server of NATS does nothing at all, and goes on as if no time had passed", needs: nats, most: 8 * time.Second,
		run: func(ctx context.Context, r *run, length time.Duration, rng *rand.Rand) error {
			server := r.cfg.Stage.NATS[rng.IntN(len(r.cfg.Stage.NATS))]
			server.Freeze(true)
			pass(ctx, length)
			server.Freeze(false)
			return nil
		}},
}

func (n *Node) front() Connections   { return n.Front }
func (n *Node) pool() Connections    { return n.Pool }
func (n *Node) feed() Connections    { return n.Feed }
func (n *Node) replica() Connections { return n.Replica }

func slow(c Connections) { c.Delay(50 * time.Millisecond) }

// start starts a node again. Where there is no balancer, clients come to where it is
// now.
func (r *run) start(ctx context.Context, n *Node) error {
	url, err := n.Start(ctx)
	if err == nil && n.Front == nil {
		err = r.point(url)
	}
	return err
}

// endEpoch has Postgres start anew. Whatever anybody was told before is of an epoch that
// has ended then: what is written afterwards is of a later one, whether or not anybody
// has been told of it.
func (r *run) endEpoch(ctx context.Context, restart func(context.Context) error) error {
	ended, _ := r.rec.epoch()
	if err := restart(ctx); err != nil {
		return err
	}
	r.rec.end(ended)
	return nil
}

// onClients does something to the way between clients and server, and mends it after
// a while.
func onClients(do func(*badnet.Proxy)) func(context.Context, *run, time.Duration, *rand.Rand) error {
	return func(ctx context.Context, r *run, length time.Duration, _ *rand.Rand) error {
		do(r.front)
		pass(ctx, length)
		r.front.Resume()
		return nil
	}
}

// onNode does something to what is around a node, and mends it after a while.
func onNode(do func(Connections), to ...func(*Node) Connections) func(context.Context, *run, *Node, time.Duration) error {
	return func(ctx context.Context, _ *run, n *Node, length time.Duration) error {
		for _, proxy := range to {
			do(proxy(n))
		}
		pass(ctx, length)
		for _, proxy := range to {
			proxy(n).Resume()
		}
		return nil
	}
}

// tenth does something to every tenth client, until the channel is closed.
func (r *run) tenth(ctx context.Context, length time.Duration, rng *rand.Rand, do func(*subject, chan struct{})) error {
	until := make(chan struct{})
	defer close(until)
	for _, n := range rng.Perm(len(r.subjects))[:(len(r.subjects)+9)/10] {
		do(r.subjects[n], until)
	}
	pass(ctx, length)
	return nil
}

// pass lets time pass; less if ctx ends.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
