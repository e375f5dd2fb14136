package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/freshet-dev/freshet/internal/conformance"
)

type conformanceCmd struct {
	Server conformanceServerCmd `cmd:"" help:"Judge a server: the protocol's promises, case by case."`
	Client conformanceClientCmd `cmd:"" help:"Judge a client, in any language: it says in lines of JSON what it shows."`
}

type conformanceServerCmd struct {
	URL       string        `name:"url" placeholder:"URL" env:"FRESHET_URL" help:"Address of the server. Unset: http://127.0.0.1:8080."`
	Service   string        `placeholder:"FILE" help:"How its service is driven, in JSON (docs/conformance.md). Unset: the message service."`
	TokenFile string        `name:"token-file" placeholder:"FILE" env:"FRESHET_TOKEN_FILE" help:"File with a bearer token that may read, write and follow what the cases make up."`
	Patience  time.Duration `default:"10s" help:"How long to wait for what has to come, beside two heartbeats."`
	caseFlags
}

type conformanceClientCmd struct {
	Command    []string      `arg:"" optional:"" passthrough:"" help:"What starts the client's adapter (docs/conformance.md): python3 examples/python/conformance.py."`
	AdapterURL string        `name:"adapter-url" placeholder:"URL" help:"Address of an adapter that runs already, in the place of a command."`
	Patience   time.Duration `default:"10s" help:"How long to wait for what has to come."`
	caseFlags
}

// Help is printed by `freshet conformance client --help`.
func (*conformanceClientCmd) Help() string {
	return `Plays a server of the message service, on loopback, and starts the command once for each case. The exit code is 1 if a case fails. Flags come before the command.`
}

// Run judges the client.
func (c *conformanceClientCmd) Run(ctx context.Context, to streams) error {
	if c.List {
		return list(to, conformance.ClientCases())
	}
	report, err := conformance.Client(ctx, conformance.ClientConfig{Command: c.Command, URL: c.AdapterURL, Patience: c.Patience, Only: c.Only, Skip: c.Skip})
	if err != nil {
		return err
	}
	return tell(to, report)
}

// caseFlags choose cases.
type caseFlags struct {
	Only []string `placeholder:"NAME" help:"Judge these cases alone; a name may have a *."`
	Skip []string `placeholder:"NAME" help:"Leave these cases out: those of docs/conformance.md that are about what the server does without. A name may have a *."`
	List bool     `help:"List the cases, with the sentences of docs/protocol.md that they come from, and judge nothing."`
}

// Help is printed by `freshet conformance server --help`.
func (*conformanceServerCmd) Help() string {
	return `Writes to places of its own making in the service, and leaves what it wrote. The exit code is 1 if a case fails. Try it beside "freshet serve --heartbeat 1s": some cases wait for heartbeats.`
}

// Run judges the server.
func (c *conformanceServerCmd) Run(ctx context.Context, to streams) error {
	if c.List {
		return list(to, conformance.ServerCases())
	}
	cfg := conformance.ServerConfig{
		URL: cmp.Or(c.URL, "http://127.0.0.1:8080"), Service: conformance.Messages(), Patience: c.Patience,
		Only: c.Only, Skip: c.Skip,
	}
	if c.Service != "" {
		text, err := os.ReadFile(c.Service)
		if err != nil {
			return fmt.Errorf("--service: %w", err)
		}
		if cfg.Service, err = conformance.ParseService(text); err != nil {
			return fmt.Errorf("--service %s: %w", c.Service, err)
		}
	}
	if c.TokenFile != "" {
		token, err := readToken(c.TokenFile)
		if err != nil {
			return err
		}
		cfg.Header = http.Header{"Authorization": {"Bearer " + token}}
	}
	report, err := conformance.Server(ctx, cfg)
	if err != nil {
		return err
	}
	return tell(to, report)
}

func list(to streams, cases []conformance.Case) error {
	for _, c := range cases {
		fmt.Fprintf(to.out, "%s\n    %s: %s\n", c.Name, cmp.Or(c.Section, "the beginning"), c.Says)
	}
	fmt.Fprintln(to.out, count(len(cases), "case"))
	return nil
}

// tell writes the report; an error makes the exit code.
func tell(to streams, report *conformance.Report) error {
	if err := report.WriteText(to.out); err != nil {
		return err
	}
	if len(report.Failed()) > 0 {
		return errFindings
	}
	return nil
}
