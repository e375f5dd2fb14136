package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/freshet-dev/freshet/internal/badnet"
)

// ownNode is this program as `serve`, a process of its own. kill, start and stop take
// turns.
type ownNode struct {
	args []string
	addr string    // where args has it listen; empty: its log says where, which has to be in our form then
	name string    // before its lines in log; empty: it is the only one
	log  io.Writer // what it logs goes there
	died func(*process)

	// Between it and Postgres, for queries and for the feed; between it and the standby;
	// and between the balancer and it. nil: nothing is.
	pool, feed, replica, front *badnet.Proxy

	turn    sync.Mutex
	process *process // the current run; nil: there has been none
}

// start returns the node's URL once it is ready.
func (n *ownNode) start(ctx context.Context) (string, error) {
	n.turn.Lock()
	defer n.turn.Unlock()
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	p, err := startProcess(exec.Command(program, n.args...), n.name, n.log, n.died) //nolint:gosec // this program
	if err != nil {
		return "", err
	}
	n.process = p
	if n.addr != "" {
		url := "http://" + n.addr
		err := awaitReady(ctx, url, p.ended)
		if err != nil && ctx.Err() == nil { // else whoever doesn't want to wait ends it, in order
			err = p.unready(err)
		}
		return url, err
	}
	url, err := p.url(ctx)
	if err == nil && n.front != nil {
		n.front.Point(strings.TrimPrefix(url, "http://"))
	}
	return url, err
}

// kill is SIGKILL.
func (n *ownNode) kill() {
	n.turn.Lock()
	defer n.turn.Unlock()
	if n.process != nil {
		n.process.kill()
	}
}

// stop ends it in order for as long as ctx allows, then at once.
func (n *ownNode) stop(ctx context.Context) {
	n.turn.Lock()
	defer n.turn.Unlock()
	if n.process != nil {
		n.process.stop(ctx)
	}
}

// Done, Err and Restart are what kept asks for.
func (n *ownNode) Done() <-chan struct{} { return n.run().ended }

// Err says how it ended; nil: in order.
func (n *ownNode) Err() error { return n.run().end() }

// Restart starts it again.
func (n *ownNode) Restart(ctx context.Context) error {
	_, err := n.start(ctx)
	return err
}

func (n *ownNode) run() *process {
	n.turn.Lock()
	defer n.turn.Unlock()
	return n.process
}

// signal reaches the current run.
func (n *ownNode) signal(s os.Signal) {
	n.turn.Lock()
	defer n.turn.Unlock()
	if n.process != nil {
		n.process.signal(s)
	}
}

// close ends it, and what is around it.
func (n *ownNode) close() {
	n.kill()
	for _, proxy := range []*badnet.Proxy{n.front, n.pool, n.feed, n.replica} {
		if proxy != nil {
			proxy.Close()
		}
	}
}
