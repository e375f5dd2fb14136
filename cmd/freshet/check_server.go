package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/internal/badnet"
	"github.com/freshet-dev/freshet/internal/scratch"
	"github.com/freshet-dev/freshet/store/pgembed"
)

// checkedServer is what `freshet check --serve` and `--cluster` may do anything to:
// nodes of this program, on a private Postgres that is removed afterwards. Between
// the two, and between each node, the standby and the balancer, are proxies.
type checkedServer struct {
	dir      *scratch.Dir
	postgres *pgembed.Server
	nodes    []*ownNode
	log      io.Writer // of all of them
	ended    func(error)

	// With several nodes only.
	standby  *pgembed.Server
	replica  replicaReads
	balancer *balancer
	nats     []*natsServer // none: each node captures
}

const checkedSlot = "freshet"

// startChecked starts Postgres and so many nodes, and returns the URL that leads to
// them: with several nodes a balancer's, and Postgres has a standby. What all log
// goes to log, from several goroutines. ended is told when one of them ends though nobody
// killed it.
func startChecked(ctx context.Context, binaries string, nodes int, log io.Writer, ended func(error), nats bool) (_ *checkedServer, url string, err error) {
	o := &checkedServer{log: log, ended: ended}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	if o.dir, err = scratch.New("freshet-check-", leftOver); err != nil {
		return nil, "", err
	}
	o.postgres, err = pgembed.Start(ctx, o.database("primary", binaries))
	if err != nil {
		return nil, "", err
	}
	if nodes > 1 {
		if err := o.startStandby(ctx, binaries); err != nil {
			return nil, "", err
		}
	}
	if nats {
		if err := o.startNATS(ctx); err != nil {
			return nil, "", err
		}
	}
	for i := range nodes {
		if err := o.addNode(i, nodes > 1); err != nil {
			return nil, "", err
		}
	}
	if nodes == 1 {
		url, err = o.nodes[0].start(ctx)
		return o, url, err
	}
	url, err = o.balance(ctx)
	return o, url, err
}

