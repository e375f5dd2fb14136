package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// notAfterDashes are flags of serve that a cluster gives to its nodes itself, or whose
// meaning several nodes on one machine can't keep, with what to do instead.
var notAfterDashes = map[string]string{
	"addr":            "each node has its own: the balancer's goes before --, as `freshet cluster --addr 127.0.0.1:9000 -- …`, and the nodes take the ports after it",
	"admin-addr":      "each node has its own, which is printed: leave it out",
	"database-url":    ownDatabase,
	"capture-url":     ownDatabase,
	"replica-url":     "the nodes read from the cluster's own standby: leave it out",
	"data-dir":        beforeDashes,
	"postgres-bin":    beforeDashes,
	"tls-cert":        plainInside,
	"tls-key":         plainInside,
	"demo-auth":       demoIsOne,
	"demo-token-life": demoIsOne,
}

const (
	ownDatabase  = "the nodes are on the cluster's own Postgres: leave it out. On one of yours, `freshet serve --database-url URL` starts a node, and again with another --addr and --admin-addr the next one"
	beforeDashes = "it is the cluster's: give it before --"
	plainInside  = "the balancer speaks plain HTTP, on this machine alone: leave it out. docs/deploy.md has TLS in front of several nodes"
	demoIsOne    = "its accounts, and who has signed out, are one process' own: try it with one node, `freshet serve --demo-auth`. Here callers are known by --jwt-keys or --oidc-issuer"
)

// checkServe returns why nodes would not start, or not work here, with the flags given
// after --: before anything is started.
func (c *clusterCmd) checkServe() error {
	if err := c.checkGiven(); err != nil {
		return err
	}
	s, _, err := parseServe(c.nodeFlags("127.0.0.1:1", "127.0.0.1:2", "postgres:///primary", "postgres:///standby"))
	if err != nil {
		return err
	}
	if s.Serve.Heartbeat > 30*time.Second {
		return fmt.Errorf("--heartbeat: want 30s at most here, not %s: the balancer ends what is silent for a minute", s.Serve.Heartbeat)
	}
	return s.Serve.judge()
}

// checkGiven refuses what is not to be given after --, or in a file that is named there.
func (c *clusterCmd) checkGiven() error {
	s, parsed, err := parseServe(c.Serve)
	if err != nil {
		return err
	}
	for _, flag := range parsed.Flags() {
		from := s.settings.origin(parsed, flag)
		if from == "default" {
			continue
		}
		if instead, ok := notAfterDashes[flag.Name]; ok {
			return fmt.Errorf("%s: %s", from, instead)
		}
		if flag.Name == "nats-url" && c.NATS {
			return fmt.Errorf("%s: --nats starts servers of NATS for the nodes: leave one of the two out", from)
		}
	}
	return nil
}

// parseServe parses serve's flags as a node will, which doesn't see our environment.
func parseServe(flags []string) (*cli, *kong.Context, error) {
	s, helped := new(cli), false
	parser, err := newParser(s, io.Discard, io.Discard, func(int) { helped = true })
	if err != nil {
		return nil, nil, err
	}
	for _, flag := range slices.Concat(settable(parser.Model), parser.Model.Flags) {
		flag.Envs, flag.Tag.Envs = nil, nil
	}
	parsed, err := parser.Parse(append([]string{"serve"}, flags...))
	if helped {
		return nil, nil, errors.New("--help and --version stand before --; `freshet serve --help` says what may follow it")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("what follows -- is for serve: %w (`freshet serve --help`)", err)
	}
	return s, parsed, nil
}

var unknownFlag = regexp.MustCompile(`unknown flag --([a-z][a-z0-9-]*)`)

// afterDashes says of a flag that cluster doesn't know where it goes; empty: serve has
// none of that name either.
func afterDashes(usage *kong.ParseError) string {
	command, _, _ := strings.Cut(usage.Context.Command(), " ")
	unknown := unknownFlag.FindStringSubmatch(usage.Error())
	if command != "cluster" || unknown == nil {
		return ""
	}
	if !slices.ContainsFunc(settable(usage.Context.Model), func(f *kong.Flag) bool { return f.Name == unknown[1] }) {
		return ""
	}
	return fmt.Sprintf("--%s is a flag of serve: those go after --, as `freshet cluster -- --%s …`.", unknown[1], unknown[1])
}
