package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/internal/freeport"
	"github.com/freshet-dev/freshet/internal/scratch"
	"github.com/freshet-dev/freshet/internal/service"
	"github.com/freshet-dev/freshet/store/pgembed"
)

// clusterNodes is how many nodes there are where nobody says.
const clusterNodes = 3

type clusterCmd struct {
	Addr        string   `default:"127.0.0.1:8080" help:"Address of the balancer, on loopback. The nodes take the ports after it, and for metrics those after them."`
	Nodes       int      `default:"3" help:"How many nodes."`
	NATS        bool     `name:"nats" help:"Start three servers of NATS, by which one node captures and tells the others (serve's --nats-url)."`
	DataDir     string   `default:".freshet" type:"path" help:"Folder of the private Postgres, the same as serve's."`
	PostgresBin string   `placeholder:"DIR" type:"path" help:"Folder with initdb and postgres. Unset: the system's, then those under web/node_modules."`
	Serve       []string `arg:"" optional:"" help:"Flags of serve, for every node, after --."`
}

// Help is printed by `freshet cluster --help`.
func (*clusterCmd) Help() string {
	return `Runs several nodes on a private Postgres with a streaming standby, which they read from too, and a balancer (HAProxy) before them, until it is stopped by SIGINT or SIGTERM. Each request goes to another node. What is killed is started again.

Try it:
  freshet cluster
  freshet cluster --nats
  freshet cluster -- --heartbeat 5s --log-level debug`
}

// Validate is called by kong.
func (c *clusterCmd) Validate(parsed *kong.Context) error {
	if c.Nodes < 1 || c.Nodes > 9 {
		return fmt.Errorf("--nodes: want 1 to 9, not %d: each has 4 connections of the private Postgres, and more", c.Nodes)
	}
	addr, err := netip.ParseAddrPort(c.Addr)
	if err != nil || !addr.Addr().IsLoopback() {
		return fmt.Errorf("--addr: want an address of this machine alone, as 127.0.0.1:8080, not %q: nobody is kept out", c.Addr)
	}
	for _, path := range parsed.Path {
		if path.Flag != nil && path.Flag.Name == "config" {
			return errors.New("--config: the file is serve's: give it after --, as `freshet cluster -- --config FILE`")
		}
	}
	return c.checkServe()
}

// nodeFlags are serve's for one node.
func (c *clusterCmd) nodeFlags(addr, admin, primary, standby string) []string {
	return append([]string{
		"--database-url", primary, "--addr", addr, "--admin-addr", admin,
		"--replica-url", standby, "--trusted-proxy", "127.0.0.1", "--shed-streams",
	}, c.Serve...)
}

// cluster is what Run has started.
type cluster struct {
	primary, standby *pgembed.Server
	balancer         *balancer
	nats             []*natsServer // none: each node captures
	nodes            []*ownNode
	admin            []string // of the nodes: where each has its metrics
}

// Run runs until ctx ends, and stops all in the reverse order.
func (c *clusterCmd) Run(ctx context.Context, to streams, logger *slog.Logger) (err error) {
	var parts service.Group
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		err = errors.Join(err, parts.Stop(stopping))
	}()
	o, err := c.start(ctx, &parts, to.err, logger)
	if ctx.Err() != nil {
		return nil // somebody didn't want to wait
	}
	if err != nil {
		return err
	}
	if _, err := io.WriteString(to.out, o.words()); err != nil {
		return err
	}
	return parts.Wait(ctx)
}

// leftOver is how old a folder has to be that is removed if nobody uses it.
const leftOver = 10 * time.Second

