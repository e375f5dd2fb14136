package check

import (
	"context"
	"time"
)

// Stage is a server that is the checker's own, with its Postgres: it may do
// anything to both. It has one node or, behind a balancer, several. What is nil can't be
// done: of Config.Faults, all leaves out what takes it, and a name that does is refused.
// Of a Node, Kill, Freeze and Start are required; of a Process and a Standby, all.
type Stage struct {
	// Nodes are the server's processes. Without any, nothing can be done to them.
	Nodes []Node
	// RestartPostgres stops it in order and starts it again; CrashPostgres kills
	// every process of it first. Each ends the epoch that the server is at.
	RestartPostgres, CrashPostgres func(context.Context) error
	// HoldCommits makes commits wait for a synchronous standby that doesn't
	// exist, or ends that; DropSlot drops the server's replication slot.
	HoldCommits func(ctx context.Context, on bool) error
	DropSlot    func(context.Context) error
	// Look is how often the server looks at its database's catalog: clients may
	// take twice that long for changes that nothing else shows it.
	Look time.Duration
	// Standby follows the server's Postgres, and its nodes read from it too; nil: there
	// is none.
	Standby *Standby
	// NATS are the servers by which one of the nodes tells the others what changes; nil:
	// each node finds out by itself.
	NATS []Process
}

// Process is one of a server's that isn't a node.
type Process struct {
	// Kill ends it at once, with SIGKILL; Freeze stops it, as SIGSTOP does, or lets it
	// go on.
	Kill   func()
	Freeze func(on bool)
	// Start starts it again.
	Start func(context.Context) error
}

// Standby is a streaming standby that a server reads from.
type Standby struct {
	// Pause has it not replay what it receives, or lets it go on. Conflict has its
	// replay cancel what reads there, again and again for that long.
	Pause    func(ctx context.Context, on bool) error
	Conflict func(context.Context, time.Duration) error
	// Kill ends every process of it at once; Start starts it again.
	Kill  func()
	Start func(context.Context) error
	// Reads is how many reads of the server's it has served so far.
	Reads func(context.Context) (int, error)
}

// Node is a process of a server's.
type Node struct {
	// Kill ends it at once, with SIGKILL; Freeze stops it, as SIGSTOP does, or lets it
	// go on.
	Kill   func()
	Freeze func(on bool)
	// Start starts it again and returns its URL when it is ready. Of several, the
	// balancer is to know where that is.
	Start func(context.Context) (url string, err error)
	// Pool and Feed are between the node and Postgres: its pool's connections,
	// and those of its feed.
	Pool, Feed Connections
	// Replica is between the node and the standby.
	Replica Connections
	// Front is between the balancer and the node; nil where there is no balancer,
	// and clients come to the node itself.
	Front Connections
}

// Connections go through a place where they can be disturbed.
type Connections interface {
	// Cut breaks all there are.
	Cut()
	// Pause lets nothing through while they stay open, Delay holds everything back
	// for a while, both until Resume.
	Pause()
	Delay(time.Duration)
	Resume()
}

// need is what a fault, or an exercise, can't do without.
type need uint8

const (
	anything need = iota
	database      // Config.Database
	stage         // Config.Stage
	proxies       // one with Pool and Feed of each node
	postgres      // one with RestartPostgres and CrashPostgres
	commits       // one with HoldCommits
	slots         // one with DropSlot
	several       // one with several nodes
	fronts        // and Front of each
	standby       // one whose nodes read from a standby
	replicas      // and Replica of each
	nats          // one whose nodes tell each other what changes
)

// given is what brings it: to freshet check flags, to Run a field of its Config.
func (n need) given() string {
	return [...]string{
		database: "--database-url, --serve; Config.Database",
		stage:    "--serve, --cluster; Config.Stage",
		proxies:  "--serve, --cluster; Node.Pool and Node.Feed",
		postgres: "--serve, --cluster; Stage.RestartPostgres and Stage.CrashPostgres",
		commits:  "--serve, --cluster; Stage.HoldCommits",
		slots:    "--serve, --cluster; Stage.DropSlot",
		several:  "--cluster; Stage.Nodes",
		fronts:   "--cluster; Node.Front",
		standby:  "--cluster; Stage.Standby",
		replicas: "--cluster; Node.Replica",
		nats:     "--cluster --nats; Stage.NATS",
	}[n]
}

// has says whether a run has what is needed.
func (c *Config) has(n need) bool {
	switch n {
	case database:
		return c.Database != nil
	case stage:
		return c.Stage != nil && len(c.Stage.Nodes) > 0
	case proxies:
		return c.has(stage) && c.Stage.each(func(n *Node) bool { return n.Pool != nil && n.Feed != nil })
	case postgres:
		return c.Stage != nil && c.Stage.RestartPostgres != nil && c.Stage.CrashPostgres != nil
	case commits:
		return c.Stage != nil && c.Stage.HoldCommits != nil
	case slots:
		return c.Stage != nil && c.Stage.DropSlot != nil
	case several:
		return c.Stage != nil && len(c.Stage.Nodes) > 1
	case fronts:
		return c.has(several) && c.Stage.each(func(n *Node) bool { return n.Front != nil })
	case standby:
		return c.Stage != nil && c.Stage.Standby != nil
	case replicas:
		return c.has(standby) && c.Stage.each(func(n *Node) bool { return n.Replica != nil })
	case nats:
		return c.Stage != nil && len(c.Stage.NATS) > 0
	default:
		return true
	}
}

// each reports whether all nodes are so.
func (s *Stage) each(is func(*Node) bool) bool {
	for i := range s.Nodes {
		if !is(&s.Nodes[i]) {
			return false
		}
	}
	return true
}
