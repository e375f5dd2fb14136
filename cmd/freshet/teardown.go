package main

import (
	"context"
	"fmt"

	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store/wal"
)

type teardownCmd struct {
	databaseFlags
	Slot string `default:"freshet" help:"Replication slot."`
}

// Help is printed by `freshet teardown --help`.
func (*teardownCmd) Help() string {
	return `Drops the replication slot, which would otherwise keep WAL for ever, and the publication. Your tables stay, and so does the schema freshet (freshet migrate down takes that back). Stop every freshet serve on this database before.`
}

// Run removes what serve and migrate have set up.
func (c *teardownCmd) Run(ctx context.Context, to streams) error {
	err := c.connect(ctx, func(conn *wal.Conn) error {
		return wal.Teardown(ctx, conn, c.Slot, server.Publication)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(to.out, "The slot %q and the publication %q are gone.\n", c.Slot, server.Publication)
	return nil
}