// start starts everything, and adds it to parts in that order.
func (c *clusterCmd) start(ctx context.Context, parts *service.Group, log io.Writer, logger *slog.Logger) (_ *cluster, err error) {
	dir, err := scratch.New("freshet-cluster-", leftOver)
	if err != nil {
		return nil, err
	}
	parts.Defer("folder", func(context.Context) error { return dir.Remove() })
	addrs, err := c.nodeAddrs()
	if err != nil {
		return nil, err
	}
	o := &cluster{admin: addrs[c.Nodes:]}
	addrs = addrs[:c.Nodes]
	// First: that there is no HAProxy, or that the port is taken, is said at once.
	if o.balancer, err = newBalancer(ctx, dir.Path, c.Addr, addrs, o.admin, log); err != nil {
		return nil, err
	}
	parts.Defer("balancer's port", func(context.Context) error { o.balancer.close(); return nil })
	if c.NATS {
		if o.nats, err = newNATS(log); err != nil {
			return nil, err
		}
	}
	if err := c.startPostgres(ctx, o, parts, dir.Path, logger); err != nil {
		return nil, err
	}
	if err := o.startNATS(ctx, parts, logger); err != nil {
		return nil, err
	}
	// Before the nodes, so that it outlives them: they tell their streams that they go.
	// It asks for nodes once there are some.
	started := make(chan struct{})
	parts.Go("balancer", func(ctx context.Context) error {
		select {
		case <-started:
			keep(ctx, logger, "the balancer", o.balancer)
		case <-ctx.Done():
		}
		o.balancer.close()
		return nil
	})
	if err := c.startNodes(ctx, o, parts, addrs, log, logger); err != nil {
		return nil, err
	}
	if err := o.balancer.start(); err != nil {
		return nil, err
	}
	close(started)
	return o, o.balancer.await(ctx)
}

// startPostgres starts primary and standby. The standby's copy of the data goes with
// dir.
func (c *clusterCmd) startPostgres(ctx context.Context, o *cluster, parts *service.Group, dir string, logger *slog.Logger) (err error) {
	o.primary, err = pgembed.Start(ctx, pgembed.Config{
		DataDir: c.DataDir, Binaries: c.PostgresBin, Logger: logger.With("postgres", "primary"),
		Settings: map[string]string{"wal_keep_size": standbyKeeps},
	})
	if err != nil {
		return err
	}
	parts.Go("primary", func(ctx context.Context) error { return keepPostgres(ctx, logger, "the primary", o.primary) })
	o.standby, err = pgembed.StartStandby(ctx, pgembed.Config{
		DataDir: filepath.Join(dir, "standby"), RootDir: filepath.Join(dir, "root"), Binaries: c.PostgresBin, Logger: logger.With("postgres", "standby"),
	}, o.primary)
	if err != nil {
		return err
	}
	parts.Go("standby", func(ctx context.Context) error { return keepPostgres(ctx, logger, "the standby", o.standby) })
	return nil
}

// startNATS starts the servers of NATS, if there are any.
func (o *cluster) startNATS(ctx context.Context, parts *service.Group, logger *slog.Logger) error {
	for i, s := range o.nats {
		name := fmt.Sprintf("server %d of NATS", i+1)
		if err := s.start(ctx); err != nil {
			s.close()
			return fmt.Errorf("%s: %w", name, err)
		}
		parts.Go(name, func(ctx context.Context) error {
			keep(ctx, logger, name, s)
			s.close()
			return nil
		})
	}
	return nil
}

// startNodes starts all at once: they are identical but for their ports.
func (c *clusterCmd) startNodes(ctx context.Context, o *cluster, parts *service.Group, addrs []string, log io.Writer, logger *slog.Logger) error {
	var starting errgroup.Group
	for i, addr := range addrs {
		n := &ownNode{
			name: fmt.Sprintf("node %d: ", i+1), log: log, addr: addr,
			args: slices.Concat([]string{"serve"}, natsFlagsOf(o.nats), c.nodeFlags(addr, o.admin[i], o.primary.URL(""), o.standby.URL(""))),
		}
		o.nodes = append(o.nodes, n)
		starting.Go(func() error {
			if _, err := n.start(ctx); err != nil {
				return fmt.Errorf("node %d: %w", i+1, err)
			}
			return nil
		})
	}
	parts.Defer("nodes", func(ctx context.Context) error { o.stopNodes(ctx); return nil })
	if err := starting.Wait(); err != nil {
		return err
	}
	for i, n := range o.nodes {
		parts.Go(fmt.Sprintf("keeper of node %d", i+1), func(ctx context.Context) error {
			keep(ctx, logger, fmt.Sprintf("node %d", i+1), n)
			return nil
		})
	}
	return nil
}

