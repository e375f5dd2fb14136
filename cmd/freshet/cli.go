package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/alecthomas/kong"

	"github.com/freshet-dev/freshet/internal/seldom"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// cli is the command line. Every flag has a twin in the environment, FRESHET_
// and its name, and those of serve one in the file of --config.
type cli struct {
	Serve    serveCmd    `cmd:"" help:"Serve RPCs, the stream and the page; without a database URL, on a private Postgres."`
	Cluster  clusterCmd  `cmd:"" help:"Serve by several nodes behind a balancer, on a private Postgres with a standby: on this machine, to try it."`
	Init     initCmd     `cmd:"" help:"Begin a service: proto, table, handlers, test and page, to go on from."`
	Adopt    adoptCmd    `cmd:"" help:"Propose a contract for a service that has none, by its protos and its database."`
	Watch    watchCmd    `cmd:"" help:"Follow topics in the terminal."`
	Check    checkCmd    `cmd:"" help:"Check a server, a running one or its own: simulated clients, writers, faults, and the rules G1 to G6."`
	Doctor   doctorCmd   `cmd:"" help:"Check a database against the contract, and print what to run."`
	Lint     lintCmd     `cmd:"" help:"Check a contract: the options in your proto files."`
	Explain  explainCmd  `cmd:"" help:"Say of a request which topics it has, which tables tell them, and who may."`
	Grants   grantsCmd   `cmd:"" help:"Look at a grants file: what a caller may."`
	Config   configCmd   `cmd:"" help:"Look at what serve would be configured by: flags, environment and file."`
	Migrate  migrateCmd  `cmd:"" help:"Prepare a database: schema, publication, replica identities."`
	Teardown teardownCmd `cmd:"" help:"Remove slot and publication from a database, so that nothing holds WAL back."`

	Conformance conformanceCmd `cmd:"" help:"Judge another server by the protocol, case by case."`

	Completion completionCmd `cmd:"" help:"Print a script that completes commands and flags in a shell."`
	Complete   completeCmd   `cmd:"" hidden:"" passthrough:"" help:"Print what can follow words of a command line; the scripts of completion ask."`
	Man        manCmd        `cmd:"" help:"Write the manual pages."`
	About      versionCmd    `cmd:"" name:"version" help:"Print the version, what it was built from, and for which system."`

	ConfigFile string `name:"config" placeholder:"FILE" type:"path" help:"File with settings of serve, YAML: names as the flags, without dashes in front. Flags and environment come first."`

	LogLevel  slog.Level       `default:"info" help:"Least level that is logged: debug, info, warn, error."`
	LogFormat string           `default:"text" enum:"text,json" help:"Form of the log on standard error: text or json."`
	Version   kong.VersionFlag `help:"Print the version." env:"-"`

	settings *settings // of ConfigFile; nil: there is none
}

// streams are the command's outputs. Results go to out, the log and errors to err.
type streams struct{ out, err io.Writer }

// run parses args, runs the command and returns the exit code: 0, 1 when it
// failed or found something, 2 when it was called wrongly, or has settings that can't be:
// what starts it (deploy/systemd) need not try those again.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	exited := -1 // by --help and --version
	parser, err := newParser(&c, stdout, stderr, func(code int) { exited = code })
	if err != nil {
		fmt.Fprintln(stderr, "freshet:", err)
		return exitUsage
	}
	parsed, err := parser.Parse(helped(args))
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "freshet: %v\n", err)
		var usage *kong.ParseError
		if errors.As(err, &usage) && usage.Context != nil && usage.Context.Command() != "" {
			if where := afterDashes(usage); where != "" {
				fmt.Fprintln(stderr, where)
			}
			fmt.Fprintf(stderr, "Run `%s --help` for its flags.\n", usage.Context.Selected().FullPath())
		} else {
			fmt.Fprintln(stderr, "Run `freshet --help` for the commands.")
		}
		return exitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(streams{stdout, stderr}, c.logger(stderr), parsed, c.settings)
	if err := parsed.Run(); err != nil {
		if !errors.Is(err, errFindings) { // they are printed already
			fmt.Fprintln(stderr, "freshet:", c.settings.whence(parsed, err))
		}
		if misset(err) {
			return exitUsage
		}
		return exitFailed
	}
	return exitOK
}

// helped is args as kong knows them: `freshet help serve` asks for the help of
// serve, as with go and git, and `freshet help` for that of all.
func helped(args []string) []string {
	if len(args) == 0 || args[0] != "help" {
		return args
	}
	return append(slices.Clone(args[1:]), "--help")
}

// errFindings makes the exit code of a command that has printed what is wrong.
var errFindings = errors.New("something is to be mended")

func newParser(c *cli, stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("freshet"),
		kong.Description("Typed RPCs on Postgres, and a stream that says what changed."),
		kong.DefaultEnvars("FRESHET"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Vars{"version": version()},
		serveDefaults(),
		kong.Writers(stdout, stderr),
		kong.Exit(exit))
}

func (c *cli) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return seldom.Logger(slog.New(slog.NewJSONHandler(w, options)))
	}
	return seldom.Logger(slog.New(newScripts(w, options)))
}
