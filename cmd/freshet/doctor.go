package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/store/setup"
)

type doctorCmd struct {
	databaseFlags
	contractFlags
	Slot        string `default:"freshet" help:"Replication slot that serve uses."`
	Publication string `default:"freshet" help:"Publication that serve uses."`

	Leftovers bool `help:"Also list what the database has for other versions of the contract, with the SQL that drops it: for when none of them will come back."`

	ReplicaURL []string `sep:"none" placeholder:"URL" help:"Standby that serve reads from: would it? With --print-grants: the services' role is to read there, too. Several, one URL for each."`

	natsFlags

	PrintGrants bool     `help:"Print the SQL that makes roles of least privilege instead: one that sets up, one that captures, one of the services."`
	OwnerRole   string   `default:"freshet_owner" placeholder:"ROLE" help:"With --print-grants: the role that migrates and sets up."`
	CaptureRole string   `default:"freshet_capture" placeholder:"ROLE" help:"With --print-grants: the role of --capture-url."`
	AppRole     string   `default:"freshet_app" placeholder:"ROLE" help:"With --print-grants: the role of --database-url."`
	CallerRole  []string `placeholder:"ROLE" help:"With --print-grants: a role that serve's --db-role-claim may name. Several."`

	URL string `name:"url" placeholder:"URL" env:"FRESHET_DOCTOR_URL" help:"Look at the way to a running server instead: what do proxies in between do to a stream? Takes half a minute."`

	Hot bool          `help:"With --url of serve's admin port, or of where a service of your own mounts /hot: measure which topics cost most, and say what to do."`
	For time.Duration `default:"10s" help:"With --hot: how long."`
	Top int           `default:"20" help:"With --hot: how many topics to print."`

	TokenFile string `name:"token-file" placeholder:"FILE" env:"FRESHET_TOKEN_FILE" help:"With --url: file with a bearer token, where the server asks who calls."`
	Topic     string `default:"doctor" help:"With --url: the topic that is followed. Nothing has to happen to it; where the server asks for grants, the token's caller has to have one."`
}

// Validate is called by kong.
func (c *doctorCmd) Validate() error {
	if c.Hot && c.URL == "" {
		return errors.New("--hot: name the node's admin port (serve's --admin-addr) by --url, as http://127.0.0.1:9090")
	}
	if c.URL != "" {
		return nil
	}
	return c.databaseFlags.Validate()
}

// Help is printed by `freshet doctor --help`.
func (*doctorCmd) Help() string {
	return `Changes nothing. Prints each problem with the SQL that mends it, and exits with status 1 if one of them keeps capture from working, or a replica that --replica-url names from being read from; warnings don't.

The output is an SQL script (freshet doctor | psql). What the role that looks may not run, and what somebody has to decide, is in it as a comment that says who may.

It goes by the contract of the message service, and by that of your own with its image:

  buf build -o - | freshet doctor --image - --slot shop --publication shop

With --leftovers it lists as well what only other versions of the contract need: tables and columns of the publication, indexes, records. To drop what a version needs that is still there, or another service, keeps that one from its changes.

With --url it looks at the way from here to a server: whether something buffers, delays or compresses a stream, or cuts it when it is silent.

With --hot and the --url of a node's admin port (serve's --admin-addr) it measures for a while which topics cost that node most: how often they change, how many are told, how many read again, and how many of those find the same as before:

  freshet doctor --hot --url http://127.0.0.1:9090 --for 30s`
}

// Run checks the database.
func (c *doctorCmd) Run(ctx context.Context, to streams) error {
	if c.Hot {
		return c.measureHeat(ctx, to)
	}
	if c.URL != "" {
		return c.examinePath(ctx, to)
	}
	p, err := c.program()
	if err != nil {
		return err
	}
	return c.connect(ctx, func(conn *setup.Conn) error {
		if err := p.begin(ctx, conn, to.out, c.Publication, false); err != nil {
			return err
		}
		if c.PrintGrants {
			return c.printGrants(ctx, conn, p.Program, to.out)
		}
		problems, err := setup.Check(ctx, conn, p.Program, c.Publication)
		if err != nil {
			return err
		}
		slot, err := setup.CheckSlot(ctx, conn, c.Slot)
		if err != nil {
			return err
		}
		nodes, err := setup.CheckNodes(ctx, conn, c.Slot, c.Publication)
		if err != nil {
			return err
		}
		problems = slices.Concat(problems, slot, nodes)
		// As the services' role, whose privileges the pool looks at while it runs.
		fits := []func(context.Context, string) error{setup.Verify}
		if p.own {
			fits = append(fits, messages.Verify)
		}
		for _, verify := range fits {
			var unfit *setup.UnfitError
			if err := verify(ctx, c.DatabaseURL); errors.As(err, &unfit) {
				problems = append(problems, setup.Problem{Text: unfit.Error()})
			} else if err != nil {
				return err
			}
		}
		unbound, err := c.unbound(ctx, p.Program)
		if err != nil {
			return err
		}
		problems = append(problems, unbound...)
		readOnly, err := c.readOnly(ctx)
		if err != nil {
			return err
		}
		problems = append(problems, readOnly...)
		if c.Leftovers {
			found, err := setup.CheckLeftovers(ctx, conn, p.Program, c.Publication)
			if err != nil {
				return err
			}
			problems = append(problems, found...)
		}
		problems = append(problems, c.replicas(ctx)...)
		hosts, err := setup.CheckHosts(ctx, cmp.Or(c.CaptureURL, c.DatabaseURL))
		if err != nil {
			return err
		}
		problems = append(problems, hosts...)
		problems = append(problems, c.examine(ctx)...)
		return report(to.out, problems, "The database is as the contract needs it.")
	})
}