// stopNodes ends all at once, in order.
func (o *cluster) stopNodes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for _, n := range o.nodes {
		all.Go(func() { n.stop(ctx) })
	}
	all.Wait()
}

// nodeAddrs are the nodes' ports, those after the balancer's, and then their admin ports;
// if the balancer takes any, any that are free.
func (c *clusterCmd) nodeAddrs() ([]string, error) {
	host, text, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return nil, err
	case port == 0:
		return freeport.Addrs(host, 2*c.Nodes)
	}
	// The balancer's first: where another cluster runs, all are taken.
	var addrs []string
	for i := range 1 + 2*c.Nodes {
		addr := net.JoinHostPort(host, strconv.Itoa(port+i))
		free, err := net.Listen("tcp", addr) //nolint:noctx // it doesn't wait
		switch {
		case err != nil && i == 0:
			return nil, fmt.Errorf("--addr: the balancer can't have its address: %w", err)
		case err != nil:
			return nil, fmt.Errorf("--addr: %d nodes take the %d ports after the balancer's, and can't have one: %w", c.Nodes, 2*c.Nodes, err)
		}
		_ = free.Close() // nobody accepts from it
		addrs = append(addrs, addr)
	}
	return addrs[1:], nil
}

// words are what is printed once all is ready.
func (o *cluster) words() string {
	url := "http://" + o.balancer.addr()
	var parts strings.Builder
	part := func(name string, pid int, where string) {
		fmt.Fprintf(&parts, "  %-9s process %-7d %s\n", name, pid, where)
	}
	for i, n := range o.nodes {
		part(fmt.Sprintf("node %d", i+1), n.run().cmd.Process.Pid, fmt.Sprintf("http://%s, http://%s/metrics", n.addr, o.admin[i]))
	}
	for i, s := range o.nats {
		part(fmt.Sprintf("NATS %d", i+1), s.run().cmd.Process.Pid, "nats://"+s.addr)
	}
	part("HAProxy", o.balancer.run().cmd.Process.Pid, url)
	part("primary", o.primary.PID(), o.primary.URL(""))
	part("standby", o.standby.PID(), o.standby.URL(""))
	return strings.NewReplacer("URL", url, "ADDR", o.balancer.addr(), "PARTS", parts.String(), "PRIMARY", o.primary.URL(""), "ADMIN", o.admin[0]).Replace(`
URL

The page is there. By hand: follow a conversation, write, read, by gRPC.

  curl -N 'URL/events?topic=conversations/7/messages'
  curl -i URL/messages.v1.MessageService/CreateMessage \
    --json '{"parent": "conversations/7", "message": {"author": "ada", "body": "hello"}}'
  curl -i URL/messages.v1.MessageService/ListMessages --json '{"parent": "conversations/7"}'
  go tool -modfile=tools/go.mod grpcurl -plaintext ADDR list
  go tool -modfile=tools/go.mod grpcurl -plaintext -d '{"topics": ["messages"]}' ADDR freshet.v1.InvalidationService/Watch
  psql 'PRIMARY' -c "insert into messages (conversation, author, body) values ('7', 'bob', 'by SQL')"

Each request goes to another node, which the answer names (x-served-by). Kill a process (kill -9), or stop it (kill -STOP, later -CONT): streams go on at the others, of one that is killed after a second or two, of one that is stopped after some ten, when HAProxy's checks have found out; and what has ended is started again, as another process. Why a node isn't ready, it says on its port of metrics: curl http://ADMIN/readyz
Refetches at least what a stream has told are read on the standby, where that has it.

PARTS
Ctrl-C stops all of it, in order.
`)
}