// startNATS starts the servers by which one node tells the others what changes.
func (o *checkedServer) startNATS(ctx context.Context) (err error) {
	if o.nats, err = newNATS(o.log); err != nil {
		return err
	}
	for _, s := range o.nats {
		s.died = func(p *process) { o.ended(fmt.Errorf("a server of NATS %w", p.how())) }
		if err := s.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startStandby starts the one that the nodes read from.
func (o *checkedServer) startStandby(ctx context.Context, binaries string) (err error) {
	config := o.database("standby", binaries)
	config.Settings["max_standby_streaming_delay"] = "0" // queries are cancelled rather than waited for
	config.Settings["wal_retrieve_retry_interval"] = "200ms"
	o.standby, err = pgembed.StartStandby(ctx, config, o.postgres)
	return err
}

func (o *checkedServer) database(name, binaries string) pgembed.Config {
	return pgembed.Config{
		DataDir: filepath.Join(o.dir.Path, name), RootDir: filepath.Join(o.dir.Path, name+"-root"), Binaries: binaries,
		Logger: slog.New(slog.NewTextHandler(o.log, nil)),
		Settings: map[string]string{
			"fsync":         "off", // what a crash of the machine would lose is not what is checked
			"wal_keep_size": standbyKeeps,
		},
	}
}

// standbyKeeps is how much WAL a primary keeps for a standby that is away.
const standbyKeeps = "512MB"

// addNode prepares a node and what is around it.
func (o *checkedServer) addNode(i int, several bool) (err error) {
	n := &ownNode{log: o.log}
	o.nodes = append(o.nodes, n)
	who := "the server"
	if several {
		n.name, who = fmt.Sprintf("node %d: ", i+1), fmt.Sprintf("node %d", i+1)
		if n.front, err = badnet.New("127.0.0.1:1"); err != nil { // until the node has an address
			return err
		}
	}
	n.died = func(p *process) { o.ended(fmt.Errorf("%s %w", who, p.how())) }
	var pool, feed string
	// The server's commits are asynchronous, so that a crash takes some back.
	if n.pool, pool, err = badnet.NewDatabase(o.postgres.URL("") + "&synchronous_commit=off"); err != nil {
		return err
	}
	if n.feed, feed, err = badnet.NewDatabase(o.postgres.URL("")); err != nil {
		return err
	}
	n.args = []string{
		"serve", "--database-url", pool, "--capture-url", feed, "--slot", checkedSlot, "--addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0",
		"--heartbeat=1s", "--max-lag=2s",
		// All clients are one address.
		"--max-streams-per-address=0", "--max-connections-per-address=0",
	}
	if several {
		var replica string
		if n.replica, replica, err = badnet.NewDatabase(o.standby.URL("")); err != nil {
			return err
		}
		n.args = append(n.args, "--shed-streams", "--replica-url", replica)
	}
	n.args = append(n.args, natsFlagsOf(o.nats)...)
	return nil
}

// balance starts all nodes at once, and a balancer before them.
func (o *checkedServer) balance(ctx context.Context) (url string, err error) {
	var addrs []string
	var starting errgroup.Group
	for _, n := range o.nodes {
		addrs = append(addrs, n.front.Addr())
		starting.Go(func() error {
			_, err := n.start(ctx)
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		return "", err
	}
	if o.balancer, err = newBalancer(ctx, o.dir.Path, "127.0.0.1:0", addrs, nil, o.log); err != nil {
		return "", err
	}
	o.balancer.died = func(p *process) { o.ended(fmt.Errorf("the balancer %w", p.how())) }
	if err := o.balancer.start(); err != nil {
		return "", err
	}
	return "http://" + o.balancer.addr(), o.balancer.await(ctx)
}

// stage is what the checker may do.
func (o *checkedServer) stage(database *check.Postgres) *check.Stage {
	patient := func(do func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
			defer cancel()
			return do(ctx)
		}
	}
	stage := &check.Stage{
		RestartPostgres: patient(o.postgres.Restart),
		CrashPostgres: patient(func(ctx context.Context) error {
			o.postgres.Kill()
			return o.postgres.Restart(ctx)
		}),
		HoldCommits: database.HoldCommits,
		DropSlot:    func(ctx context.Context) error { return database.DropSlot(ctx, checkedSlot) },
		Look:        5 * time.Second, // wal.Config's default
	}
	for _, n := range o.nodes {
		node := check.Node{
			Start: n.start,
			Kill: func() {
				_ = o.replica.ask(context.Background(), n) // else what it has counted goes with it
				n.kill()
			},
			Freeze: freezing(n.signal),
			Pool:   n.pool, Feed: n.feed,
		}
		if o.standby != nil {
			node.Front, node.Replica = n.front, n.replica
		}
		stage.Nodes = append(stage.Nodes, node)
	}
	if o.standby != nil {
		stage.Standby = &check.Standby{
			Pause:    func(ctx context.Context, on bool) error { return check.PauseReplay(ctx, o.standby.URL(""), on) },
			Conflict: database.Conflict,
			Kill:     o.standby.Kill,
			Start:    patient(o.standby.Restart),
			Reads:    func(ctx context.Context) (int, error) { return o.replica.sum(ctx, o.nodes) },
		}
	}
	for _, s := range o.nats {
		stage.NATS = append(stage.NATS, check.Process{Kill: s.close, Freeze: freezing(s.signal), Start: patient(s.start)})
	}
	return stage
}

// freezing is SIGSTOP, or SIGCONT, by signal.
func freezing(signal func(os.Signal)) func(on bool) {
	return func(on bool) {
		if on {
			signal(syscall.SIGSTOP)
		} else {
			signal(syscall.SIGCONT)
		}
	}
}

// Close ends all and removes it. Calling it again does no harm.
func (o *checkedServer) Close() error {
	for _, n := range o.nodes {
		n.close()
	}
	if o.balancer != nil {
		o.balancer.close()
	}
	for _, s := range o.nats {
		s.close()
	}
	var err error
	for _, server := range []*pgembed.Server{o.standby, o.postgres} {
		if server != nil {
			ctx, cancel := context.WithTimeout(context.Background(), postgresStopTimeout)
			err = errors.Join(err, server.Stop(ctx))
			cancel()
		}
	}
	return errors.Join(err, o.dir.Remove())
}
