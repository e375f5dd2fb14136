package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/freshet-dev/freshet/store/setup"
)

type teardownCmd struct {
	databaseFlags
	Slot        string `default:"freshet" help:"Replication slot."`
	Publication string `default:"freshet" help:"Publication."`
	Force       bool   `help:"Even while nodes follow the database, or while further slots may be of nodes that are stopped: they fail from then on."`
}

// Help is printed by `freshet teardown --help`.
func (*teardownCmd) Help() string {
	return `Drops the replication slot, which would otherwise keep WAL for ever, and the publication. Your tables stay, and so does the schema freshet (freshet migrate down takes that back). Stop every freshet serve on this database before, and drop further slots (those of another name, or that each node had in earlier versions): while a node follows the database, or a slot is left that one may come back to, nothing is changed.`
}

// Run removes what serve and migrate have set up.
func (c *teardownCmd) Run(ctx context.Context, to streams) error {
	err := c.connect(ctx, func(conn *setup.Conn) error {
		if err := setup.Teardown(ctx, conn, c.Slot, c.Publication, c.Force); err != nil {
			return err
		}
		fmt.Fprintf(to.out, "The slot %q and the publication %q are gone.\n", c.Slot, c.Publication)
		orphans, err := setup.Orphans(ctx, conn, c.Slot)
		for _, p := range orphans {
			fmt.Fprintf(to.out, "But %s: %s\n", p.Text, strings.Join(p.SQL, " "))
		}
		return err
	})
	var used *setup.InUseError
	if errors.As(err, &used) {
		return fmt.Errorf("%w; --force takes it down all the same", err)
	}
	return err
}
