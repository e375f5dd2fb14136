package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/grants"
)

// withdrawals say that somebody may no longer what they might. It has a capacity of 1:
// open streams are asked about for all of them in one go.
type withdrawals chan struct{}

// note doesn't block.
func (w withdrawals) note() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// reauthorize has open streams asked about again after each.
func (w withdrawals) reauthorize(ctx context.Context, node *server.Node) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w:
			_ = node.Reauthorize(ctx) // ctx's error
		}
	}
}

// openGrants returns nil if there is no file; else the one that serve decides by.
func (c *serveCmd) openGrants(logger *slog.Logger, registry prometheus.Registerer, onChange func()) (*grants.File, error) {
	if c.Grants == "" {
		return nil, nil
	}
	file, err := grants.Open(c.Grants, grants.Options{Logger: logger, Registerer: registry, OnChange: onChange})
	return file, noGrants(err)
}

// noGrants says of a file that can't be read what is wanted. One that can be, and is
// wrong, says where.
func noGrants(err error) error {
	if err == nil || errors.As(err, new(*grants.FileError)) {
		return err
	}
	return fmt.Errorf("--grants: want a grants file: %w (is the path right, and may this user read it? docs/operations.md, Grants, says how to write one)", err)
}

// administer says whether a caller may use the admin port.
func (c *serveCmd) administer(ctx context.Context, who server.Principal) error {
	return c.granted.AuthorizeAdmin(ctx, grants.Caller{Issuer: who.Issuer, Subject: who.Subject, Claims: who.Claims})
}

type grantsCmd struct {
	Test grantsTestCmd `cmd:"" help:"Explain what a caller may: which rule, which pattern."`
}

type grantsTestCmd struct {
	Grants string `required:"" placeholder:"FILE" help:"Grants file."`
	callerFlags
	Action string   `default:"read" enum:"read,write,subscribe,admin" help:"What the caller wants to do: read, write, subscribe; or admin, use the admin port, which has no topics."`
	Topics []string `arg:"" optional:"" name:"topic" help:"Topics."`
}

// Help is printed by `freshet grants test --help`.
func (*grantsTestCmd) Help() string {
	return `Prints for each topic whether the file grants it, and why, and exits with status 1 if one is denied:

  freshet grants test --grants grants.yaml --claims ada.json orgs/acme/projects/7

It decides as a server with this file does. Of a token it looks at the claims only: whether its signature, its times and its audience are right is no question of grants.`
}

// Run explains the decisions.
func (c *grantsTestCmd) Run(ctx context.Context, to streams) error {
	who, err := c.ask(c.Grants)
	if err != nil {
		return err
	}
	action := grants.Action(c.Action)
	switch {
	case action == grants.Admin && len(c.Topics) == 0:
		c.Topics = []string{""}
	case action == grants.Admin:
		return errors.New("the admin port has no topics: leave them out")
	case len(c.Topics) == 0:
		return errors.New("say which topics the caller asks for")
	}
	return who.explain(ctx, to.out, action, c.Topics)
}