// printGrants prints what the roles lack, as an SQL script.
func (c *doctorCmd) printGrants(ctx context.Context, conn *setup.Conn, p *contract.Program, w io.Writer) error {
	grants, notes, err := setup.GrantsFor(ctx, conn, p, c.Publication, setup.Roles{
		Owner: c.OwnerRole, Capture: c.CaptureRole, App: c.AppRole, Callers: c.CallerRole, Replicas: len(c.ReplicaURL) > 0,
	})
	if err != nil {
		return err
	}
	for _, url := range c.ReplicaURL {
		config, err := setup.ParseConfig(url)
		if err != nil {
			return fmt.Errorf("--replica-url: %w", noReplicaURL(err))
		}
		if config.User != c.AppRole {
			notes = append(notes, fmt.Sprintf("the URL of the replica %s is the role %s's: it is to be that of the services, %s", at(config), config.User, c.AppRole))
		}
	}
	for _, g := range grants {
		fmt.Fprintf(w, "-- to be run by %s:\n", oneLine.Replace(g.By))
		for _, sql := range g.SQL {
			fmt.Fprintln(w, sql)
		}
	}
	for _, note := range notes {
		fmt.Fprintln(w, "-- note:", oneLine.Replace(note))
	}
	if len(grants) == 0 {
		fmt.Fprintln(w, "-- The roles lack nothing.")
	}
	return nil
}

// unbound returns what the services' role goes past, of policies. (What they mean for
// shared reads setup.Check has said.)
func (c *doctorCmd) unbound(ctx context.Context, p *contract.Program) ([]setup.Problem, error) {
	config, err := setup.ParseConfig(c.DatabaseURL)
	if err != nil {
		return nil, err
	}
	found, err := setup.CheckPolicies(ctx, config, p)
	return slices.DeleteFunc(found, func(p setup.Problem) bool { return !p.Warning }), err
}

// readOnly returns what refuses the writes of the services, and of capture.
func (c *doctorCmd) readOnly(ctx context.Context) (problems []setup.Problem, err error) {
	for _, url := range slices.Compact([]string{c.DatabaseURL, cmp.Or(c.CaptureURL, c.DatabaseURL)}) {
		config, err := setup.ParseConfig(url)
		if err != nil {
			return nil, err
		}
		found, err := setup.CheckWritable(ctx, config)
		if err != nil {
			return nil, err
		}
		problems = append(problems, found...)
	}
	return problems, nil
}

// oneLine keeps what is in a comment in it, whatever somebody has put into a name.
var oneLine = strings.NewReplacer("\n\t", " ", "\n", " ", "\r", " ")

// report prints problems, in the form of an SQL script with comments, or fine.
func report(w io.Writer, problems []setup.Problem, fine string) error {
	fatal := 0
	for _, p := range problems {
		kind := "warning"
		if !p.Warning {
			kind = "problem"
			fatal++
		}
		fmt.Fprintf(w, "-- %s: %s\n", kind, oneLine.Replace(p.Text))
		comment := ""
		if p.By != "" && len(p.SQL) > 0 {
			// The rest can be piped into psql as it is.
			fmt.Fprintf(w, "-- to be run by %s:\n", oneLine.Replace(p.By))
			comment = "--   "
		}
		for _, sql := range p.SQL {
			if comment != "" {
				sql = oneLine.Replace(sql)
			}
			fmt.Fprintln(w, comment+sql)
		}
	}
	if fatal > 0 {
		return errFindings
	}
	fmt.Fprintln(w, "--", fine)
	return nil
}
