package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// balancer is HAProxy in front of several nodes. Nothing ties a client to a node: each
// request goes to the next one, so that a stream is on one, the refetch on another.
type balancer struct {
	listener net.Listener // is open for as long as the balancer is needed, whatever runs behind it
	program  string
	file     string // its configuration
	log      io.Writer
	died     func(*process) // as startProcess has it

	lastRun
}

var errNoBalancer = errors.New("there is no haproxy, which several nodes need in front: `make deps` installs it (Debian: apt-get install haproxy)")

// newBalancer prepares one at addr, before nodes at these addresses, which it asks at
// others how they are, if checks has any. dir is for its configuration. Whoever made it
// closes it.
func newBalancer(ctx context.Context, dir, addr string, nodes, checks []string, log io.Writer) (*balancer, error) {
	program, err := exec.LookPath("haproxy")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/haproxy") // not in everybody's PATH
	}
	if err != nil {
		return nil, errNoBalancer
	}
	b := &balancer{program: program, file: filepath.Join(dir, "haproxy.cfg"), log: log}
	if err := os.WriteFile(b.file, []byte(balancerConfig(nodes, checks)), 0o600); err != nil {
		return nil, err
	}
	if b.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", addr); err != nil {
		return nil, err
	}
	return b, nil
}

// balancerConfig is what docs/deploy.md says of HAProxy, for these nodes, and a header
// that says which one answered. The port is a descriptor that HAProxy is started with:
// one that is taken is found out before.
func balancerConfig(nodes, checks []string) string {
	var plain, grpc strings.Builder
	for i, addr := range nodes {
		check := ""
		if checks != nil {
			check = " port " + checks[i][strings.LastIndexByte(checks[i], ':')+1:]
		}
		fmt.Fprintf(&plain, "    server node-%d %s%s\n", i+1, addr, check)
		fmt.Fprintf(&grpc, "    server node-%d %s%s proto h2 check-proto h1\n", i+1, addr, check)
	}
	return `defaults
    mode http
    balance roundrobin
    option http-no-delay
    option forwardfor
    retries 2
    option redispatch 1
    option httpchk GET /readyz
    http-check expect ! status 503 error-status L7OKC
    http-check expect status 200
    default-server check inter 1s fall 3 rise 1 on-marked-down shutdown-sessions
    timeout connect 2s
    timeout http-request 20s
    timeout client 60s
    timeout server 60s
    timeout check 2s
frontend public
    bind fd@3
    http-response set-header X-Served-By %s
    use_backend freshet_grpc if { req.hdr(content-type) -m reg ^application/grpc([+;]|$) }
    default_backend freshet
backend freshet
    retry-on conn-failure empty-response 503
    http-request disable-l7-retry unless METH_GET
` + plain.String() + `backend freshet_grpc
` + grpc.String()
}

// start runs HAProxy.
func (b *balancer) start() error {
	port, err := b.listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer func() { _ = port.Close() }()                 // the process has its own by then
	cmd := exec.Command(b.program, "-db", "-f", b.file) //nolint:gosec // HAProxy
	cmd.ExtraFiles = []*os.File{port}
	p, err := startProcess(cmd, "balancer: ", b.log, b.died)
	if err != nil {
		return err
	}
	b.is(p)
	return nil
}

// Restart, with Done and Err, is what kept asks for: it starts it again. Who came
// meanwhile has waited at the port.
func (b *balancer) Restart(context.Context) error { return b.start() }

// addr is where it listens.
func (b *balancer) addr() string { return b.listener.Addr().String() }

// close ends it and gives its port back. It may be repeated.
func (b *balancer) close() {
	if p := b.run(); p != nil {
		p.kill()
	}
	_ = b.listener.Close() // nobody accepts from it
}

// await waits until the balancer leads to a node that is ready.
func (b *balancer) await(ctx context.Context) error {
	if err := awaitReady(ctx, "http://"+b.addr(), nil); err != nil {
		return fmt.Errorf("no node is behind the balancer: %w", err)
	}
	return nil
}
