package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/store/setup"
)

// migrationSet is what is recorded in one place.
type migrationSet struct {
	up, down func(ctx context.Context, url string) error
	status   func(ctx context.Context, url string) ([]setup.Migration, error)
}

// migrations are Freshet's own and then the service's, which build on them: so
// up in this order, and down from the end.
var migrations = []migrationSet{
	{setup.Migrate, setup.MigrateDown, setup.MigrateStatus},
	{messages.Migrate, messages.MigrateDown, messages.MigrateStatus},
}

// migrationsOf leaves out the message service's where the contract is another's, whose
// tables are its own matter.
func migrationsOf(own bool) []migrationSet {
	if own {
		return migrations
	}
	return migrations[:1]
}

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Run pending migrations; set up publication and replica identities."`
	Down   migrateDownCmd   `cmd:"" help:"Take back the latest migration."`
	Status migrateStatusCmd `cmd:"" help:"List the migrations, applied and pending."`
}

type migrateUpCmd struct {
	databaseFlags
	contractFlags
	Publication string `default:"freshet" help:"Publication that serve uses."`
	SetUp       bool   `help:"Also run what is otherwise printed, since it takes its time or has a price (an index made beside the writers, REPLICA IDENTITY FULL): all that this role may, but for the server's settings."`
}

// Help is printed by `freshet migrate up --help`.
func (*migrateUpCmd) Help() string {
	return `Safe to repeat, and safe while the application writes: no moment of it breaks writers. What it can't mend without that, or not in a moment, it prints as SQL, and exits with status 1.

With --image it is what a service of your own needs: Freshet's migrations, and publication and replica identities for its contract; its tables are its own matter.

With --set-up it runs that as well, says each statement before it runs it, and prints what is left. Making an index waits until every transaction that is open has ended; nobody who writes waits for it.`
}

func (c *migrateUpCmd) Run(ctx context.Context, to streams) error {
	p, err := c.program()
	if err != nil {
		return err
	}
	if err := c.connect(ctx, func(conn *setup.Conn) error { return p.begin(ctx, conn, to.out, c.Publication, true) }); err != nil {
		return err
	}
	fine := "The database is ready for `freshet serve`."
	if !p.own {
		fine = "The database is ready for the service."
	}
	for _, m := range migrationsOf(p.own) {
		if err := m.up(ctx, c.DatabaseURL); err != nil {
			return err
		}
	}
	return c.connect(ctx, func(conn *setup.Conn) error {
		apply := setup.Apply
		if c.SetUp {
			apply = func(ctx context.Context, conn *setup.Conn, p *contract.Program, publication string) ([]setup.Problem, error) {
				return setup.ApplyAll(ctx, conn, p, publication, func(step string) { fmt.Fprintln(to.out, "-- "+oneLine.Replace(step)) })
			}
		}
		problems, err := apply(ctx, conn, p.Program, c.Publication)
		if err != nil {
			return err
		}
		return report(to.out, problems, fine)
	})
}

type migrateDownCmd struct {
	databaseFlags
	contractFlags
	Publication string `default:"freshet" help:"Publication that serve uses, by whose tables it is told whose database it is."`
	Yes         bool   `help:"Take it back, with its data. Without it, it is only said what would go."`
}

// Help is printed by `freshet migrate down --help`.
func (*migrateDownCmd) Help() string {
	return `Takes back one migration, with the tables and the DATA that it brought, for which it wants --yes. Stop every freshet serve on this database before: while one follows it nothing is changed. With --image, as for a service of your own, it is Freshet's migrations alone.`
}

func (c *migrateDownCmd) Run(ctx context.Context, to streams) error {
	p, err := c.program()
	if err != nil {
		return err
	}
	if err := c.connect(ctx, func(conn *setup.Conn) error { return p.begin(ctx, conn, to.out, c.Publication, true) }); err != nil {
		return err
	}
	last, down, err := latest(ctx, migrationsOf(p.own), c.DatabaseURL)
	if err != nil {
		return err
	}
	if down == nil {
		fmt.Fprintln(to.out, "There is no migration to take back.")
		return nil
	}
	if !c.Yes {
		return fmt.Errorf("this takes back migration %d (%s), with the tables and ALL THE DATA that it brought: run it again with --yes", last.Version, last.Name)
	}
	if err := c.connect(ctx, func(conn *setup.Conn) error { return setup.CheckUnused(ctx, conn) }); err != nil {
		return err
	}
	if err := down(ctx, c.DatabaseURL); err != nil {
		return err
	}
	fmt.Fprintf(to.out, "Migration %d (%s) is taken back.\n", last.Version, last.Name)
	return nil
}

// latest returns the last migration among some that was applied, and what takes it
// back: nil if there is none.
func latest(ctx context.Context, among []migrationSet, url string) (last setup.Migration, down func(context.Context, string) error, err error) {
	for _, m := range slices.Backward(among) {
		list, err := m.status(ctx, url)
		if err != nil {
			return last, nil, err
		}
		for _, step := range slices.Backward(list) {
			if !step.Applied.IsZero() {
				return step, m.down, nil
			}
		}
	}
	return last, nil, nil
}

type migrateStatusCmd struct {
	databaseFlags
	contractFlags
	Publication string `default:"freshet" help:"Publication that serve uses, by whose tables it is told whose database it is."`
}

func (c *migrateStatusCmd) Run(ctx context.Context, to streams) error {
	p, err := c.program()
	if err != nil {
		return err
	}
	if err := c.connect(ctx, func(conn *setup.Conn) error { return p.begin(ctx, conn, to.out, c.Publication, false) }); err != nil {
		return err
	}
	w := tabwriter.NewWriter(to.out, 0, 0, 2, ' ', 0)
	for _, m := range migrationsOf(p.own) {
		list, err := m.status(ctx, c.DatabaseURL)
		if err != nil {
			return err
		}
		for _, step := range list {
			applied := "pending"
			if !step.Applied.IsZero() {
				applied = step.Applied.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%d\t%s\t%s\n", step.Version, step.Name, applied)
		}
	}
	return w.Flush()
}
