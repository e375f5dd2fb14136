package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/store/setup"
)

type teardownCmd struct {
	databaseFlags
	Slot        string `default:"freshet" help:"Replication slot."`
	Publication string `default:"freshet" help:"Publication."`
	Force       bool   `help:"Drop the slot even while nodes follow the database, of which those fail that use it, or while there are further slots, for which the publication stays."`
}

// Help is printed by `freshet teardown --help`.
func (*teardownCmd) Help() string {
	return `Drops the replication slot, which would otherwise keep WAL for ever, and the publication. It goes by these two names, whatever the contract. Your tables stay, and so does the schema freshet (freshet migrate down takes that back). Stop every freshet serve on this database before, and drop further slots (those of another name, or that each node had in earlier versions): while a node follows the database, or a slot is left that one may come back to, nothing is changed. The publication is of all slots: with --force it stays as long as there are others.`
}

// Run removes what serve and migrate have set up.
func (c *teardownCmd) Run(ctx context.Context, to streams) error {
	err := c.connect(ctx, func(conn *setup.Conn) error {
		removed, err := setup.Teardown(ctx, conn, c.Slot, c.Publication, c.Force)
		if err != nil {
			return err
		}
		fmt.Fprintf(to.out, "%s\n", isGone("slot", c.Slot, removed.Slot))
		if len(removed.NeededBy) > 0 {
			fmt.Fprintf(to.out, "The publication %q stays, since others may need it: %s. When they are gone, run this again, or: drop publication %s;\n",
				c.Publication, strings.Join(removed.NeededBy, ", "), pgx.Identifier{c.Publication}.Sanitize())
		} else {
			fmt.Fprintf(to.out, "%s\n", isGone("publication", c.Publication, removed.Publication))
		}
		if c.Force && removed.Publication {
			fmt.Fprintln(to.out, "Nodes that still run aren't ready any more. They go on by themselves once `freshet migrate up`, or the next node that starts, has set the database up again.")
		}
		orphans, err := setup.Orphans(ctx, conn, c.Slot)
		for _, p := range orphans {
			fmt.Fprintf(to.out, "But %s: %s\n", p.Text, strings.Join(p.SQL, " "))
		}
		return err
	})
	var used *setup.InUseError
	if errors.As(err, &used) {
		if c.Force {
			return fmt.Errorf("%w; the publication %q stays, since further slots may need it, and by it they would make the slot %q anew", err, c.Publication, c.Slot)
		}
		return fmt.Errorf("%w; --force drops the slot all the same, and the publication if there is no other slot", err)
	}
	return err
}

func isGone(what, name string, was bool) string {
	if !was {
		return fmt.Sprintf("There is no %s %q.", what, name)
	}
	return fmt.Sprintf("The %s %q is gone.", what, name)
}
