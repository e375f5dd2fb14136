package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/internal/freeport"
)

// natsServers is how many servers of NATS a cluster of this program's own has.
const natsServers = 3

// natsServer is one server of NATS, of a cluster by which several nodes tell each other
// what changes.
type natsServer struct {
	program string
	args    []string
	addr    string
	name    string // before its lines in log
	log     io.Writer
	died    func(*process) // as startProcess has it

	lastRun
}

var errNoNATSServer = errors.New("there is no nats-server, by which the nodes are to tell each other what changes: `make deps` installs it (Debian: apt-get install nats-server)")

// newNATS prepares the servers of a cluster, on free ports of loopback. Whoever made them
// closes each that was started.
func newNATS(log io.Writer) (all []*natsServer, err error) {
	program, err := exec.LookPath("nats-server")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/nats-server") // not in everybody's PATH
	}
	if err != nil {
		return nil, errNoNATSServer
	}
	// One for clients and one for the other servers, each.
	addrs, err := freeport.Addrs("127.0.0.1", 2*natsServers)
	if err != nil {
		return nil, fmt.Errorf("ports for NATS: %w", err)
	}
	routes := "nats://" + strings.Join(addrs[natsServers:], ",nats://")
	for i := range natsServers {
		_, port, err := net.SplitHostPort(addrs[i])
		if err != nil {
			return nil, err
		}
		all = append(all, &natsServer{
			program: program, addr: addrs[i], name: fmt.Sprintf("NATS %d: ", i+1), log: log,
			args: []string{
				"--addr", "127.0.0.1", "--port", port, "--server_name", fmt.Sprintf("freshet-%d", i+1),
				"--cluster_name", "freshet", "--cluster", "nats://" + addrs[natsServers+i], "--routes", routes,
			},
		})
	}
	return all, nil
}

// natsFlagsOf are serve's flags for nodes that meet there.
func natsFlagsOf(servers []*natsServer) (flags []string) {
	for _, s := range servers {
		flags = append(flags, "--nats-url=nats://"+s.addr)
	}
	return flags
}

// start runs it, and returns when it listens.
func (s *natsServer) start(ctx context.Context) error {
	p, err := startProcess(exec.Command(s.program, s.args...), s.name, s.log, s.died) //nolint:gosec // NATS
	if err != nil {
		return err
	}
	s.is(p)
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
		if err == nil {
			return conn.Close()
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-timer.C:
		case <-p.ended:
			timer.Stop()
			return fmt.Errorf("the server of NATS ended; its last words:\n%s", p.tail())
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("the server of NATS doesn't listen: %w", err)
		}
	}
}

// Restart, with Done and Err, is what kept asks for: it starts it again.
func (s *natsServer) Restart(ctx context.Context) error { return s.start(ctx) }

// signal reaches the current run, if there is one.
func (s *natsServer) signal(sig os.Signal) {
	if p := s.run(); p != nil {
		p.signal(sig)
	}
}

// close is SIGKILL: it has nothing to lose. It may be repeated.
func (s *natsServer) close() {
	if p := s.run(); p != nil {
		p.kill()
	}
}
